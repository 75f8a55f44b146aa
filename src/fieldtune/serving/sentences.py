"""A text cut into sentences, with where each stands."""

from __future__ import annotations

from collections.abc import Sequence

import regex

from fieldtune.lexical import STOP_WORDS, tokenize

# An end: 。！？ anywhere; . ! ? before a space or the end, not after a single letter or a usual abbreviation, and with
# the citations and closing quotation marks that belong to the sentence.
_END = regex.compile(
    r"(?:[。！？；]+|(?<!\b\p{L})(?<!\b(?:No|Nos|Art|Sec|Dr|Mr|Mrs|Ms|vs|cf|al|St|Inc|Ltd|Co|approx|Fig|pp|e\.g|i\.e))[.!?]+"
    r"(?=[\s\"'”’»\)\]\[]|$))[\"'”’»」』）\)]*(?:\s*\[\d{1,3}(?:\s*[,;–-]\s*\d{1,3})*\])*|\n+"
)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of each sentence, without the space around it; in order, apart from one another."""
    spans, start = [], 0
    for end in (*(match.end() for match in _END.finditer(text)), len(text)):
        piece = text[start:end]
        kept = piece.strip()
        if kept:
            begin = start + len(piece) - len(piece.lstrip())
            spans.append((begin, begin + len(kept)))
        start = end
    return spans


def content_words(text: str) -> frozenset[str]:
    """What a text is about: its words as BM25 counts them, without those that say nothing."""
    return frozenset(tokenize(text)) - STOP_WORDS


def best_sentence(text: str, marks: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """The sentence with most different marked words, the shortest and then the earliest of equals; None without marks.

    `marks` are (start, end) in order, as `highlight.spans` gives them.
    """
    best: tuple[int, int] | None = None
    most = (0, 0)
    for start, end in sentence_spans(text) if marks else ():
        shared = len({text[left:right].lower() for left, right in marks if start <= left < end})
        if shared and (shared, start - end) > most:
            best, most = (start, end), (shared, start - end)
    return best
