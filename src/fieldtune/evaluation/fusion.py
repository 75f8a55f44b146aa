"""Two rankings made one: reciprocal rank fusion, and weighted scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fieldtune.evaluation.rankings import Ranking
from fieldtune.fusion import CONSTANT, Floats, add_gains, reciprocal_rank_fusion, spread
from fieldtune.measures import Judgements, measure

WEIGHTS = tuple(step / 20 for step in range(1, 20))
"""Shares of the model's score that are tried on dev; 0 and 1 would be BM25 or the model alone."""


def rank_fusion(a: Ranking, b: Ranking, k: int = CONSTANT) -> Ranking:
    """Sum of 1 / (k + rank) over both rankings (Cormack, Clarke and Büttcher, 2009); equal sums go by corpus order."""
    return _ranking(a, *reciprocal_rank_fusion([a.rows, b.rows], _depth(a, b), k))


def weighted_fusion(a: Ranking, b: Ranking, weight: float) -> Ranking:
    """`weight` times the score of `a` plus the rest times that of `b`, each spread over 0 to 1 per query.

    0 stands for the lowest score ranked, and for passages that a ranking does not hold.
    """
    gains = [weight * spread(a.rows, a.values), (1 - weight) * spread(b.rows, b.values)]
    return _ranking(a, *add_gains([a.rows, b.rows], gains, _depth(a, b)))


def best_weight(a: Ranking, b: Ranking, judged: Judgements, measure_name: str) -> tuple[float, float]:
    """The weight of `a` with the highest mean of a measure, and that mean; of equals the one nearest to one half."""
    means = {}
    for weight in WEIGHTS:
        values = measure([measure_name], weighted_fusion(a, b, weight).rows, judged)[measure_name]
        means[weight] = round(float(np.nanmean(values)), 9)
    chosen = max(means, key=lambda weight: (means[weight], -abs(weight - 0.5), weight))
    return chosen, means[chosen]


def _ranking(a: Ranking, rows: NDArray[np.int64], sums: Floats) -> Ranking:
    return Ranking(a.queries, a.ids, rows, sums.astype(np.float32), "derived")


def _depth(a: Ranking, b: Ranking) -> int:
    """As many ranks as the deeper one has."""
    return min(max(int(a.rows.shape[1]), int(b.rows.shape[1])), len(a.ids))
