"""Several rankings of the same queries made one: what each gives a passage is added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]
CONSTANT = 60
"""Of reciprocal rank fusion, as its authors found it best (Cormack, Clarke and Büttcher, SIGIR 2009)."""


def reciprocal_rank_fusion(rankings: Sequence[Rows], depth: int, k: int = CONSTANT) -> tuple[Rows, Floats]:
    """Rank by the sum of 1 / (k + rank) over rankings of the same queries, each (queries, its own depth).

    A ranking's rows are places in the corpus, -1 behind the last one. Returns rows and sums, `(queries, depth)`.
    """
    gains = [np.broadcast_to(1 / (k + np.arange(1, ranked.shape[1] + 1)), ranked.shape) for ranked in rankings]
    return add_gains(rankings, gains, depth)


def add_gains(rankings: Sequence[Rows], gains: Sequence[Floats], depth: int) -> tuple[Rows, Floats]:
    """The rows with the highest sums of what each ranking gives them, and the sums: `(queries, depth)`.

    Equal sums go by corpus order. Where fewer are ranked, rows end in -1 and sums in 0.
    """
    rows, sums = np.concatenate(rankings, axis=1), np.concatenate(gains, axis=1).astype(np.float64)
    # Sort each query's passages: one that stands in several rankings is then its own neighbour.
    order = np.argsort(rows, axis=1, kind="stable")
    rows, sums = np.take_along_axis(rows, order, axis=1), np.take_along_axis(sums, order, axis=1)
    for column in range(rows.shape[1] - 2, -1, -1):
        again = rows[:, column] == rows[:, column + 1]
        sums[:, column] += np.where(again, sums[:, column + 1], 0)
        rows[:, column + 1][again] = -1
    sums[rows < 0] = -np.inf
    # Sums of the same gains must be equal whichever ranking came first.
    best = np.argsort(-np.round(sums, 12), axis=1, kind="stable")[:, :depth]
    rows, sums = np.take_along_axis(rows, best, axis=1), np.take_along_axis(sums, best, axis=1)
    short = ((0, 0), (0, max(0, depth - rows.shape[1])))
    there = np.isfinite(sums)
    return (
        np.pad(np.where(there, rows, -1), short, constant_values=-1),
        np.pad(np.where(there, sums, 0.0), short),
    )


def spread(rows: Rows, scores: NDArray[np.floating[Any]]) -> Floats:
    """The scores of each ranking spread over 0 to 1; 0 where there is none (row -1), and for the lowest ranked."""
    there = rows >= 0
    scores = scores.astype(np.float64)
    low = np.where(there, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    high = np.where(there, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    with np.errstate(invalid="ignore"):  # nothing ranked: inf - inf
        width = np.where(np.isfinite(high - low), high - low, 0)
    # A single passage, or several of one score, are all the best there is.
    spread_out = np.divide(scores - low, width, out=np.ones_like(scores), where=(width > 0) & there)
    return np.where(there, spread_out, 0.0)
