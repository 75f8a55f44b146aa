"""A classifier from a few labelled examples per class, with a report of what it is worth on texts it never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import InputError
from fieldtune.evaluation.statistics import clusters_of
from fieldtune.uses.classifier import Classifier, fit
from fieldtune.uses.figures import (
    Answered,
    ClassFigures,
    Figures,
    abstain_for,
    answered,
    by_class,
    confusions,
    difference,
    figures,
)
from fieldtune.uses.folds import Ints, divide, folded, units_of
from fieldtune.uses.validation import System, choose_strength, cross_validate

SYSTEMS: tuple[System, ...] = ("vectors", "bag of words", "majority")
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Classified:
    """A classifier trained on all examples, and its report from cross-validation."""

    classifier: Classifier
    systems: Mapping[System, Figures]
    over_words: tuple[float, tuple[float, float]]
    """Accuracy on vectors minus that on a bag of words, with its 95% interval."""
    classes: tuple[ClassFigures, ...]
    confusions: list[tuple[str, str, int]]
    answered: tuple[Answered, ...]
    examples: tuple[int, ...]
    """Positions of the examples that took part; classes left out are missing."""
    predicted: tuple[str, ...]
    """What each of them was taken for, by a classifier that had not seen its unit."""
    probability: tuple[float, ...]
    units: int
    folds: int
    dropped: Mapping[str, int]
    notes: tuple[str, ...]


def classify(
    texts: Sequence[str],
    vectors: NDArray[np.float32],
    labels: Sequence[str],
    groups: Sequence[str] | None = None,
    *,
    model: str,
    fingerprint: str,
    abstain_below: float = 0.0,
    accuracy: float | None = None,
    fewest: int = 3,
    drop_rare: bool = False,
    seed: int = 0,
) -> Classified:
    """Train on unit vectors (n, dim) and cross-validate, stratified, with units (see `units_of`) kept whole.

    `accuracy` asks for the lowest probability from which the answers are that accurate in cross-validation, in place of
    `abstain_below`. Raises InputError for a class of fewer than `fewest` units (unless `drop_rare` leaves it out), for
    fewer than two classes, and for an accuracy that is not reached.
    """
    if vectors.ndim != 2 or not len(vectors) == len(texts) == len(labels):
        raise InputError(f"vectors of shape {vectors.shape} for {len(texts)} texts", "one vector and one label a text")
    _require_shares(abstain_below, accuracy, fewest)
    units = units_of(texts, groups or [""] * len(texts), seed)
    rows, dropped = _enough(labels, units, fewest, drop_rare)
    names = sorted({labels[row] for row in rows.tolist()})
    truth = np.array([names.index(labels[row]) for row in rows.tolist()], np.int64)
    texts, vectors, clusters = [texts[row] for row in rows], np.asarray(vectors[rows]), clusters_of(units[rows])
    whole = min(len(np.unique(clusters.labels[truth == label])) for label in range(len(names)))
    folds = divide(truth, clusters.labels, min(FOLDS, whole), seed)
    for fold in range(int(folds.max()) + 1):
        if len(np.unique(truth[folds != fold])) < 2:
            raise InputError("the groups leave one class alone to learn from", "give more groups of each class")
    found = {name: cross_validate(name, texts, vectors, truth, folds, clusters.labels, seed) for name in SYSTEMS}
    ours = found["vectors"]
    notes = _notes(texts, truth, names, len(rows), clusters.count)
    if accuracy is not None:
        reached = abstain_for(truth, ours.probabilities, accuracy)
        if reached is None:
            raise InputError(
                f"an accuracy of {accuracy:.0%} is not reached at any probability", "ask for less, or label more"
            )
        abstain_below = reached
        notes.append(
            f"Abstains below {reached:.3f}, chosen on the same predictions that show {accuracy:.0%} there: expect a "
            "little less."
        )
    strength = choose_strength(
        lambda some: np.asarray(vectors[some], np.float64), truth, clusters.labels, np.arange(len(truth)), seed
    )
    _, weights, bias = fit(vectors, [f"{label:09d}" for label in truth.tolist()], strength)
    classifier = Classifier(tuple(names), weights, bias, model, fingerprint, abstain_below)
    best = ours.predicted
    return Classified(
        classifier,
        {name: figures(truth, found[name].predicted, len(names), clusters, seed) for name in SYSTEMS},
        difference(truth, found["bag of words"].predicted, best, clusters, seed),
        by_class(truth, best, names),
        confusions(truth, best, names),
        answered(truth, ours.probabilities),
        tuple(rows.tolist()),
        tuple(names[number] for number in best),
        tuple(ours.probabilities.max(axis=1).tolist()),
        clusters.count,
        int(folds.max()) + 1,
        dropped,
        tuple(notes),
    )


def _enough(labels: Sequence[str], units: Ints, fewest: int, drop_rare: bool) -> tuple[Ints, dict[str, int]]:
    """The rows of classes with enough units, and how many rows were left out."""
    held: dict[str, set[int]] = {}
    for label, unit in zip(labels, units.tolist(), strict=True):
        held.setdefault(label, set()).add(unit)
    rare = {label: len(found) for label, found in sorted(held.items()) if len(found) < fewest}
    if rare and not drop_rare:
        listed = ", ".join(f"{label!r} has {count}" for label, count in list(rare.items())[:8])
        raise InputError(
            f"not enough examples: {listed}; each class needs {fewest} that are not near-equal or of one group",
            "label more, join classes, or leave such classes out with --drop-rare",
        )
    if len(held) - len(rare) < 2:
        raise InputError(f"only {len(held) - len(rare)} class has enough examples", "two classes are needed at least")
    rows = np.array([row for row, label in enumerate(labels) if label not in rare], np.int64)
    return rows, {"row of a class with too few examples": len(labels) - len(rows)} if rare else {}


def _notes(texts: Sequence[str], truth: Ints, names: Sequence[str], rows: int, units: int) -> list[str]:
    notes = []
    if units < rows:
        notes.append(f"{rows:,} examples are {units:,} units: near-equal texts and groups stay in one fold.")
    said: dict[str, set[int]] = {}
    for text, label in zip(texts, truth.tolist(), strict=True):
        said.setdefault(folded(text), set()).add(label)
    torn = [(text, found) for text, found in said.items() if len(found) > 1]
    if torn:
        text, found = torn[0]
        classes = " and ".join(repr(names[label]) for label in sorted(found))
        notes.append(f"{len(torn):,} texts stand under several classes, e.g. {text[:60]!r} under {classes}.")
    return notes


def _require_shares(abstain_below: float, accuracy: float | None, fewest: int) -> None:
    if not 0 <= abstain_below < 1:
        raise InputError(f"a probability of {abstain_below:g} cannot be asked for", "give one from 0 to below 1")
    if accuracy is not None and not 0 < accuracy <= 1:
        raise InputError(f"an accuracy of {accuracy:g} does not exist", "give a share, such as 0.9")
    if fewest < 2:
        raise InputError(f"{fewest} example of a class cannot be divided", "ask for at least 2")
