"""Retrieval measures as ir_measures and trec_eval define them, for all queries at once.

A measure is written `family@k`: ndcg@10, mrr@10, recall@1, precision@5, map@100, hit@10, accuracy@1.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import ConfigError

Key = TypeVar("Key", bound=Hashable)
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Judged:
    """What the measures need of a ranking, cut to the deepest rank asked for."""

    gains: Floats
    """Grade of the passage at each rank, 0 where it is not judged or there is none: `(queries, depth)`."""
    ideal: Floats
    """The grades of each query's judged passages, highest first, in the same shape."""
    relevant: NDArray[np.bool_]
    """Whether the passage at each rank reaches the relevance threshold: `(queries, depth)`."""
    total: Floats
    """Relevant passages of each query, found or not: `(queries,)`."""


def measure(
    names: Sequence[str],
    ranked: Sequence[Sequence[Key]] | NDArray[np.int64],
    qrels: Sequence[Mapping[Key, int]],
    relevance_threshold: int = 1,
) -> dict[str, Floats]:
    """The value of each measure for each query, in the order of `ranked`.

    `ranked` holds the passages of each query, best first: ids, or rows of integers padded with -1. `qrels` holds the
    grades of each query's judged passages, by the same ids. A passage that is not judged is not relevant. With
    `relevance_threshold` 2, all measures but nDCG count grade 2 and above; nDCG takes the grades as they are for gains
    (linear, discounted by log2(rank + 1); Järvelin and Kekäläinen, 2002). A query without any relevant passage has no
    value: NaN. Raises ConfigError for a name that is not a measure.
    """
    if len(ranked) != len(qrels):
        raise ValueError(f"{len(ranked)} rankings, but qrels for {len(qrels)} queries")
    wanted = {name: parse(name) for name in names}
    judged = _judge(ranked, qrels, max((k for _, k in wanted.values()), default=1), relevance_threshold)
    values = {name: _FAMILIES[family](judged, k) for name, (family, k) in wanted.items()}
    return {name: np.where(judged.total > 0, value, np.nan) for name, value in values.items()}


def first_relevant(
    ranked: Sequence[Sequence[Key]], qrels: Sequence[Mapping[Key, int]], relevance_threshold: int = 1
) -> NDArray[np.int64]:
    """The 1-based rank of each query's first relevant passage, 0 where none was found."""
    depth = max((len(row) for row in ranked), default=0)
    relevant = _judge(ranked, qrels, max(depth, 1), relevance_threshold).relevant
    return np.where(relevant.any(axis=1), relevant.argmax(axis=1) + 1, 0)


def order(scores: Mapping[str, float]) -> list[str]:
    """Passage ids by falling score; equal scores by falling id, which is how trec_eval orders a run."""
    return sorted(sorted(scores, reverse=True), key=scores.__getitem__, reverse=True)


def parse(name: str) -> tuple[str, int]:
    """`ndcg@10` -> ("ndcg", 10). Raises ConfigError for anything that is not a measure."""
    family, _, depth = name.partition("@")
    if family not in _FAMILIES or not (depth.isascii() and depth.isdigit()) or int(depth) == 0:
        raise ConfigError(
            f"{name!r} is not a measure", f"write it as one of {', '.join(_FAMILIES)}, @ and a depth, as in ndcg@10"
        )
    return family, int(depth)


def _judge(
    ranked: Sequence[Sequence[Any]] | NDArray[np.int64], qrels: Sequence[Mapping[Any, int]], depth: int, threshold: int
) -> _Judged:
    gains = np.zeros((len(qrels), depth))
    ideal = np.zeros((len(qrels), depth))
    total = np.zeros(len(qrels))
    relevant = np.zeros((len(qrels), depth), np.bool_)
    for row, (passages, grades) in enumerate(zip(ranked, qrels, strict=True)):
        top = passages[:depth].tolist() if isinstance(passages, np.ndarray) else passages[:depth]
        found = [grades.get(passage, 0) for passage in top]
        best = sorted(grades.values(), reverse=True)
        total[row] = sum(grade >= threshold for grade in best)
        gains[row, : len(found)] = found
        ideal[row, : len(best[:depth])] = best[:depth]
        # A grade of 0 is never relevant to a passage nobody judged, whatever the threshold.
        relevant[row, : len(found)] = [passage in grades and grades[passage] >= threshold for passage in top]
    return _Judged(np.maximum(gains, 0), np.maximum(ideal, 0), relevant, total)


def _ndcg(judged: _Judged, k: int) -> Floats:
    discount = 1 / np.log2(np.arange(2, k + 2))
    best = judged.ideal[:, :k] @ discount
    return np.divide(judged.gains[:, :k] @ discount, best, out=np.zeros_like(best), where=best > 0)


def _mrr(judged: _Judged, k: int) -> Floats:
    return np.asarray((judged.relevant[:, :k] / np.arange(1, k + 1)).max(axis=1))


def _recall(judged: _Judged, k: int) -> Floats:
    return np.asarray(judged.relevant[:, :k].sum(axis=1) / np.maximum(judged.total, 1))


def _precision(judged: _Judged, k: int) -> Floats:
    return np.asarray(judged.relevant[:, :k].sum(axis=1) / k)


def _map(judged: _Judged, k: int) -> Floats:
    relevant = judged.relevant[:, :k]
    precision = np.cumsum(relevant, axis=1) / np.arange(1, k + 1)
    return np.asarray((precision * relevant).sum(axis=1) / np.maximum(judged.total, 1))


def _hit(judged: _Judged, k: int) -> Floats:
    return np.asarray(judged.relevant[:, :k].any(axis=1), np.float64)


_FAMILIES: Mapping[str, Callable[[_Judged, int], Floats]] = {
    "ndcg": _ndcg,
    "mrr": _mrr,
    "recall": _recall,
    "precision": _precision,
    "map": _map,
    "hit": _hit,
    "accuracy": _hit,  # accuracy@1 is the usual name of hit@1
}
