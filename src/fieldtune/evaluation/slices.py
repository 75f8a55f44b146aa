"""For whom tuning paid: the difference on parts of the test set, with what so many looks may prove."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fieldtune import config as settings
from fieldtune.beir import RetrievalData
from fieldtune.evaluation.bootstrap import of_differences, resample
from fieldtune.evaluation.facets import Labels, facets
from fieldtune.evaluation.results import MAIN, Evaluation
from fieldtune.evaluation.statistics import Clusters, clusters_of, holm, sign_flip, singles

FEW_CLUSTERS = 10
"""A slice of fewer document groups proves nothing about documents not seen here."""
_PERMUTATIONS = 5_000  # sign flips per slice suffice for the many tests that Holm's method asks more of


@dataclass(frozen=True, slots=True)
class Slice:
    """One part of the test set."""

    by: str
    """The way of slicing: "document", "query style", "query type" (a metadata field) ..."""
    name: str
    queries: int
    clusters: int
    """Independent groups; in a slice by document, its queries."""
    base: float
    tuned: float
    difference: float
    interval: tuple[float, float]
    """95%, by cluster, of this slice alone; NaN for a single cluster."""
    p: float
    """Paired test by sign flips, for this slice alone."""
    adjusted: float
    """p by Holm's method over all slices that are not small; NaN for a small one."""
    small: bool
    """Too few queries or document groups: it proves nothing, whatever its figures."""

    @property
    def finding(self) -> str:
        """ "better", "worse", "no measurable difference" or "too small"."""
        if self.small:
            return "too small"
        if self.adjusted >= 0.05:
            return "no measurable difference"
        return "better" if self.difference > 0 else "worse"


@dataclass(frozen=True, slots=True)
class Slices:
    """All parts, in the order of the ways of slicing."""

    measure: str
    a: str
    b: str
    rows: tuple[Slice, ...]
    note: str
    """What so many comparisons prove."""


def slices(
    evaluation: Evaluation,
    data: RetrievalData,
    config: settings.Evaluation,
    seed: int,
    touched: frozenset[str] = frozenset(),
) -> Slices | None:
    """Compare the two systems of the verdict on each slice; None where nothing is compared.

    `touched` are the queries that a leak touches: with and without them is one more way to slice.
    """
    contest = evaluation.contest()
    if contest is None:
        return None
    ways = dict(facets(data, evaluation.split, evaluation.queries))
    if inside := touched.intersection(evaluation.queries):
        ways["leak"] = ["touched by a leak" if query in inside else "untouched" for query in evaluation.queries]
    a, b = (evaluation.system(name).values[MAIN] for name in contest)
    rows = [
        _slice(way, label, np.flatnonzero([one == label for one in labels]), a, b, evaluation.clusters, config, seed)
        for way, labels in ways.items()
        for label in _ordered(labels)
    ]
    judged = [n for n, row in enumerate(rows) if not row.small]
    for n, p in zip(judged, holm(np.array([rows[n].p for n in judged])), strict=True):
        rows[n] = replace(rows[n], adjusted=float(p))
    return Slices(MAIN, *contest, tuple(rows), _note(rows, config.slice_queries))


def subset(clusters: Clusters, rows: NDArray[np.int64]) -> Clusters:
    """The clusters of some of the queries."""
    return clusters_of(clusters.labels[rows])


def _slice(
    way: str,
    name: str,
    rows: NDArray[np.int64],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    clusters: Clusters,
    config: settings.Evaluation,
    seed: int,
) -> Slice:
    each = (a[rows] - b[rows])[:, None]
    # Of one document, only its queries can be drawn anew; what comes out holds for that document.
    alone = way == "document"
    units = singles(len(rows)) if alone else subset(clusters, rows)
    low, high = of_differences(resample(each, units, resamples=config.bootstrap, seed=seed), units)[0]
    flips = min(config.permutations, _PERMUTATIONS)
    return Slice(
        by=way,
        name=name,
        queries=len(rows),
        clusters=units.count,
        base=float(b[rows].mean()),
        tuned=float(a[rows].mean()),
        difference=float(each.mean()),
        interval=(float(low), float(high)),
        p=float(sign_flip(each, units, permutations=flips, seed=seed)[0]),
        adjusted=math.nan,
        small=len(rows) < config.slice_queries or units.count < FEW_CLUSTERS,
    )


def _ordered(labels: Labels) -> list[str]:
    """The largest slices first; of equals by name."""
    counts: Mapping[str, int] = {label: labels.count(label) for label in labels if label is not None}
    return sorted(counts, key=lambda label: (-counts[label], label))


def _note(rows: Sequence[Slice], least: int) -> str:
    judged = sum(not row.small for row in rows)
    sure = sum(row.finding in ("better", "worse") for row in rows)
    small = f"A slice of fewer than {least} queries or {FEW_CLUSTERS} document groups proves nothing by itself."
    if not judged:
        return f"No slice is large enough to be judged. {small}"
    return (
        f"{judged} slices were compared; by chance alone about {0.05 * judged:.1f} of them would show p < 0.05. A "
        f"difference is called one only where it stays below 0.05 after Holm's correction for all of them: {sure}. "
        f"{small}"
    )
