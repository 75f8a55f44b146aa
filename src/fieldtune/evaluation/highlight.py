"""Query words in a passage, marked for the eye; every text is escaped on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import regex

from fieldtune.lexical import STOP_WORDS, tokenize

if TYPE_CHECKING:
    from markupsafe import Markup

_WORD = regex.compile(r"§|[\p{L}\p{M}\p{N}]+(?:[.,][\p{L}\p{N}]+)*(?:['’]s\b)?")
# Scripts without spaces between words: what is alike there is a pair of characters.
_UNSPACED = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}〇々ー]+", regex.VERSION1
)


def sought(query: str) -> frozenset[str]:
    """What BM25 would look for in a query, without words that say nothing."""
    return frozenset(tokenize(query)) - STOP_WORDS


def spans(text: str, wanted: frozenset[str]) -> list[tuple[int, int]]:
    """Where the sought words stand in a text: (start, end), in order, apart from one another."""
    found: list[tuple[int, int]] = []
    for run in _UNSPACED.finditer(text):
        for start in range(run.start(), max(run.end() - 1, run.start() + 1)):
            end = min(start + 2, run.end())
            if wanted.intersection(tokenize(text[start:end])):
                found.append((start, end))
    for word in _WORD.finditer(text):
        if not _UNSPACED.search(word[0]) and wanted.intersection(tokenize(word[0])):
            found.append(word.span())
    merged: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def highlighted(text: str, wanted: frozenset[str]) -> Markup:
    """The text as HTML, the sought words in `<mark>`."""
    from markupsafe import Markup, escape

    out, at = Markup(""), 0
    for start, end in spans(text, wanted):
        out += escape(text[at:start]) + Markup("<mark>") + escape(text[start:end]) + Markup("</mark>")
        at = end
    return out + escape(text[at:])
