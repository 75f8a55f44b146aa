"""Query words in a passage, marked for the eye; every text is escaped on the way."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import regex

from fieldtune.lexical import STOP_WORDS, tokenize

if TYPE_CHECKING:
    from markupsafe import Markup

_ASCII_WORD = re.compile(r"[A-Za-z0-9]+(?:[.,][A-Za-z0-9]+)*(?:'s\b)?")
_WORD = regex.compile(r"§|[\p{L}\p{M}\p{N}]+(?:[.,][\p{L}\p{N}]+)*(?:['’]s\b)?")
# Scripts without spaces between words: what is alike there is a pair of characters.
_UNSPACED = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}〇々ー]+", regex.VERSION1
)


_LONGEST = 360  # columns of a passage that are shown; a character of an unspaced script takes two
# Pairs of nothing but these say as little as English stop words do.
_FUNCTION = frozenset("的了是在和与及或吗呢么什怎如何有为被将对于其之该这那哪些个吧应当可以能会要不得并且而但若则")


def sought(query: str) -> frozenset[str]:
    """What BM25 would look for in a query, without words that say nothing."""
    return frozenset(token for token in tokenize(query) if not _FUNCTION.issuperset(token)) - STOP_WORDS


def spans(text: str, wanted: frozenset[str]) -> list[tuple[int, int]]:
    """Where the sought words stand in a text: (start, end), in order, apart from one another."""
    if text.isascii():  # the same in a fifth of the time; words do not touch each other
        return [word.span() for word in _ASCII_WORD.finditer(text) if not wanted.isdisjoint(_tokens(word[0]))]
    found: list[tuple[int, int]] = []
    for run in _UNSPACED.finditer(text):
        for start in range(run.start(), max(run.end() - 1, run.start() + 1)):
            end = min(start + 2, run.end())
            if wanted.intersection(tokenize(text[start:end])):
                found.append((start, end))
    found += [word.span() for word in _WORD.finditer(text) if not wanted.isdisjoint(_tokens(word[0]))]
    merged: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


@lru_cache(maxsize=1 << 16)
def _tokens(word: str) -> frozenset[str]:
    """Nothing for a word of an unspaced script, whose pairs are looked at by themselves."""
    return frozenset() if _UNSPACED.search(word) else frozenset(tokenize(word))


def highlighted(text: str, wanted: frozenset[str]) -> Markup:
    """The text as HTML, the sought words in `<mark>`."""
    from markupsafe import Markup, escape

    out, at = Markup(""), 0
    for start, end in spans(text, wanted):
        out += escape(text[at:start]) + Markup("<mark>") + escape(text[start:end]) + Markup("</mark>")
        at = end
    return out + escape(text[at:])


def excerpt(text: str, wanted: frozenset[str], longest: int = _LONGEST) -> str:
    """The part of a passage with most of the sought words, the earliest of equals; whole where it is short enough."""
    text = text.strip()
    room = longest // 2 if len("".join(_UNSPACED.findall(text))) > len(text) / 2 else longest
    if len(text) <= room * 1.2:
        return text
    marks = spans(text, wanted)
    # Some of what stands before the first mark is needed to read it.
    starts = [0, *(min(max(0, start - room // 6), len(text) - room) for start, _ in marks)]
    start = max(starts, key=lambda at: (sum(e - b for b, e in marks if at <= b and e <= at + room), -at))
    end = min(len(text), start + room)
    if start and " " in text[start : start + 25]:
        start = text.index(" ", start) + 1
    if end < len(text) and " " in text[end - 25 : end]:
        end = text.rindex(" ", start, end)
    return ("… " if start else "") + text[start:end].strip() + (" …" if end < len(text) else "")


def script(text: str) -> str:
    """What a browser and a screen reader should take the text for: "zh", "ja", "ko", or "" for the page's language."""
    letters = max(1, len(regex.findall(r"\p{L}", text)))
    shares = {"ja": r"[\p{Hiragana}\p{Katakana}]", "ko": r"\p{Hangul}", "zh": r"\p{Han}"}
    return next((code for code, signs in shares.items() if len(regex.findall(signs, text)) >= 0.2 * letters), "")
