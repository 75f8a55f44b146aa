"""How sure the numbers are: intervals and tests that treat a document group, not a query, as one observation.

Queries about one law or one filing succeed and fail together, so resampling single queries gives intervals that are
too narrow. Everything here works on sums by cluster; all systems and measures share the same resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_EXACT = 12  # clusters up to which all 2^n sign flips are tried
_CELLS = 4_000_000  # random numbers drawn at once


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
    return _clusters(labels)


def singles(queries: int) -> Clusters:
    """Each query an observation of its own."""
    return _clusters(np.arange(queries, dtype=np.int64))


def intervals(values: Floats, clusters: Clusters, *, resamples: int, seed: int, level: float = 0.95) -> Floats:
    """Bootstrap intervals of the mean of each column of `(queries, columns)`: `(columns, 2)`, low and high.

    Clusters are drawn with replacement and the mean is taken over the queries drawn. The percentile interval is
    widened for few clusters (Hesterberg, "What Teachers Should Know About the Bootstrap", 2015, section 5.3): for
    skewed means of ten to thirty clusters it covers nearer to its level than the plain percentile and BCa intervals.
    NaN for fewer than two clusters.
    """
    from scipy import stats

    if clusters.count < 2:
        return np.full((values.shape[1], 2), np.nan)
    size, count = clusters.sums(np.column_stack([values, np.ones(len(values))])), clusters.count
    generator = np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[1]))
    block = max(1, _CELLS // count)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = generator.integers(0, count, (rows, count)) + np.arange(rows)[:, None] * count
        weights = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        totals = weights @ size
        means[start : start + rows] = totals[:, :-1] / totals[:, -1:]
    wider = float(stats.norm.cdf(np.sqrt(count / (count - 1)) * stats.t.ppf((1 - level) / 2, count - 1)))
    return np.quantile(means, [wider, 1 - wider], axis=0).T


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
    generator = np.random.default_rng(seed)
    extreme = np.zeros(sums.shape[1])
    block = max(1, _CELLS // count)
    for start in range(0, permutations, block):
        signs = generator.integers(0, 2, (min(block, permutations - start), count), dtype=np.int8) * 2 - 1
        extreme += (np.abs(signs.astype(np.float64) @ sums) >= limit).sum(axis=0)
    return np.asarray((1 + extreme) / (1 + permutations))


def _clusters(labels: NDArray[np.int64]) -> Clusters:
    sizes = np.bincount(labels)
    return Clusters(labels, len(sizes), float(sizes.sum() ** 2 / (sizes**2).sum()))
