"""Passages that are copies of others, whole or in part: word 3-shingles, found by an inverted index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fieldtune.corpus.shingling import Shingles, shingle_arrays

_LISTED = 16  # of passages with the same words, this many are named
_COPIES = 64
"""Near-duplicates looked at for one passage: enough to get past those that fill the same template."""
_POSTINGS = 50_000  # places of its shingles that are looked up for one passage, the rarest shingles first
_PART = 20
"""Shingles of its own that a passage must have to be found inside another: shorter ones are phrases anyone may use."""
_FEW = 5  # passages that may hold a shingle for it to be their own, and not a form of words


def copies(a: Sequence[str], b: Sequence[str], threshold: float) -> dict[int, list[tuple[float, int]]]:
    """Near-duplicates in `b` of the texts of `a`: position -> (similarity, position), the most alike first.

    Similarity is the share of word 3-shingles that two texts have in common, from the threshold on: of all of both
    (Jaccard), or of the shorter one's, which then stands inside the other. Of texts that repeat, the first are given.
    """
    places: dict[bytes, list[int]] = {}
    sets: list[Shingles] = []
    for position, found in enumerate(shingle_arrays(b)):
        if len(found):
            if found.tobytes() not in places:
                sets.append(found)
            places.setdefault(found.tobytes(), []).append(position)
    if not sets:
        return {}
    index = _Index(sets)
    held = list(places.values())
    known: dict[bytes, list[tuple[float, int]]] = {}
    out = {}
    for position, mine in enumerate(shingle_arrays(a)):
        key = mine.tobytes()
        if key not in known:
            links = index.near(mine, threshold) if len(mine) else []
            links.sort(key=lambda link: (-link[0], held[link[1]][0]))
            known[key] = [(near, place) for near, other in links for place in held[other][:_LISTED]][:_COPIES]
        if known[key]:
            out[position] = known[key]
    return out


class _Index:
    """Shingle -> the sets that hold it."""

    def __init__(self, sets: Sequence[Shingles]) -> None:
        self.sets = sets
        self.sizes = np.array([len(one) for one in sets])
        flat = np.concatenate(sets)
        order = np.argsort(flat, kind="stable")
        self.owners: NDArray[np.int64] = np.repeat(np.arange(len(sets)), self.sizes)[order]
        self.keys, self.starts, self.counts = np.unique(flat[order], return_index=True, return_counts=True)
        held = np.repeat(self.counts, self.counts) <= _FEW
        self.own = np.bincount(self.owners[held], minlength=len(sets))
        """Of each set, the shingles that hardly another holds."""

    def near(self, mine: Shingles, threshold: float) -> list[tuple[float, int]]:
        """(similarity, set) from the threshold on."""
        at = np.minimum(np.searchsorted(self.keys, mine), len(self.keys) - 1)
        at = at[self.keys[at] == mine]
        if len(at) == 0:
            return []
        at = at[np.argsort(self.counts[at], kind="stable")]
        few = int((self.counts[at] <= _FEW).sum())
        parts = self._parts(at[:few], few + len(mine) - len(at), len(mine), threshold)
        # What nearly every text says proposes nothing, unless a text says nothing else.
        looked_up = max(1, int(np.searchsorted(np.cumsum(self.counts[at]), _POSTINGS, side="right")))
        unseen = len(at) - min(looked_up, len(at))
        others, shared = self._holders(at[:looked_up])
        whole = (shared + unseen) * (1 + threshold) >= threshold * (len(mine) + self.sizes[others])
        likely = np.lexsort((others[whole], -shared[whole] / self.sizes[others[whole]]))[: 4 * _COPIES]
        out = []
        for other in dict.fromkeys([*others[whole][likely].tolist(), *parts]):
            common = len(np.intersect1d(mine, self.sets[other], assume_unique=True))
            size = int(self.sizes[other])
            similarity = common / (len(mine) + size - common)
            if other in parts:
                similarity = max(similarity, common / min(len(mine), size))
            if similarity >= threshold:
                out.append((similarity, other))
        return out

    def _parts(self, at: NDArray[np.int64], own: int, size: int, threshold: float) -> frozenset[int]:
        """Sets that stand inside a text of `size` shingles, of which it has `own` to itself or with few others, or that
        it stands inside; `at` are those of these shingles that any set holds.

        Only what is a text's own counts: a paragraph of boilerplate inside a longer text is no copy of anything.
        """
        if len(at) == 0:
            return frozenset()
        others, shared = self._holders(at)
        smaller = np.where(self.sizes[others] < size, self.own[others], own)
        return frozenset(others[(smaller >= _PART) & (shared >= threshold * smaller)].tolist())

    def _holders(self, at: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The sets that hold any of these shingles, and how many of them each holds."""
        found = [
            self.owners[start : start + count] for start, count in zip(self.starts[at], self.counts[at], strict=True)
        ]
        others, shared = np.unique(np.concatenate(found), return_counts=True)
        return others, shared
