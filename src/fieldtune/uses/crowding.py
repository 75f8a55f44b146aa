"""From which similarity on two texts are nearer than the crowd around them explains: a threshold from the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding import top_k
from fieldtune.encoding.search import Blocks

NEIGHBOURS = 20
_FEWEST = 12
"""Neighbours below which nothing can be said about a crowd."""
SAMPLE = 20_000


@dataclass(frozen=True, slots=True)
class Threshold:
    similarity: float | None
    """Pairs from here on stand out; None where none do, or there are too few texts to tell."""
    found: int
    """Texts of the sample whose nearest neighbour stands out."""
    expected_false: float
    """How many of these the crowding alone would give."""
    dimension: float | None
    """Intrinsic dimension of the vectors, as their neighbours' distances show it; None for too few texts."""
    sampled: int


def threshold_of(
    queries: NDArray[np.float32], passages: Blocks, *, same: bool, false_rate: float = 0.01, seed: int = 0
) -> Threshold:
    """The lowest cosine at which at most `false_rate` of the texts with a neighbour that near have it by chance.

    `same` says that the two sides are one set of vectors, (n, dim) and (m, dim), distinct texts each. Where vectors lie
    evenly around a text, the distances to its neighbours r_1 < ... < r_m obey (r_j / r_m)^d ~ Beta(j, m - j), d being
    the intrinsic dimension (Facco et al., "Estimating the intrinsic dimension of datasets by a minimal neighborhood
    information", 2017; Denti et al., "The generalized ratios intrinsic dimension estimator", 2022). d comes from the
    median of r_{m/2} / r_m, which duplicates do not reach; then m and d give for each text the chance that a neighbour
    lies within any distance. Siblings that are all alike ("left", "right") crowd each other and raise the bar; a
    single one beside a text that is otherwise alone does not.
    """
    from scipy import stats

    m = min(NEIGHBOURS, len(passages) - same)
    rows = np.arange(len(queries))
    if len(queries) > SAMPLE:
        rows = np.sort(np.random.default_rng(seed).choice(len(queries), SAMPLE, replace=False))
    if m < _FEWEST or len(rows) < _FEWEST:
        return Threshold(None, 0, 0.0, None, len(rows))
    scores, near = top_k(np.asarray(queries[rows], np.float32), passages, m + same)
    if same:  # the text itself is among its neighbours, not always first: equal vectors tie
        own = near == rows[:, None]
        own[~own.any(axis=1), -1] = True
        scores = scores[~own].reshape(len(rows), m)
    distance = np.sqrt(np.maximum(2 - 2 * scores.astype(np.float64), 0.0))
    far, half = distance[:, -1], m // 2
    usable = (far > 1e-6) & (distance[:, half - 1] < far)
    if usable.sum() < _FEWEST:
        return Threshold(None, 0, 0.0, None, len(rows))
    ratio = np.median(np.log(np.maximum(distance[usable, half - 1], 1e-9) / far[usable]))
    dimension = float(np.log(stats.beta.median(half, m - half)) / ratio)
    best, nearest = Threshold(None, 0, 0.0, dimension, len(rows)), np.sort(scores[:, 0])[::-1]
    # Only where one similarity ends and the next begins; of equal ones all or none are above.
    ends = np.flatnonzero(np.append(nearest[:-1] > nearest[1:], True))
    for end in ends[np.unique(np.linspace(0, len(ends) - 1, min(len(ends), 2_000)).astype(int))]:
        reach = np.sqrt(max(0.0, 2 - 2 * float(nearest[end])))
        inside = np.minimum(reach / np.maximum(far, 1e-9), 1.0) ** dimension
        expected = float((1 - (1 - inside) ** (m - 1)).sum())
        if expected <= false_rate * (end + 1):
            best = Threshold(float(nearest[end]), int(end) + 1, expected, dimension, len(rows))
    return best
