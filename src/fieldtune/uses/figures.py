"""How good a classifier is: accuracy and macro-F1 with intervals, per class, and how sure it is when it is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.evaluation.bootstrap import of_differences, of_shares, resample
from fieldtune.evaluation.statistics import Clusters, resamples_of
from fieldtune.uses.folds import Ints

Floats = NDArray[np.float64]
_RESAMPLES = 1_000
_THRESHOLDS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_FEWEST_ANSWERS = 20


@dataclass(frozen=True, slots=True)
class Figures:
    accuracy: float
    accuracy_interval: tuple[float, float]
    """95%; units (near-equal texts, groups), not rows, count as observations. NaN for a single unit."""
    macro_f1: float
    macro_f1_interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class ClassFigures:
    label: str
    examples: int
    precision: float
    """0 where the class is never predicted."""
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Answered:
    """What abstaining below a probability would leave and give."""

    below: float
    share: float
    accuracy: float
    """Of what is answered; NaN for nothing."""


def figures(truth: Ints, predicted: Ints, classes: int, units: Clusters, seed: int) -> Figures:
    right = (truth == predicted).astype(np.float64)[:, None]
    low, high = of_shares(resample(right, units, resamples=_RESAMPLES, seed=seed), units)[0]
    cells = truth * classes + predicted
    # What each unit adds to the confusion matrix; a resample is a weighted sum of these.
    found = [
        _macro(np.bincount(cells, weights=drawn[units.labels], minlength=classes**2).reshape(classes, classes))
        for drawn in resamples_of(units, _RESAMPLES, seed)
    ]
    spread = np.quantile(found, [0.025, 0.975]) if units.count > 1 else np.full(2, np.nan)
    whole = _macro(np.bincount(cells, minlength=classes**2).reshape(classes, classes).astype(np.float64))
    return Figures(float(right.mean()), (float(low), float(high)), whole, (float(spread[0]), float(spread[1])))


def difference(truth: Ints, a: Ints, b: Ints, units: Clusters, seed: int) -> tuple[float, tuple[float, float]]:
    """Accuracy of `b` minus that of `a` on the same examples, with its 95% interval."""
    gain = ((b == truth).astype(np.float64) - (a == truth))[:, None]
    low, high = of_differences(resample(gain, units, resamples=_RESAMPLES, seed=seed), units)[0]
    return float(gain.mean()), (float(low), float(high))


def by_class(truth: Ints, predicted: Ints, labels: Sequence[str]) -> tuple[ClassFigures, ...]:
    out = []
    for number, label in enumerate(labels):
        hit = int(((truth == number) & (predicted == number)).sum())
        there, said = int((truth == number).sum()), int((predicted == number).sum())
        out.append(ClassFigures(label, there, hit / said if said else 0.0, hit / there, 2 * hit / (there + said)))
    return tuple(out)


def confusions(truth: Ints, predicted: Ints, labels: Sequence[str], most: int = 20) -> list[tuple[str, str, int]]:
    """(true class, taken for, how often), the commonest first."""
    wrong = truth != predicted
    pairs, counts = np.unique(np.column_stack([truth[wrong], predicted[wrong]]), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return [(labels[pairs[at][0]], labels[pairs[at][1]], int(counts[at])) for at in order]


def answered(truth: Ints, probabilities: Floats) -> tuple[Answered, ...]:
    """Share and accuracy of what is answered, by the probability below which nothing is said."""
    best, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    out = []
    for below in _THRESHOLDS:
        said = best >= below
        out.append(Answered(below, float(said.mean()), float(right[said].mean()) if said.any() else float("nan")))
    return tuple(out)


def abstain_for(truth: Ints, probabilities: Floats, accuracy: float) -> float | None:
    """The lowest probability from which the answers are that accurate; None where at least 20 answers never are."""
    best, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    order = np.argsort(-best, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    last = np.append(best[order][:-1] > best[order][1:], True)  # of equal probabilities all or none are answered
    fits = np.flatnonzero((share >= accuracy) & last & (np.arange(1, len(order) + 1) >= _FEWEST_ANSWERS))
    return float(best[order][fits[-1]]) if len(fits) else None


def _macro(confusion: NDArray[np.floating[Any] | np.integer[Any]]) -> float:
    """The mean F1 of the classes that occur, in truth or as a prediction."""
    total = confusion.sum(axis=0) + confusion.sum(axis=1)
    there = total > 0
    return float((2 * np.diag(confusion)[there] / total[there]).mean())
