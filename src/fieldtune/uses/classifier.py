"""A classifier on vectors: fit, ask, save as a plain file, and refuse the vectors of another model."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import InputError, ModelError
from fieldtune.workspace import atomic_file

FORMAT = 1
_AGAIN = "train it again: fieldtune classify LABELLED --out CLASSIFIER.npz"
_BLOCK = 65_536


@dataclass(frozen=True, slots=True)
class Classifier:
    """Multinomial logistic regression on unit vectors of one model."""

    labels: tuple[str, ...]
    weights: NDArray[np.float64]
    """(labels, dim)"""
    bias: NDArray[np.float64]
    """(labels,)"""
    model: str
    """The name by which the model was found."""
    fingerprint: str
    """Of that model (`ResolvedModel.fingerprint`); vectors of another are refused."""
    abstain_below: float = 0.0
    """A best label less probable than this is not given."""


@dataclass(frozen=True, slots=True)
class Prediction:
    label: str
    """The most probable label, also where the classifier abstains."""
    probability: float
    abstained: bool
    probabilities: tuple[float, ...]
    """In the order of the classifier's labels; their sum is 1."""


def fit(
    vectors: NDArray[np.float32], labels: Sequence[str], strength: float
) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
    """Labels in order, weights (labels, dim) and bias (labels,) of an L2-regularised logistic regression.

    `strength` is scikit-learn's C: larger trusts the examples more.
    """
    from sklearn.linear_model import LogisticRegression

    found = LogisticRegression(C=strength, max_iter=2_000).fit(np.asarray(vectors, np.float64), np.asarray(labels))
    weights, bias = np.asarray(found.coef_, np.float64), np.asarray(found.intercept_, np.float64)
    if len(weights) == 1:  # of two classes it keeps the second's advantage alone
        weights, bias = np.concatenate([-weights / 2, weights / 2]), np.concatenate([-bias / 2, bias / 2])
    return tuple(str(label) for label in found.classes_), weights, bias


def probabilities(
    weights: NDArray[np.float64], bias: NDArray[np.float64], vectors: NDArray[np.float32]
) -> NDArray[np.float64]:
    """The softmax over labels for each vector: (n, labels)."""
    scores = np.asarray(vectors, np.float64) @ weights.T + bias
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
    return found


def predict(classifier: Classifier, vectors: NDArray[np.float32]) -> list[Prediction]:
    """One prediction per unit vector (n, dim) of the classifier's own model.

    Raises ModelError for vectors of another size.
    """
    if vectors.ndim != 2 or vectors.shape[1] != classifier.weights.shape[1]:
        raise ModelError(
            f"vectors of shape {vectors.shape} do not fit a classifier on {classifier.weights.shape[1]} dimensions",
            "use the model that it was trained with, or " + _AGAIN,
        )
    out: list[Prediction] = []
    for start in range(0, len(vectors), _BLOCK):
        found = probabilities(classifier.weights, classifier.bias, vectors[start : start + _BLOCK])
        for row, best in zip(found, found.argmax(axis=1), strict=True):
            chance = float(row[best])
            unsure = chance < classifier.abstain_below
            out.append(Prediction(classifier.labels[best], chance, unsure, tuple(row.tolist())))
    return out


def require_model(classifier: Classifier, name: str, fingerprint: str) -> None:
    """Raise ModelError where a model is not the one whose vectors the classifier was trained on."""
    if fingerprint != classifier.fingerprint:
        raise ModelError(
            f"the classifier was trained on vectors of another model ({classifier.model}) than {name}",
            f"give that model with --model, or {_AGAIN}",
        )


def save_classifier(path: Path, classifier: Classifier) -> None:
    """Write one .npz of plain arrays, no pickle; what is no array stands as JSON in one of them."""
    about = {
        "format": FORMAT,
        "labels": classifier.labels,
        "model": classifier.model,
        "fingerprint": classifier.fingerprint,
        "abstain_below": classifier.abstain_below,
    }
    text = np.frombuffer(json.dumps(about, ensure_ascii=False).encode(), np.uint8)
    with atomic_file(path, "wb") as stream:
        np.savez(stream, weights=classifier.weights, bias=classifier.bias, about=text)


def load_classifier(path: Path) -> Classifier:
    """Read what `save_classifier` wrote; runs no code from the file. Raises InputError for anything else."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            about = json.loads(stored["about"].tobytes())
            weights, bias = stored["weights"], stored["bias"]
        if about["format"] != FORMAT:
            raise InputError(f"format {about['format']} is not known to this version", _AGAIN, path=path)
        found = Classifier(
            tuple(map(str, about["labels"])),
            np.asarray(weights, np.float64),
            np.asarray(bias, np.float64),
            str(about["model"]),
            str(about["fingerprint"]),
            float(about["abstain_below"]),
        )
    except FileNotFoundError:
        raise InputError("no such file", _AGAIN, path=path) from None
    except (AttributeError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"not a classifier ({error})", _AGAIN, path=path) from None
    count = len(found.labels)
    fits = found.weights.ndim == 2 and found.weights.shape[0] == count and found.bias.shape == (count,)
    if count < 2 or not fits or not (np.isfinite(found.weights).all() and np.isfinite(found.bias).all()):
        raise InputError("damaged: its arrays do not fit its labels", _AGAIN, path=path)
    return found
