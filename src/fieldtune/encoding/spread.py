"""How far apart the similarities of unrelated texts lie: what a model's own temperature can be told from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_DRAWN = 20_000
_BLOCK = 2_000


def unrelated_spread(queries: NDArray[np.float32], passages: NDArray[np.float32], seed: int) -> float:
    """Standard deviation of the inner products of random pairs of queries (n, dim) and passages (m, dim).

    20,000 pairs are drawn, of which hardly any is related; both sides may be memory-mapped.
    """
    rng = np.random.default_rng(seed)
    left, right = rng.integers(len(queries), size=_DRAWN), rng.integers(len(passages), size=_DRAWN)
    return float(paired(queries, passages, left, right).std())


def paired(
    queries: NDArray[np.float32], passages: NDArray[np.float32], left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Inner products (k,) in float32 of the query rows `left` (k,) with the passage rows `right` (k,)."""
    out = np.empty(len(left), np.float32)
    for begin in range(0, len(left), _BLOCK):
        part = slice(begin, begin + _BLOCK)
        asked, there = np.asarray(queries[left[part]], np.float32), np.asarray(passages[right[part]], np.float32)
        out[part] = np.einsum("ij,ij->i", asked, there)
    return out
