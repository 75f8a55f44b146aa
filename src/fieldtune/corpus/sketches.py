"""Small sketches of texts that rule out, without a mistake, most pairs that are no near-duplicates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fieldtune.corpus.shingling import blocks, jaccard, shingle_hashes, shingles

_BITS = 1_024
_ROUNDING = 1e-6
_KEPT = 10_000
"""Texts whose shingles are kept for pairs that must be compared. A text of 200 words takes 20 kB."""

Rows = NDArray[np.int64]


class Sketches:
    """Which texts of a corpus are near-duplicates, asked pair by pair; a text is looked at when it is first asked for.

    A sketch is a bit for each bucket that a shingle of the text falls into. Of two texts A and B with so many shingles,
    the buckets that only one of them has are at most as many as the shingles that only one has, and these are
    (1 - J) / (1 + J) of |A| + |B| for a Jaccard similarity J. More buckets than J = threshold allows: no
    near-duplicates. The few other pairs are compared by their shingles. Takes 132 bytes for each text looked at.
    """

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        self._texts, self._threshold = texts, threshold
        self._share = (1 - threshold) / (1 + threshold)
        self._bits = np.zeros((len(texts), _BITS // 64), np.uint64)
        self._counts = np.full(len(texts), -1, np.int32)
        self._shingles: dict[int, frozenset[int]] = {}

    def near(self, one: Rows, other: Rows) -> NDArray[np.bool_]:
        """For each of the pairs of rows whether their similarity reaches the threshold; that of equal texts does, also
        where they have no words."""
        self._look_at(np.unique(np.concatenate([one, other])))
        differ = np.bitwise_count(self._bits[one] ^ self._bits[other]).sum(axis=1, dtype=np.int64)
        room = self._share * (self._counts[one] + self._counts[other]) + _ROUNDING
        found: NDArray[np.bool_] = np.asarray(differ <= room)
        for place in np.flatnonzero(found).tolist():
            a, b = int(one[place]), int(other[place])
            same = self._texts[a] == self._texts[b]
            found[place] = same or jaccard(self._of(a), self._of(b)) >= self._threshold
        return found

    def _look_at(self, rows: Rows) -> None:
        fresh = rows[self._counts[rows] < 0]
        texts = [self._texts[row] for row in fresh.tolist()]
        for begin, end in blocks(texts):
            hashes, counts = shingle_hashes(texts[begin:end])
            bits = np.zeros((end - begin, _BITS), np.bool_)
            bits[np.repeat(np.arange(end - begin), counts), hashes >> np.uint64(54)] = True
            self._bits[fresh[begin:end]] = np.packbits(bits, axis=1).view(np.uint64)
            self._counts[fresh[begin:end]] = counts

    def _of(self, row: int) -> frozenset[int]:
        if row not in self._shingles:
            if len(self._shingles) >= _KEPT:
                self._shingles.clear()
            self._shingles[row] = shingles(self._texts[row])
        return self._shingles[row]


def equal(texts: Sequence[str], one: Rows, other: Rows) -> NDArray[np.bool_]:
    """For each of the pairs of rows whether they are of the very same text."""
    pairs = zip(one.tolist(), other.tolist(), strict=True)
    return np.fromiter((texts[a] == texts[b] for a, b in pairs), np.bool_, len(one))
