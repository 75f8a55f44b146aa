"""A passage's language, its sentences, and what its title says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import regex

from fieldtune.corpus.atoms import sentence_spans

Language = Literal["zh", "en", "other"]

_HAN = regex.compile(r"\p{Han}")
_KANA = regex.compile(r"[\p{Hiragana}\p{Katakana}\p{Hangul}]")
_LETTER = regex.compile(r"\p{L}")
_LATIN = regex.compile(r"\p{Latin}")
_MARKER = re.compile(
    r"^\s*(?:[-•·*▪●○◦–]|[(（][\da-zA-Z一二三四五六七八九十]{1,4}[)）]|\d{1,3}[.、)](?!\d)|[一二三四五六七八九十]{1,3}、|[①-⑳])+\s*"
)
_NUMERAL = "[一二三四五六七八九十百千零〇○两\\d]+"
_ARTICLE = re.compile(rf"第{_NUMERAL}(?:条|編|编|章|节|款)(?:之{_NUMERAL})?")
_LATIN_NUMBER = re.compile(
    r"(?:(?:section|sec\.|article|art\.|rule|clause|part|chapter|title|item|note|schedule|annex|appendix|exhibit)\s+"
    r"(?:\d+[a-z]?|[ivxlc]+\b|[a-z]\b)|§+\s*\d+|\d+(?:\.\d+)*[.)]?(?=\s|$))(?:\.\d+)*(?:\([a-z\d]+\))*\s*[.:—–-]?\s*",
    re.I,
)
# What numbers a passage within its document at the end of a title: a page, or a clause such as 9.10.5 or 4.6.(1).
_PLACE = re.compile(
    r"[\s,]+((?:page|p\.|pp\.)\s*\d+|(?:(?:part|chapter|app|appendix)\.?\s*)?[A-Z]{0,4}\d+\)?\.[\w.()]+|\d+[.)])$", re.I
)
_OWN_HAN = re.compile("本(?:法|条例|办法|规定|规则|细则|解释|章程|公约)(?!第|律|定|人|院)")
_OWN_LATIN = re.compile(r"\b(?:this|these) (?:Act|Law|Code|Regulations?|Rules?|Rulebook|Directive|Ordinance|Statute)\b")
_ABOVE = re.compile(r"\s*[（(]([^（(]{2,})[)）]$")


@dataclass(frozen=True, slots=True)
class Sentence:
    """`passage.text[start:end]` without a list marker in front."""

    text: str
    start: int
    end: int
    is_item: bool = False
    """Of a list: its subject may stand elsewhere."""


@dataclass(frozen=True, slots=True)
class Title:
    """A passage's title, taken apart."""

    document: str
    """The law, filing or topic; empty without a title."""
    caption: str
    """The last heading without its number; empty where there is none."""
    number: str
    """As cited, with what it counts: "第五十条", "Section 12", "Note 4"; empty where there is none."""


def language_of(text: str) -> Language:
    """By the script of its first thousand characters: Chinese without kana, Latin letters, or neither."""
    if text.isascii():
        return "en" if any(map(str.isalpha, text)) else "other"
    return _script(text[:1_000])


@lru_cache(maxsize=1 << 12)
def _script(text: str) -> Language:
    letters = len(_LETTER.findall(text)) or 1
    if len(_KANA.findall(text)) > 0.05 * letters:
        return "other"
    if len(_HAN.findall(text)) > 0.3 * letters:
        return "zh"
    return "en" if len(_LATIN.findall(text)) > 0.7 * letters else "other"


def sentences(text: str) -> Iterator[Sentence]:
    """The sentences outside of tables; a line break ends one unless the line was broken to fit a page."""
    position = 0
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        start = position
        position += len(lines[number]) + 1
        while number + 1 < len(lines) and _goes_on(lines[number], lines[number + 1]):
            number += 1
            position += len(lines[number]) + 1
        number += 1
        line = text[start : position - 1]
        if line.strip() and not line.lstrip().startswith("|"):
            for begin, end in sentence_spans(text, start, position - 1):
                marker = _MARKER.match(text[begin:end])
                first = begin + (marker.end() if marker else 0)
                if first < end:
                    yield Sentence(text[first:end], first, end, marker is not None)


def _goes_on(line: str, following: str) -> bool:
    """Whether a printed line ends in the middle of a sentence: it is long, and the next one starts small."""
    return len(line) >= 60 and line[-1:] not in ".?!:;。！？：；|" and following[:1].islower()


def naming(text: str, title: Title, language: Language) -> str:
    """The text with "this Act" and 本法 replaced by the document's name, which whoever asks has to give."""
    if not title.document:
        return text
    if language == "zh":
        return _OWN_HAN.sub(title.document.removeprefix("中华人民共和国"), text)
    return _OWN_LATIN.sub(title.document, text)


def lower_first(text: str) -> str:
    """As inside a sentence: the first letter small, unless the word is an abbreviation or a name that shows itself."""
    first = text.split(" ", 1)[0]
    if any(char.isupper() or char.isdigit() for char in first[1:]):
        return text
    following = text[len(first) + 1 :].lstrip()
    # Two capitals in a row are a name: "Operating Income" keeps them, "Operating income" does not.
    if following[:1].isupper() and first.lower() not in ("a", "an", "the", "any", "every", "each", "all", "no"):
        return text
    return text[:1].lower() + text[1:]


def read_title(title: str) -> Title:
    """Take apart "Document > Part > Heading", "Law 第五十条（第二章 自然人）" or "Act Section 12 Capital (Part II)"."""
    above = _ABOVE.search(title)
    cited = title[: above.start()] if above and not title.startswith("(") else title
    steps = [step.strip() for step in cited.split(" > ") if step.strip()]
    if not steps:
        return Title("", "", "")
    article = _ARTICLE.search(steps[-1])
    if article:
        before, after = steps[-1][: article.start()].strip(), steps[-1][article.end() :].strip(" 　:：")
        document = before if len(steps) == 1 else steps[0]
        return Title(document, after, article[0])
    place = _PLACE.search(steps[-1]) if len(steps) == 1 else None
    if place and place.start() > 0:
        return Title(steps[0][: place.start()].strip(" ,"), "", place[1].strip(" ."))
    number = _LATIN_NUMBER.search(steps[-1])
    if number and (len(steps) > 1 and number.start() == 0):
        return Title(steps[0], steps[-1][number.end() :].strip(), number[0].strip(" .:—–-"))
    if number and len(steps) == 1 and number.start() > 0 and not number[0][0].isdigit():
        return Title(
            steps[0][: number.start()].strip(" ,"), steps[0][number.end() :].strip(), number[0].strip(" .:—–-")
        )
    return Title(steps[0], steps[-1] if len(steps) > 1 else "", "")
