"""Passages nobody would ask about, told by their looks and by how often they are repeated."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import regex

from fieldtune.corpus.shingling import words
from fieldtune.types import Passage

_FEWEST_WORDS = 8
_FEWEST_LETTERS = 0.15
"""Share of letters in a text: a table of figures with its row labels has more."""
_REPEATED_IN = 5
"""Passages that a sentence stands in from which it counts as a phrase of the house."""
_REPEATED_SHARE = 0.7
_LETTER = regex.compile(r"\p{L}")
_INK = re.compile(r"\S")
_ENTRY = re.compile(r"(?:\.{3,}|(?:\. ){3,}|…+|·{3,}|\t+|\s{3,})\s*\d{1,4}\s*$")
_CUT = re.compile(r"(?<=[.!?;。！？；])\s*|\n+")


def boilerplate(passages: Mapping[str, Passage]) -> dict[str, str]:
    """Passage id -> why it is left out, for those that are."""
    pieces = {key: _pieces(passage.text) for key, passage in passages.items()}
    holders = Counter(piece for found in pieces.values() for piece in set(found))
    reasons = {}
    for key, passage in passages.items():
        reason = _by_looks(passage.text)
        whole = sum(map(len, pieces[key]))
        again = sum(len(piece) for piece in pieces[key] if holders[piece] >= _REPEATED_IN)
        if not reason and whole and again > _REPEATED_SHARE * whole:
            reason = "wording that stands in many passages"
        if reason:
            reasons[key] = reason
    return reasons


def _by_looks(text: str) -> str:
    if len(words(text)) < _FEWEST_WORDS:
        return "hardly any text"
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) >= 4 and sum(bool(_ENTRY.search(line)) for line in lines) > 0.5 * len(lines):
        return "table of contents"
    if len(_LETTER.findall(text)) < _FEWEST_LETTERS * len(_INK.findall(text)):
        return "mostly figures and signs"
    return ""


def _pieces(text: str) -> list[str]:
    """Sentences and lines as they are compared: without case, spacing and figures, which forms fill in."""
    folded = (re.sub(r"[\d\s]+", "", piece).casefold() for piece in _CUT.split(text))
    return [piece for piece in folded if len(piece) >= 8]
