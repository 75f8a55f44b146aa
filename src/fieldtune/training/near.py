"""Near-duplicates of positives among all passages that can meet in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fieldtune.corpus.near import near_duplicate_pairs
from fieldtune.corpus.shingling import Shingles, shingle_arrays
from fieldtune.training.pairs import Pairs


def with_near(pairs: Pairs, texts: Sequence[str], threshold: float, seed: int) -> tuple[Pairs, int]:
    """The pairs with `alike` filled in, and how many queries have a passage there that was not known to them.

    `texts` are those of `pairs.passages`. A passage is alike from a Jaccard similarity of word 3-shingles of
    `threshold` on. At 1 only equal texts are, which are one passage here. Mining compares a query's own candidates
    alone, as many as it needs; against the passages of the other queries in a batch only this helps. Takes about a
    second for each 10,000 passages of 150 words.
    """
    if threshold >= 1:
        return pairs, 0
    rows = np.unique(np.concatenate([pairs.positive, *pairs.negatives, *(_rows(found) for found in pairs.scores)]))
    near = _families(rows, [texts[row] for row in rows.tolist()], threshold, seed)
    alike: list[tuple[NDArray[np.int64], ...]] = [() for _ in pairs.queries]
    for query, positive in zip(pairs.query.tolist(), pairs.positive.tolist(), strict=True):
        if positive in near:
            alike[query] = (*alike[query], near[positive])
    new = 0
    for query, parts in enumerate(alike):
        told = pairs.known[query].union(pairs.negatives[query].tolist()) if parts else frozenset()
        new += any(row not in told for part in parts for row in part.tolist())
    return replace(pairs, alike=alike), new


def _families(
    rows: NDArray[np.int64], texts: Sequence[str], threshold: float, seed: int
) -> dict[int, NDArray[np.int64]]:
    """Each of the rows that is not alone -> all that are near it, itself among them."""
    sets: list[Shingles] = []
    first: dict[bytes, int] = {}
    same: list[list[int]] = []
    leader: list[int] = []
    for place, found in enumerate(shingle_arrays(texts)):
        # Texts that differ in case and points alone are one here, rather than as many pairs as their number squared.
        head = first.setdefault(found.tobytes(), place) if len(found) else place
        sets.append(found if head == place else found[:0])
        same.append([])
        same[head].append(place)
        leader.append(head)
    near: dict[int, list[int]] = {}
    for one, other, _ in near_duplicate_pairs(sets, threshold, seed):
        near.setdefault(one, [one]).append(other)
        near.setdefault(other, [other]).append(one)
    whole: dict[int, NDArray[np.int64]] = {}
    for head, members in enumerate(same):
        places = [place for one in near.get(head, [head]) for place in same[one]] if members else []
        if len(places) > 1:
            whole[head] = rows[sorted(places)]
    return {row: whole[head] for row, head in zip(rows.tolist(), leader, strict=True) if head in whole}


def _rows(scores: dict[int, float]) -> NDArray[np.int64]:
    return np.fromiter(scores, np.int64, len(scores))
