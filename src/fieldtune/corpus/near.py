"""Near-duplicate texts: word 3-shingles, MinHash with banding to find candidates, exact Jaccard to decide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fieldtune.corpus.shingling import Shingles, shingle_arrays

_PERMUTATIONS = 128
_MISS = 0.001  # chance that a pair exactly at the threshold shares no band
_CROWD = 400  # a fuller band bucket is compared in a sliding window over its members sorted by size
_WINDOW = 64


def near_duplicate_pairs(sets: Sequence[Shingles], threshold: float, seed: int) -> Iterator[tuple[int, int, float]]:
    """Yield (i, j, similarity), i < j and in order, for the pairs whose Jaccard similarity reaches the threshold.

    Candidates come from MinHash bands (Broder 1997; Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets",
    ch. 3), chosen so that a pair exactly at the threshold is missed once in a thousand times; each candidate is then
    verified exactly, so nothing below the threshold is yielded. `sets` is gone through once and 256 bytes kept of each;
    then the candidates alone are asked for, which may be made anew.
    """
    sizes = np.zeros(len(sets), np.int64)
    signatures = _signatures(sets, sizes, seed)
    filled = np.flatnonzero(sizes)
    if len(filled) < 2:
        return
    if len(filled) < len(sets):
        signatures = signatures[filled]
    for a, b in _candidates(signatures, sizes[filled], threshold).tolist():
        first, second = int(filled[a]), int(filled[b])
        smaller, larger = sorted((int(sizes[first]), int(sizes[second])))
        if smaller < threshold * larger:
            continue
        shared = len(np.intersect1d(sets[first], sets[second], assume_unique=True))
        similarity = shared / (smaller + larger - shared)
        if similarity >= threshold:
            yield first, second, similarity


def near_duplicate_groups(texts: Sequence[str], threshold: float, seed: int) -> list[list[int]]:
    """Connected groups of two or more texts, each near some other in its group; texts without words are left out.

    Members and groups are in order of position. Groups are closed under chains, which is what keeps two sides of a
    split apart; where one of a group is to be dropped, decide pair by pair instead.
    """
    sets: list[Shingles] = []
    same: dict[bytes, int] = {}
    root = list(range(len(texts)))
    for index, found in enumerate(shingle_arrays(texts)):
        # Identical texts are joined here, once, rather than as the square of their number in pairs.
        first = same.setdefault(found.tobytes(), index) if len(found) else index
        root[index] = first
        sets.append(found if first == index else found[:0])

    def find(index: int) -> int:
        while root[index] != index:
            root[index] = root[root[index]]
            index = root[index]
        return index

    for a, b, _ in near_duplicate_pairs(sets, threshold, seed):
        one, other = sorted((find(a), find(b)))
        root[other] = one
    groups: dict[int, list[int]] = {}
    for index in range(len(texts)):
        groups.setdefault(find(index), []).append(index)
    return [members for members in groups.values() if len(members) > 1]


def _signatures(sets: Sequence[Shingles], sizes: NDArray[np.int64], seed: int) -> NDArray[np.uint16]:
    """MinHash by multiply-shift hashing (Dietzfelbinger et al. 1997), (n, 128); fills in how large each set is.

    16 bits of each: by chance two differing ones agree once in 65,536 times, and bands have several of them. They come
    from the middle, for of the smallest of many numbers the highest bits are mostly zeros.
    """
    random = np.random.default_rng(seed)
    factor = random.integers(0, 2**64, _PERMUTATIONS, np.uint64) | np.uint64(1)
    offset = random.integers(0, 2**64, _PERMUTATIONS, np.uint64)
    out = np.zeros((len(sets), _PERMUTATIONS), np.uint16)
    for row, found in enumerate(sets):
        sizes[row] = len(found)
        if not len(found):
            continue
        smallest = np.full(_PERMUTATIONS, 2**64 - 1, np.uint64)
        for begin in range(0, len(found), 4_096):  # a text of any length in a few MB
            hashed = found[begin : begin + 4_096, None] * factor + offset
            np.minimum(smallest, hashed.min(axis=0), out=smallest)
        out[row] = (smallest >> np.uint64(16)) & np.uint64(0xFFFF)
    return out


def _band_rows(threshold: float) -> int:
    """The most rows per band (fewest false candidates) that keep the chance of a miss at the threshold small."""
    rows = range(_PERMUTATIONS // 4, 0, -1)
    fits = (r for r in rows if (1 - threshold**r) ** (_PERMUTATIONS // r) <= _MISS)
    return next(fits, 1)


def _candidates(signatures: NDArray[np.uint16], sizes: NDArray[np.int64], threshold: float) -> NDArray[np.int64]:
    """Pairs (m, 2) of rows that share a band and whose signatures do not already speak against them."""
    rows = _band_rows(threshold)
    # 128 draws: four standard errors below the threshold no true pair is lost in practice.
    floor = threshold - 4 * np.sqrt(threshold * (1 - threshold) / _PERMUTATIONS)
    count = np.int64(len(signatures))
    found: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for begin in range(0, _PERMUTATIONS - rows + 1, rows):
        band = np.ascontiguousarray(signatures[:, begin : begin + rows])
        for members in _buckets(band.view(np.dtype((np.void, 2 * rows))).ravel()):
            for first, second in _within(members, sizes):
                low, high = np.minimum(first, second), np.maximum(first, second)
                agree = np.count_nonzero(signatures[low] == signatures[high], axis=1)
                found.append((low * count + high)[agree >= floor * _PERMUTATIONS])
    codes = np.unique(np.concatenate(found))
    return np.stack([codes // count, codes % count], axis=1)


def _buckets(keys: NDArray[np.void]) -> Iterable[NDArray[np.int64]]:
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    order = np.argsort(inverse, kind="stable")
    ends = np.cumsum(counts)
    for bucket in np.flatnonzero(counts > 1):
        yield order[ends[bucket] - counts[bucket] : ends[bucket]]


def _within(
    members: NDArray[np.int64], sizes: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All pairs of a bucket, in blocks; of a very full one those near each other in size."""
    if len(members) > _CROWD:
        members = members[np.argsort(sizes[members], kind="stable")]
    reach = len(members) - 1 if len(members) <= _CROWD else _WINDOW
    if len(members) <= 64:
        first, second = np.triu_indices(len(members), 1)
        yield members[first], members[second]
        return
    for step in range(1, reach + 1):
        yield members[:-step], members[step:]
