"""Whether what an LLM wrote stands in the passages that it cites."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import regex

from fieldtune.serving.prompting import says
from fieldtune.serving.sentences import content_words, sentence_spans
from fieldtune.types import Passage

CITED = regex.compile(r"[\[【［]\s*(\d{1,3}(?:\s*[,;，；、–-]\s*\d{1,3})*)\s*[\]】］]")
"""[1], [1, 3], [2-4], 【1】: the numbers are its first group."""
_QUOTED = regex.compile(
    r'"([^"\n]{2,})"|“([^”\n]{2,})”|„([^“”\n]{2,})[“”]|«([^»\n]{2,})»|「([^」\n]{2,})」|『([^』\n]{2,})』'
    r"|‘((?:[^’\n]|’(?=\p{L})){2,})’|(?<![\p{L}\p{N}])'((?:[^'\n]|'(?=\p{L})){2,})'(?!\p{L})"
)
_NUMBER = regex.compile(r"\d+(?:[.,]\d+)*")
_GAP = regex.compile(r"\s*(?:\[?…\]?|\[?\.{3}\]?|\[[^\]]*\])\s*")
_EDGE = " \t\n.,;:!?。，；：！？"
_HAN = regex.compile(r"\p{Han}")
_LATIN = regex.compile(r"\p{Latin}")
_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_TENS = {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
_HAN_DIGITS = {mark: number for number, mark in enumerate("零一二三四五六七八九十")} | {"两": 2, "〇": 0}
_WORD = regex.compile(r"\p{Han}{2}|[\p{L}\p{N}]+")
_OPENING = 8
"""Words of a line such as "The conditions are these:"; a longer one makes a claim of its own."""
_MOST_CITED = 20


@dataclass(frozen=True, slots=True)
class Checked:
    """A sentence of an answer: where it stands, what it cites, and why it is not supported ("" where it is)."""

    start: int
    end: int
    citations: tuple[int, ...]
    reason: str


def check_answer(answer: str, passages: Sequence[Passage], question: str = "") -> list[Checked]:
    """Each sentence of an answer whose [n] names the n-th passage.

    A sentence is supported when it cites, every number it cites exists, what it quotes stands word for word in a cited
    passage, so does each of its numbers (those of the question apart), and it shares a word with what it cites, where
    both are written in one script. That it follows from the passage is not proven by this. Reasons are in the
    question's language.
    """
    return [
        Checked(start, end, cited, _reason(answer[start:end], cited, passages, question))
        for start, end in sentence_spans(answer)
        for cited in (citations(answer[start:end]),)
        if cited or _claims(answer[start:end])
    ]


def citations(text: str) -> tuple[int, ...]:
    """The numbers cited in a text, in order, each once; [1, 3] and [2-4] count each."""
    found: list[int] = []
    for match in CITED.finditer(text):
        for part in regex.split(r"\s*[,;，；、]\s*", match[1]):
            ends = [int(number) for number in regex.split(r"\s*[–-]\s*", part)]
            last = min(ends[-1], ends[0] + _MOST_CITED)
            found += range(ends[0], last + 1) if last >= ends[0] else ends
    return tuple(dict.fromkeys(found))


def _claims(sentence: str) -> bool:
    """Whether it says anything: a few words that open a list do not, nor does a rule or a heading's marks."""
    opens = sentence.endswith((":", "：")) and len(_WORD.findall(sentence)) <= _OPENING
    return bool(regex.search(r"\p{L}", sentence)) and not opens


def _reason(sentence: str, cited: Sequence[int], passages: Sequence[Passage], question: str) -> str:
    if not cited:
        return says("cites none", question)
    missing = [number for number in cited if not 1 <= number <= len(passages)]
    if missing:
        return says("cites unknown", question).format(number=missing[0])
    shown = ", ".join(f"[{number}]" for number in cited)
    texts = [f"{passages[number - 1].title}\n{passages[number - 1].text}" for number in cited]
    said = CITED.sub(" ", sentence)
    plain = [_plain(text) for text in texts]
    for quote in _quotes(said):
        if not any(_holds(text, quote) for text in plain):
            return says("quotes", question).format(cited=shown)
    there = frozenset().union(*map(_numbers, texts), *(_spelled(text) for text in texts))
    invented = sorted(_numbers(said) - there - _numbers(question))
    if invented:
        return says("invents", question).format(number=invented[0], cited=shown)
    words, known = content_words(said), frozenset().union(*map(content_words, texts))
    if words and not words & known and _one_script(said, " ".join(texts)):
        return says("shares none", question).format(cited=shown)
    return ""


def _quotes(text: str) -> list[str]:
    return [next(part for part in match.groups() if part) for match in _QUOTED.finditer(text)]


def _holds(text: str, quote: str) -> bool:
    """Whether the quotation's parts, between marks of what was left out, stand in the text in this order."""
    at = 0
    for part in _GAP.split(quote):
        wanted = _plain(part).strip(_EDGE)
        place = text.find(wanted, at)
        if place < 0:
            return False
        at = place + len(wanted)
    return True


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    for marks, one in (("‘’‛`´", "'"), ("“”„«»", '"'), ("‐‑‒–—", "-")):
        folded = folded.translate({ord(mark): one for mark in marks})
    return " ".join(folded.split())


def _numbers(text: str) -> frozenset[str]:
    return frozenset(
        number[0].replace(",", "").rstrip(".") for number in _NUMBER.finditer(unicodedata.normalize("NFKC", text))
    )


def _spelled(text: str) -> set[str]:
    """Numbers that the text writes as words, as far as people put figures in their place."""
    words = set(regex.findall(r"\p{L}+", text.casefold()))
    found = {str(number) for number, word in enumerate(_WORDS) if word in words}
    found |= {str(number) for word, number in _TENS.items() if word in words}
    for run in regex.findall(r"[〇零一二三四五六七八九十两百]+", text):
        found.add(str(_han_number(run)))
    return found


def _han_number(run: str) -> int:
    total = part = 0
    for mark in run:
        if mark in "十百":
            total += (part or 1) * (10 if mark == "十" else 100)
            part = 0
        else:
            part = _HAN_DIGITS.get(mark, 0)
    return total + part


def _one_script(one: str, other: str) -> bool:
    return any(script.search(one) and script.search(other) for script in (_HAN, _LATIN))
