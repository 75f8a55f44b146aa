"""Two rankings made one: reciprocal rank fusion, and weighted scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fieldtune.evaluation.rankings import Ranking
from fieldtune.measures import Judgements, measure

Floats = NDArray[np.float64]
WEIGHTS = tuple(step / 20 for step in range(1, 20))
"""Shares of the model's score that are tried on dev; 0 and 1 would be BM25 or the model alone."""


def rank_fusion(a: Ranking, b: Ranking, k: int = 60) -> Ranking:
    """Sum of 1 / (k + rank) over both rankings (Cormack, Clarke and Büttcher, 2009); equal sums go by corpus order."""
    depth = a.rows.shape[1], b.rows.shape[1]
    gains = [np.broadcast_to(1 / (k + np.arange(1, size + 1)), (len(a.queries), size)) for size in depth]
    return _fused(a, b, gains[0], gains[1])


def weighted_fusion(a: Ranking, b: Ranking, weight: float) -> Ranking:
    """`weight` times the score of `a` plus the rest times that of `b`, each spread over 0 to 1 per query.

    0 stands for the lowest score ranked, and for passages that a ranking does not hold.
    """
    return _fused(a, b, weight * _spread(a), (1 - weight) * _spread(b))


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


def _fused(a: Ranking, b: Ranking, gain_a: Floats, gain_b: Floats) -> Ranking:
    """Add up what each passage gains in either ranking and keep as many ranks as the deeper one has."""
    depth = min(max(a.rows.shape[1], b.rows.shape[1]), len(a.ids))
    rows = np.concatenate([a.rows, b.rows], axis=1)
    gains = np.concatenate([gain_a, gain_b], axis=1)
    # Sort each query's passages; one that stands in both rankings is then its own neighbour.
    order = np.argsort(rows, axis=1, kind="stable")
    rows, gains = np.take_along_axis(rows, order, axis=1), np.take_along_axis(gains, order, axis=1)
    twice = rows[:, 1:] == rows[:, :-1]
    gains[:, :-1] += np.where(twice, gains[:, 1:], 0)
    gains[rows < 0] = -np.inf
    gains[:, 1:][twice] = -np.inf
    # Equal sums must stay equal whichever ranking came first in the sum.
    best = np.argsort(-np.round(gains, 12), axis=1, kind="stable")[:, :depth]
    rows, gains = np.take_along_axis(rows, best, axis=1), np.take_along_axis(gains, best, axis=1)
    kept = np.isfinite(gains)
    values = np.where(kept, gains, 0).astype(np.float32)
    return Ranking(a.queries, a.ids, np.where(kept, rows, -1), values, "derived")
