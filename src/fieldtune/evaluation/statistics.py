"""How sure the numbers are: clusters and tests that treat a document group, not a query, as one observation.

Queries about one law or one filing succeed and fail together, so counting single queries gives intervals that are too
narrow and tests that find too much. Random bits are the raw output of PCG64 (O'Neill, 2014), whose stream is fixed, so
that each machine and each numpy draws the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_EXACT = 12  # clusters up to which all 2^n sign flips are tried
_CELLS = 4_000_000  # random numbers drawn at once
LEVEL, POWER = 0.95, 0.8


@dataclass(frozen=True, slots=True)
class Clusters:
    """Which observation each query belongs to."""

    labels: NDArray[np.int64]
    """Cluster number of each query, from 0, in order of appearance."""
    count: int
    effective: float
    """Clusters of equal size that would say as much: (sum of sizes)^2 / sum of squared sizes (Kish, 1965)."""

    def sums(self, values: Floats) -> Floats:
        """Sum the rows of `(queries, columns)` by cluster: `(clusters, columns)`."""
        out = np.zeros((self.count, values.shape[1]))
        np.add.at(out, self.labels, values)
        return out


def cluster(positives: Sequence[Sequence[str]], groups: Mapping[str, str]) -> Clusters:
    """Queries that share a document group, or a positive without a group, fall in one cluster, directly or by a chain.

    `positives` holds each query's relevant passages, `groups` the group of each passage ("" for none).
    """
    nodes: dict[tuple[str, str], int] = {}
    parent: list[int] = []

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    first = []
    for passages in positives:
        keys = [("group", groups[name]) if groups.get(name) else ("passage", name) for name in passages]
        for key in keys:
            if key not in nodes:
                nodes[key] = len(parent)
                parent.append(len(parent))
        first.append(nodes[keys[0]])
        for key in keys[1:]:
            parent[root(nodes[key])] = root(first[-1])
    numbers: dict[int, int] = {}
    labels = np.array([numbers.setdefault(root(node), len(numbers)) for node in first], np.int64)
    return clusters_of(labels)


def singles(queries: int) -> Clusters:
    """Each query an observation of its own."""
    return clusters_of(np.arange(queries, dtype=np.int64))


def resamples_of(clusters: Clusters, times: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each cluster is drawn, `(clusters,)`, in each of so many bootstrap samples."""
    source = np.random.PCG64(seed)
    for _ in range(times):
        yield np.bincount(draws(source, clusters.count, clusters.count), minlength=clusters.count)


def detectable(errors: Floats, clusters: Clusters) -> Floats:
    """The smallest true difference that a test at 5% would find four times in five, given its standard error.

    NaN where nothing could be found: no two clusters, too few for any p below 5%, or two systems that never differed,
    which leave the error unknown. (The usual power formula: t at 97.5% plus t at 80%, times the error.)
    """
    if smallest_p(clusters) > 1 - LEVEL:
        return np.full(len(errors), np.nan)
    factor = quantile_t((1 + LEVEL) / 2, clusters) + quantile_t(POWER, clusters)
    return np.where(errors > 0, factor * errors, np.nan)


def smallest_p(clusters: Clusters) -> float:
    """The lowest p that `sign_flip` can return for so many clusters, however clear the difference: 2 / 2^clusters."""
    return float(2.0 ** (1 - min(clusters.count, 1_000)))


def holm(p: Floats) -> Floats:
    """Adjust the p values of one family so that the chance of any false finding stays at its level (Holm, 1979)."""
    out = np.empty(len(p))
    order = np.argsort(p, kind="stable")
    out[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return out


def tally(differences: Floats) -> tuple[int, int, int]:
    """How many of the differences `(queries,)` are above zero, zero, and below; what rounding leaves is zero."""
    up, down = int((differences > 1e-9).sum()), int((differences < -1e-9).sum())
    return up, len(differences) - up - down, down


def sign_flip(differences: Floats, clusters: Clusters, *, permutations: int, seed: int) -> Floats:
    """Two-sided p of each column of per-query differences `(queries, columns)` under random sign flips by cluster.

    If neither system is better, a cluster's difference is as likely to have the other sign. Few clusters are
    enumerated in full; else p = (1 + as extreme) / (1 + permutations) (Phipson and Smyth, 2010).
    """
    sums, count = clusters.sums(differences), clusters.count
    # Flips that tie with the data must count as extreme; summing in another order moves the last bits.
    limit = np.abs(sums.sum(axis=0)) - 1e-9 * np.maximum(np.abs(sums).sum(axis=0), 1e-300)
    if count <= _EXACT:
        signs = 1 - 2 * ((np.arange(1 << count)[:, None] >> np.arange(count)) & 1)
        return np.asarray((np.abs(signs @ sums) >= limit).mean(axis=0))
    source = np.random.PCG64(seed)
    extreme = np.zeros(sums.shape[1])
    block = max(1, _CELLS // count)
    for start in range(0, permutations, block):
        flips = 1.0 - 2.0 * _bits(source, min(block, permutations - start), count)
        extreme += (np.abs(flips @ sums) >= limit).sum(axis=0)
    return np.asarray((1 + extreme) / (1 + permutations))


def clusters_of(labels: NDArray[np.int64]) -> Clusters:
    """From a label of each query, whatever the numbers are."""
    labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    sizes = np.bincount(labels)
    return Clusters(labels, len(sizes), float(sizes.sum() ** 2 / (sizes**2).sum()))


def quantile_t(probability: float, clusters: Clusters) -> float:
    """Student's t for one degree of freedom less than the clusters are worth."""
    from scipy import stats

    # Degrees of freedom by what the clusters are worth: one that holds a third of the queries leaves few.
    return float(stats.t.ppf(probability, max(clusters.effective - 1, 1.0)))


def draws(source: np.random.PCG64, count: int, below: int) -> NDArray[np.int64]:
    """Evenly drawn whole numbers from 0 to `below` - 1, each the high half of a 32-bit draw times `below`."""
    words = np.asarray(source.random_raw((count + 1) // 2), np.uint64)
    halves = np.column_stack([words >> np.uint64(32), words & np.uint64(0xFFFFFFFF)]).ravel()[:count]
    return ((halves * np.uint64(below)) >> np.uint64(32)).astype(np.int64)


def _bits(source: np.random.PCG64, rows: int, columns: int) -> NDArray[np.uint8]:
    """Random zeros and ones `(rows, columns)`."""
    words = np.asarray(source.random_raw(rows * -(-columns // 64)), "<u8").reshape(rows, -1)
    return np.unpackbits(words.view(np.uint8), axis=1, count=columns, bitorder="little")
