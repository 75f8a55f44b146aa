"""Cross-validated predictions of a classifier on vectors, and of the two baselines that it must beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fieldtune.lexical import tokenize
from fieldtune.uses.folds import Ints, divide

Floats = NDArray[np.float64]
System = Literal["vectors", "bag of words", "majority"]
STRENGTHS = (1.0, 10.0, 100.0)
"""C of the regression, of which the training part chooses one."""
_INNER = 3


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """What each example was taken for by a classifier that saw nothing of its unit."""

    probabilities: Floats
    """(n, classes)"""
    strengths: tuple[float, ...]
    """C of each fold."""

    @property
    def predicted(self) -> Ints:
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)


def cross_validate(
    system: System,
    texts: Sequence[str],
    vectors: NDArray[np.float32],
    labels: Ints,
    folds: Ints,
    units: Ints,
    seed: int,
) -> OutOfFold:
    """Train on all folds but one and predict that one; everything that is chosen is chosen on the training part."""
    out = np.zeros((len(labels), int(labels.max()) + 1))
    strengths = []
    for fold in range(int(folds.max()) + 1):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if system == "majority":
            out[test] = np.bincount(labels[train], minlength=out.shape[1]) / len(train)
            continue
        features = _features(system, texts, vectors, train)
        strength = choose_strength(features, labels, units, train, seed)
        strengths.append(strength)
        out[test] = _fitted(features, labels, train, test, strength, out.shape[1])
    return OutOfFold(out, tuple(strengths))


def choose_strength(
    features: Callable[[Ints], Any],
    labels: Ints,
    units: Ints,
    rows: Ints,
    seed: int,
    strengths: Sequence[float] = STRENGTHS,
) -> float:
    """The C with the highest likelihood in a smaller cross-validation; the middle one for few rows."""
    classes = int(labels.max()) + 1
    there, inner_labels = np.unique(labels[rows], return_inverse=True)
    whole = min(len(np.unique(units[rows][inner_labels == label])) for label in range(len(there)))
    if whole < 2:
        return strengths[len(strengths) // 2]
    _, inner_units = np.unique(units[rows], return_inverse=True)
    folds = divide(inner_labels, inner_units, min(_INNER, whole), seed)
    likelihood = []
    for strength in strengths:
        total = 0.0
        for fold in range(int(folds.max()) + 1):
            train, test = rows[folds != fold], rows[folds == fold]
            if len(np.unique(labels[train])) < 2:
                continue
            found = _fitted(features, labels, train, test, strength, classes)
            total += float(np.log(np.maximum(found[np.arange(len(test)), labels[test]], 1e-6)).sum())
        likelihood.append(total)
    return strengths[int(np.argmax(likelihood))]


def _features(system: System, texts: Sequence[str], vectors: NDArray[np.float32], train: Ints) -> Callable[[Ints], Any]:
    """Rows to features; the words and their weights are learnt from the training part alone."""
    if system == "vectors":
        return lambda rows: np.asarray(vectors[rows], np.float64)
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(analyzer=_words, sublinear_tf=True).fit([texts[row] for row in train])
    table = words.transform(texts)
    return lambda rows: table[rows]


def _words(text: str) -> list[str]:
    """fieldtune's own words, which Chinese has too; a text of none still needs a feature."""
    return tokenize(text) or ["\u0000"]


def _fitted(
    features: Callable[[Ints], Any], labels: Ints, train: Ints, test: Ints, strength: float, classes: int
) -> Floats:
    from sklearn.linear_model import LogisticRegression

    out = np.zeros((len(test), classes))
    if len(test):
        model = LogisticRegression(C=strength, max_iter=2_000).fit(features(train), labels[train])
        out[:, model.classes_] = model.predict_proba(features(test))
    return out
