"""Two rankings made one: reciprocal rank fusion, and weighted scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fieldtune.evaluation.rankings import Ranking
from fieldtune.fusion import CONSTANT, Floats, add_gains, reciprocal_rank_fusion
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
    return _ranking(a, *add_gains([a.rows, b.rows], [weight * _spread(a), (1 - weight) * _spread(b)], _depth(a, b)))


def best_weight(a: Ranking, b: Ranking, judged: Judgements, measure_name: str) -> tuple[float, float]:
    """The weight of `a` with the highest mean of a measure, and that mean; of equals the one nearest to one half."""
    means = {}
    for weight in WEIGHTS:
        values = measure([measure_name], weighted_fusion(a, b, weight).rows, judged)[measure_name]
        means[weight] = round(float(np.nanmean(values)), 9)
    chosen = max(means, key=lambda weight: (means[weight], -abs(weight - 0.5), weight))
    return chosen, means[chosen]


def _spread(ranking: Ranking) -> Floats:
    there = ranking.rows >= 0
    scores = ranking.values.astype(np.float64)
    low = np.where(there, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    high = np.where(there, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    width = np.where(np.isfinite(high - low), high - low, 0)
    # A single passage, or several of one score, are all the best there is.
    spread = np.divide(scores - low, width, out=np.ones_like(scores), where=(width > 0) & there)
    return np.where(there, spread, 0.0)


def _ranking(a: Ranking, rows: NDArray[np.int64], sums: Floats) -> Ranking:
    return Ranking(a.queries, a.ids, rows, sums.astype(np.float32), "derived")


def _depth(a: Ranking, b: Ranking) -> int:
    """As many ranks as the deeper one has."""
    return min(max(int(a.rows.shape[1]), int(b.rows.shape[1])), len(a.ids))
