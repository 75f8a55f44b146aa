"""Words of texts and runs of three of them as numbers, many texts at once."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shingles = NDArray[np.uint64]
"""Sorted, without repeats."""

# Scripts written without spaces count by character; a number keeps its separators, so 5,363 is one word.
_HAN = r"\u3005\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_LETTERS = rf"[^\W\d_{_HAN}]+"
_WORD = re.compile(rf"[{_HAN}]|\d+(?:[.,]\d+)*|{_LETTERS}")
_LETTER, _DIGIT, _SINGLE, _POINT = 1, 2, 3, 4
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9))
_BASE = 0xD6E8FEB86659FD93
_BLOCK = 120_000
"""Characters that are looked at together: what is made of them stays in the processor's cache."""


def words(text: str) -> list[str]:
    """Lower-cased words and numbers; a character each for Chinese and Japanese."""
    return _WORD.findall(text.casefold())


def shingle_arrays(texts: Sequence[str]) -> Iterator[Shingles]:
    """The shingles of each text as a sorted array: hashes of all runs of three words, the same in every process.

    Of 8 bytes each, which lets a large corpus keep all of them. A text of fewer than three words has one shingle; a
    text without words has none.
    """
    for begin, end in blocks(texts):
        hashes, counts = shingle_hashes(texts[begin:end])
        for found in np.split(hashes, np.cumsum(counts)[:-1]):
            yield _distinct(found)


def shingles(text: str) -> frozenset[int]:
    """As `shingle_arrays`, of one text, as a set."""
    return frozenset(shingle_hashes([text])[0].tolist())


def jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    """Shared shingles over all shingles; 0 where both are empty, for empty texts say nothing alike."""
    shared = len(a & b)
    union = len(a) + len(b) - shared
    return shared / union if union else 0.0


def blocks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where runs of texts begin and end that are best looked at together."""
    begin = size = 0
    for end, text in enumerate(texts):
        if size and size + len(text) > _BLOCK:
            yield begin, end
            begin, size = end, 0
        size += len(text) + 1
    if begin < len(texts):
        yield begin, len(texts)


def shingle_hashes(texts: Sequence[str]) -> tuple[Shingles, NDArray[np.int64]]:
    """The shingles of the texts one after the other, repeats among them, and how many each text has."""
    hashes, counts = _word_hashes(texts)
    if not len(hashes):
        return hashes, np.zeros(len(texts), np.int64)
    ends = np.cumsum(counts)
    padded = np.concatenate([hashes, np.zeros(2, np.uint64)])
    # The first, second and third word, weighted differently: the order matters.
    first, second, third = padded[:-2] * _MIX[0], padded[1:-1] * _MIX[1], padded[2:] * _MIX[2]
    short = np.flatnonzero((counts == 1) | (counts == 2))
    lacks = ends[short] - 1
    third[lacks] = second[lacks] = 0
    lacks = (ends - 2)[counts == 2]
    third[lacks] = 0
    mixed = first ^ second ^ third
    mixed ^= mixed >> np.uint64(29)
    mixed *= _MIX[0]
    kept = np.ones(len(hashes), np.bool_)
    kept[(ends - 1)[counts > 1]] = False  # runs that would reach into the next text
    kept[(ends - 2)[counts > 2]] = False
    return mixed[kept], np.where(counts > 2, counts - 2, np.minimum(counts, 1))


def _word_hashes(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """A hash of each word that `words` finds in the texts, one after the other, and how many words each text has."""
    folded = [text.casefold() for text in texts]
    joined = "\n" + "\n".join(folded) + "\n"
    codes = np.frombuffer(joined.encode(_UTF32, "surrogatepass"), np.uint32)
    kind = _kinds()[codes]
    points = np.flatnonzero(kind == _POINT)
    joins = (kind[points - 1] == _DIGIT) & (kind[points + 1] == _DIGIT)
    kind[points] = 0
    kind[points[joins]] = _DIGIT
    edge = (kind[1:] != kind[:-1]) | (kind[1:] == _SINGLE)
    starts = np.flatnonzero(edge & (kind[1:] != 0)) + 1
    lasts = np.flatnonzero(edge & (kind[:-1] != 0))
    # The characters of a word as the digits of a number in an odd base, modulo 2^64: all are added up once, and the
    # sum before a word is taken off. The base's inverse brings a word at any place to the same value.
    powers, inverse = _powers(len(codes)) if len(codes) > 2 * _BLOCK else _usual_powers()
    total = np.cumsum(np.multiply(codes, powers[: len(codes)], dtype=np.uint64))
    hashes = (total[lasts] - total[starts - 1]) * inverse[starts]
    hashes += (lasts - starts + 1).astype(np.uint64) * _MIX[1]
    hashes ^= hashes >> np.uint64(32)
    hashes *= _MIX[0]
    ends = np.cumsum(np.fromiter(map(len, folded), np.int64, len(folded)) + 1)
    found = np.searchsorted(starts, ends)
    return hashes, np.diff(found, prepend=0)


_UTF32 = f"utf-32-{sys.byteorder[0]}e"


@cache
def _kinds() -> NDArray[np.uint8]:
    """What each character is, by the patterns that `words` goes by."""
    out = np.zeros(sys.maxunicode + 1, np.uint8)
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    for pattern, kind in ((_LETTERS, _LETTER), (r"\d+", _DIGIT), (rf"[{_HAN}]+", _SINGLE), (r"[.,]", _POINT)):
        for match in re.finditer(pattern, every):
            out[match.start() : match.end()] = kind
    return out


@cache
def _usual_powers() -> tuple[Shingles, Shingles]:
    return _powers(2 * _BLOCK)


def _powers(count: int) -> tuple[Shingles, Shingles]:
    def of(base: int) -> Any:
        out = np.full(count, base, np.uint64)
        out[0] = 1
        return np.cumprod(out)

    return of(_BASE), of(pow(_BASE, -1, 2**64))


def _distinct(found: Shingles) -> Shingles:
    ordered = np.sort(found)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered
