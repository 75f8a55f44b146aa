"""Retrieval measures as ir_measures and trec_eval define them, for all queries at once.

A measure is written `family@k`: nDCG@10, MRR@10, Recall@100, Precision@5, MAP@100, hit@10, accuracy@1; R-precision has
no k. Case does not matter, and the names of ir_measures (RR@10, R@100, P@5, AP@100, Success@10, Rprec) mean the same.
Files and dicts carry the form in small letters: ndcg@10, r-precision.
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
Rows = NDArray[np.int64]

MAIN = "ndcg@10"
"""The measure that the verdict rests on: training selects its checkpoint by it, and it sees the whole first page."""
_ALIASES = {"rr": "mrr", "r": "recall", "p": "precision", "ap": "map", "success": "hit", "rprec": "r-precision"}
_WRITTEN = {"ndcg": "nDCG", "mrr": "MRR", "map": "MAP"}
_CELLS = 8_000_000  # comparisons of a judged passage with a rank made at once


@dataclass(frozen=True, slots=True)
class Judgements:
    """Qrels as flat arrays, made once and used for every system: one entry per judged pair."""

    query: Rows
    """Place of the query."""
    passage: Rows
    grade: Floats
    queries: int
    """How many queries there are, those without a judgement included."""
    threshold: int
    """The lowest grade that counts as relevant."""

    @property
    def relevant(self) -> NDArray[np.bool_]:
        """Per entry. A passage nobody judged is never relevant, whatever the threshold."""
        return self.grade >= self.threshold

    @property
    def total(self) -> Rows:
        """Relevant passages of each query, found or not: `(queries,)`."""
        return np.bincount(self.query[self.relevant], minlength=self.queries)


@dataclass(frozen=True, slots=True)
class _Judged:
    """What the measures need of a ranking, cut to the deepest rank asked for."""

    gains: Floats
    """Grade of the passage at each rank, 0 where it is not judged or there is none: `(queries, depth)`."""
    ideal: Floats
    """The grades of each query's judged passages, highest first, in the same shape."""
    relevant: NDArray[np.bool_]
    """Whether the passage at each rank reaches the relevance threshold: `(queries, depth)`."""
    total: Rows
    """Relevant passages of each query, found or not: `(queries,)`."""


def measure(
    names: Sequence[str],
    ranked: Sequence[Sequence[Key]] | Rows,
    qrels: Sequence[Mapping[Key, int]] | Judgements,
    relevance_threshold: int = 1,
) -> dict[str, Floats]:
    """The value of each measure for each query, in the order of `ranked`; the keys are `names` as given.

    `ranked` holds the passages of each query, best first: ids, or rows of integers padded with -1. `qrels` holds the
    grades of each query's judged passages, by the same ids. A passage that is not judged is not relevant. With
    `relevance_threshold` 2, all measures but nDCG count grade 2 and above; nDCG takes the grades as they are for gains
    (linear, discounted by log2(rank + 1); Järvelin and Kekäläinen, 2002). A query without any relevant passage has no
    value: NaN. Raises ConfigError for a name that is not a measure.
    """
    rows, table = _as_numbers(ranked, qrels, relevance_threshold)
    wanted = {name: parse(name) for name in names}
    judged = _judge(rows, table, needed_depth(names, table))
    values = {name: _FAMILIES[family](judged, k) for name, (family, k) in wanted.items()}
    return {name: np.where(judged.total > 0, value, np.nan) for name, value in values.items()}


def first_relevant(
    ranked: Sequence[Sequence[Key]] | Rows,
    qrels: Sequence[Mapping[Key, int]] | Judgements,
    relevance_threshold: int = 1,
) -> Rows:
    """The 1-based rank of each query's first relevant passage, 0 where none was found."""
    rows, table = _as_numbers(ranked, qrels, relevance_threshold)
    relevant = _judge(rows, table, max(rows.shape[1], 1)).relevant
    return np.where(relevant.any(axis=1), relevant.argmax(axis=1) + 1, 0)


def judgements(qrels: Sequence[Mapping[Key, int]], place: Mapping[Key, int], relevance_threshold: int) -> Judgements:
    """Flat arrays of the qrels of each query; `place` gives the number by which rankings name a passage."""
    query = np.repeat(np.arange(len(qrels)), [len(grades) for grades in qrels])
    passage = np.array([place[name] for grades in qrels for name in grades], np.int64)
    grade = np.array([grade for grades in qrels for grade in grades.values()], np.float64)
    return Judgements(query, passage, grade, len(qrels), relevance_threshold)


def parse(name: str) -> tuple[str, int]:
    """`nDCG@10` -> ("ndcg", 10), `R-precision` -> ("r-precision", 0). Raises ConfigError for any other text."""
    family, at, depth = name.strip().lower().partition("@")
    family = _ALIASES.get(family, family)
    if family == "r-precision" and not at:
        return family, 0
    if family not in _FAMILIES or family == "r-precision" or not (depth.isascii() and depth.isdigit() and int(depth)):
        known = ", ".join(f"{label(family)}@k" for family in _FAMILIES if family != "r-precision")
        raise ConfigError(f"{name!r} is not a measure", f"{known} with a k of 1 or more, or R-precision")
    return family, int(depth)


def canonical(name: str) -> str:
    """The form that files carry: `RR@10` -> `mrr@10`. Raises ConfigError for what is not a measure."""
    family, depth = parse(name)
    return f"{family}@{depth}" if depth else family


def label(name: str) -> str:
    """`ndcg@10` as it is written for people: nDCG@10."""
    family, at, depth = name.partition("@")
    return _WRITTEN.get(family, family.capitalize()) + at + depth


def needed_depth(names: Sequence[str], table: Judgements) -> int:
    """The rank down to which rankings must go for these measures; R-precision asks for as many as are relevant."""
    depths = [parse(name)[1] or int(table.total.max(initial=1)) for name in names]
    return max([1, *depths])


def _as_numbers(
    ranked: Sequence[Sequence[Any]] | Rows, qrels: Sequence[Mapping[Any, int]] | Judgements, threshold: int
) -> tuple[Rows, Judgements]:
    count = qrels.queries if isinstance(qrels, Judgements) else len(qrels)
    if len(ranked) != count:
        raise ValueError(f"{len(ranked)} rankings, but qrels for {count} queries")
    if isinstance(qrels, Judgements):
        return np.asarray(ranked, np.int64), qrels
    if isinstance(ranked, np.ndarray):
        return ranked, judgements(qrels, _Itself(), threshold)
    place: dict[Any, int] = {}
    for grades in qrels:
        for name in grades:
            place.setdefault(name, len(place))
    rows = np.full((count, max(map(len, ranked), default=0)), -1, np.int64)
    for row, names in zip(rows, ranked, strict=True):
        row[: len(names)] = [place.get(name, -1) for name in names]
    return rows, judgements(qrels, place, threshold)


class _Itself(dict[Any, int]):
    """Integers name passages by themselves."""

    def __missing__(self, key: int) -> int:
        return key


def _judge(rows: Rows, table: Judgements, depth: int) -> _Judged:
    gains = np.zeros((table.queries, depth))
    ideal = np.zeros((table.queries, depth))
    relevant = np.zeros((table.queries, depth), np.bool_)
    # Judged passages are far fewer than ranks: look each of them up in its query's ranking, not the other way round.
    top = np.ascontiguousarray(rows[:, :depth])
    block = max(1, _CELLS // max(1, top.shape[1]))
    for start in range(0, len(table.query), block) if top.shape[1] else ():
        part = slice(start, start + block)
        query, grade = table.query[part], table.grade[part]
        same = top[query] == table.passage[part, None]
        rank, found = same.argmax(axis=1), same.any(axis=1)
        gains[query[found], rank[found]] = np.maximum(grade[found], 0)
        relevant[query[found], rank[found]] = grade[found] >= table.threshold
    best = np.lexsort((-table.grade, table.query))
    query = table.query[best]
    starts = np.searchsorted(query, np.arange(table.queries))
    place = np.arange(len(query)) - starts[query]
    kept = place < depth
    ideal[query[kept], place[kept]] = np.maximum(table.grade[best][kept], 0)
    return _Judged(gains, ideal, relevant, table.total)


def _ndcg(judged: _Judged, k: int) -> Floats:
    discount = 1 / np.log2(np.arange(2, k + 2))
    # Sums in numpy's own order: a BLAS product would differ in its last bits from machine to machine.
    best, found = ((gains[:, :k] * discount).sum(axis=1) for gains in (judged.ideal, judged.gains))
    return np.asarray(np.divide(found, best, out=np.zeros_like(best), where=best > 0))


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


def _r_precision(judged: _Judged, _: int) -> Floats:
    """Precision at the rank that equals the number of relevant passages."""
    within = np.arange(judged.relevant.shape[1]) < judged.total[:, None]
    return np.asarray((judged.relevant & within).sum(axis=1) / np.maximum(judged.total, 1))


_FAMILIES: Mapping[str, Callable[[_Judged, int], Floats]] = {
    "ndcg": _ndcg,
    "mrr": _mrr,
    "recall": _recall,
    "precision": _precision,
    "map": _map,
    "hit": _hit,
    "accuracy": _hit,  # accuracy@1 is the usual name of hit@1
    "r-precision": _r_precision,
}
