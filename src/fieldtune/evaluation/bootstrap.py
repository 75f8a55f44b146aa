"""Intervals by the bootstrap, which draws whole document groups: of a mean, and of a difference.

All systems and measures of a call share the same resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldtune.evaluation.statistics import LEVEL, Clusters, Floats, draws, quantile_t

_CELLS = 4_000_000  # random numbers drawn at once
_FLOOR = 0.25  # of the error, below which that of a resample is not taken at its word


@dataclass(frozen=True, slots=True)
class Resampled:
    """What resamples say of the mean of each column; NaN where there are fewer than two clusters."""

    means: Floats
    """Of the data themselves, `(columns,)`."""
    errors: Floats
    """Standard errors, `(columns,)`."""
    studentised: Floats
    """Ends of the bootstrap-t interval, `(columns, 2)`."""


def resample(values: Floats, clusters: Clusters, *, resamples: int, seed: int) -> Resampled:
    """Draw clusters with replacement and take the mean of each column of `(queries, columns)` over the queries drawn.

    The standard error is the spread of these means, widened by sqrt(n / (n - 1)) for n clusters, which the bootstrap is
    too narrow by (Hesterberg, "What Teachers Should Know About the Bootstrap", 2015, section 5.3). The bootstrap-t
    (Efron and Tibshirani, 1993, section 12.5) divides the shift of each resample by its own error, which is that of a
    ratio of sums by cluster (linearised: Cochran, "Sampling Techniques", 1977, section 6.4), and so learns from the
    data how skewed the mean is.
    """
    means, count = values.mean(axis=0), clusters.count
    if count < 2:
        nothing = np.full(len(means), np.nan)
        return Resampled(means, nothing, np.column_stack([nothing, nothing]))
    sizes = clusters.sums(np.ones((len(values), 1)))
    rest = clusters.sums(values) - sizes * means
    factor = np.sqrt(count / (count - 1))
    own = factor * np.sqrt((rest**2).sum(axis=0)) / len(values)
    table = np.hstack([sizes, sizes**2, rest, rest * sizes, rest**2])
    shifts, pivots = np.empty((2, resamples, len(means)))
    source = np.random.PCG64(seed)
    block = max(1, _CELLS // count)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = draws(source, rows * count, count).reshape(rows, count) + np.arange(rows)[:, None] * count
        weights = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        total, squared, *sums = np.split(weights @ table, np.cumsum([1, 1, len(means), len(means)]), axis=1)
        shift = sums[0] / total
        spread = np.sqrt(np.maximum(sums[2] - 2 * shift * sums[1] + shift**2 * squared, 0))
        # A resample without the few queries that differ has no error of its own, and would send an end to infinity.
        error = np.maximum(factor * spread / total, _FLOOR * own)
        shifts[start : start + rows] = shift
        pivots[start : start + rows] = np.divide(shift, error, out=np.zeros_like(shift), where=error > 0)
    errors: Floats = shifts.std(axis=0, ddof=1) * factor
    # What floating point leaves of a spread of nothing is nothing.
    still = errors <= 1e-12 * np.maximum(np.abs(values).max(axis=0), 1e-300)
    errors, own = np.where(still, 0.0, errors), np.where(still, 0.0, own)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(pivots, [tail, 1 - tail], axis=0, method="weibull")
    return Resampled(means, errors, np.column_stack([means - high * own, means - low * own]))


def of_differences(found: Resampled, clusters: Clusters) -> Floats:
    """95% intervals `(columns, 2)` of differences between two systems' measures, within −1 and 1.

    Each end is the outer of two: mean ± t * error, with one degree of freedom less than the clusters are worth, and the
    bootstrap-t. The first holds where few clusters leave the bootstrap little to draw from; the second follows a skewed
    mean, as when a tenth of the documents gain much and the rest lose a little, where the first covers too seldom on
    its long side.

    `benchmarks/intervals.py` measures how often they cover the truth: 94 to 98% where documents differ evenly about the
    mean, from 8 of them on, and where one query in three to ten gains. Where a tenth of the documents gain much and the
    rest lose a little it is 94% of 100 documents, but 88 to 92% of up to 40; where the gain goes with a document's
    number of queries, 92% of 100 and 87 to 91% of fewer. What few documents gain is often not among those seen: more
    documents, not more queries, are the cure. Equal systems are called different at most 5% of the time, but in these
    last two kinds 5 to 12%.
    """
    if clusters.count < 2:
        return np.full((len(found.means), 2), np.nan)
    half = quantile_t((1 + LEVEL) / 2, clusters) * found.errors
    low = np.minimum(found.means - half, found.studentised[:, 0])
    high = np.maximum(found.means + half, found.studentised[:, 1])
    # Where nothing varied, as many of the documents not seen as could well be missed may differ, by as much as can be.
    missed, still = 1 - ((1 - LEVEL) / 2) ** (1 / clusters.effective), found.errors == 0
    low = np.where(still, found.means - missed * (1 + found.means), low)
    high = np.where(still, found.means + missed * (1 - found.means), high)
    # No measure leaves 0 to 1, so no difference leaves −1 to 1, however wide the interval of a few queries.
    bounds: Floats = np.clip(np.column_stack([low, high]), -1.0, 1.0)
    return bounds


def of_shares(found: Resampled, clusters: Clusters) -> Floats:
    """95% intervals `(columns, 2)` of means of values between 0 and 1.

    They are Wilson's (1927) for as many trials as would give this error, which lean away from the ends 0 and 1 as the
    true distribution does (for clustered samples: Dean and Pagano, "Evaluating Confidence Interval Methods for Binomial
    Proportions in Clustered Surveys", 2015).
    """
    means, errors = found.means, found.errors
    if clusters.count < 2:
        return np.full((len(means), 2), np.nan)
    t = quantile_t((1 + LEVEL) / 2, clusters)
    inner = means * (1 - means)
    varied = (errors > 0) & (inner > 0)
    # Values that are all equal give no error; the clusters are then the trials.
    trials = np.divide(inner, errors**2, out=np.full(len(means), clusters.effective), where=varied)
    shrink = 1 + t * t / trials
    centre = (means + t * t / (2 * trials)) / shrink
    half = t / shrink * np.sqrt(np.maximum(inner, 0) / trials + (t / (2 * trials)) ** 2)
    bounds = np.clip(np.column_stack([centre - half, centre + half]), 0.0, 1.0)
    return np.column_stack([np.minimum(bounds[:, 0], means), np.maximum(bounds[:, 1], means)])
