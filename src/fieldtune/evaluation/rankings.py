"""Who ranks what: the queries that can be asked, and the rankings of an embedding model and of BM25."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from fieldtune.beir import RetrievalData
from fieldtune.encoding.search import Blocks, top_k
from fieldtune.errors import InputError
from fieldtune.lexical import BM25
from fieldtune.measures import Judgements, judgements, needed_depth

Kind = Literal["model", "lexical", "derived"]
DEPTH = 100
"""Ranks kept of each ranking, unless a measure looks deeper."""
_BLOCK = 16_384  # vectors looked at at once for numbers that are none
Item = TypeVar("Item")


class _Lines(Sequence[tuple[Item, ...]]):
    """A tuple per query, made when it is asked for: all at once, long rankings would fill the memory with objects."""

    def __init__(self, make: Callable[[int], tuple[Item, ...]], count: int) -> None:
        self._make, self._count = make, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, query: int) -> tuple[Item, ...]: ...
    @overload
    def __getitem__(self, query: slice) -> list[tuple[Item, ...]]: ...
    def __getitem__(self, query: int | slice) -> tuple[Item, ...] | list[tuple[Item, ...]]:
        found = range(self._count)[query]
        return self._make(found) if isinstance(found, int) else [self._make(n) for n in found]


@dataclass(frozen=True, slots=True)
class Ranking:
    """The top passages of each query, best first, with their scores."""

    queries: tuple[str, ...]
    ids: tuple[str, ...]
    """Of all passages, in corpus order."""
    rows: NDArray[np.int64]
    """Place in `ids` of the passage at each rank, -1 behind the last one: `(queries, depth)`."""
    values: NDArray[np.float32]
    """Scores in the same shape, never rising along a row."""
    kind: Kind = "model"
    """What made it. BM25, and what is derived from a model's vectors or ranking, are yardsticks and never the base or
    the tuned model of a verdict."""

    @classmethod
    def of(
        cls,
        queries: Sequence[str],
        passages: Sequence[Sequence[str]],
        scores: Sequence[Sequence[float]],
        ids: Sequence[str],
        kind: Kind = "model",
        depth: int = 0,
    ) -> Ranking:
        """From ids and scores per query, best first, such as another system's run; `ids` is the corpus in order.

        `depth` says how many ranks that system was asked for, where it may have found fewer.
        """
        place = {name: row for row, name in enumerate(ids)}
        depth = max(depth, *map(len, passages), 0)
        rows = np.full((len(queries), depth), -1, np.int64)
        values = np.zeros((len(queries), depth), np.float32)
        for n, (names, numbers) in enumerate(zip(passages, scores, strict=True)):
            rows[n, : len(names)], values[n, : len(names)] = [place[name] for name in names], numbers
        return cls(tuple(queries), tuple(ids), rows, values, kind)

    @property
    def passages(self) -> Sequence[tuple[str, ...]]:
        """Ids of each query's passages, best first."""
        return _Lines(lambda n: tuple(self.ids[row] for row in self.rows[n].tolist() if row >= 0), len(self.queries))

    @property
    def scores(self) -> Sequence[tuple[float, ...]]:
        """Scores of each query's passages, best first."""
        return _Lines(lambda n: tuple(self.values[n, self.rows[n] >= 0].tolist()), len(self.queries))


def asked(data: RetrievalData, split: str) -> tuple[str, ...]:
    """Ids of the queries of a split that have a relevant passage, in file order: the rows of a query matrix.

    Raises InputError if the split is missing or has no such query.
    """
    if split not in data.qrels:
        raise InputError(f"there are no {split} qrels", f"splits that have some: {', '.join(data.qrels) or 'none'}")
    queries = tuple(data.positives(split))
    if not queries:
        raise InputError(
            f"no query of the {split} split has a relevant passage",
            f"a passage is relevant from grade {data.relevance_threshold} on (relevance_threshold in meta.json)",
        )
    return queries


def judged(data: RetrievalData, split: str) -> Judgements:
    """The qrels of `asked(data, split)` as arrays that fit the rows of rankings."""
    place = {name: row for row, name in enumerate(data.passages)}
    return judgements([data.qrels[split][query] for query in asked(data, split)], place, data.relevance_threshold)


def depth_for(data: RetrievalData, split: str, names: Sequence[str]) -> int:
    """How deep rankings must go for measures of these names."""
    return max(DEPTH, needed_depth(names, judged(data, split)))


def dense_ranking(
    data: RetrievalData,
    split: str,
    queries: NDArray[np.float32],
    passages: Blocks,
    depth: int = DEPTH,
    *,
    label: str = "",
) -> Ranking:
    """Exact ranking by inner product; equal scores go by the order of the corpus.

    `queries` is `(n, dim)`, one row for each of `asked(data, split)`; `passages` is `(m, dim)`, one row for each
    passage in corpus order. Data that are judged-only rank a query's judged passages alone. Raises InputError, naming
    the text and the model's `label`, for vectors with numbers that are not finite, and for sizes that do not fit.
    """
    names = asked(data, split)
    if len(queries) != len(names) or len(passages) != len(data.passages):
        raise ValueError(
            f"{len(queries)} query and {len(passages)} passage vectors for {len(names)} queries and "
            f"{len(data.passages)} passages"
        )
    _require_finite(queries, names, "query", label)
    _require_finite(passages, tuple(data.passages), "passage", label)
    if len(passages) and len(names) and queries.shape[1] != passages[:1].shape[1]:
        raise InputError(
            f"{label or 'the model'}: query vectors have {queries.shape[1]} numbers, passage vectors "
            f"{passages[:1].shape[1]}",
            "both must come from one model; encode them again",
        )
    if data.evaluation == "judged-only":
        rows = _judged_rows(data, split, names)
        return _among(data, names, rows, [queries[n] @ passages[row].T for n, row in enumerate(rows)], depth)
    scores, found = top_k(queries, passages, depth)
    return Ranking(names, tuple(data.passages), found, scores)


def bm25_ranking(data: RetrievalData, split: str, depth: int = DEPTH, index: BM25 | None = None) -> Ranking:
    """Ranking by BM25 over `Passage.content`; passages that share no word with the query are not ranked.

    Word statistics come from the whole corpus, in judged-only data too.
    """
    names = asked(data, split)
    index = index or BM25(passage.content for passage in data.passages.values())
    texts = [data.queries[name].text for name in names]
    if data.evaluation == "judged-only":
        rows = _judged_rows(data, split, names)
        scores = [index.scores(text)[row] for text, row in zip(texts, rows, strict=True)]
        return replace(_among(data, names, rows, scores, depth, above=0.0), kind="lexical")
    best, found = index.top_k(texts, min(depth, index.size))
    return Ranking(names, tuple(data.passages), found, best, "lexical")


def reordered(ranking: Ranking, scores: NDArray[np.float32]) -> Ranking:
    """The ranking with its first `scores.shape[1]` ranks put in the order of new scores; deeper ranks stay behind them.

    `scores` is `(queries, n)`. Equal new scores keep their order. The scores of the ranks behind are moved down to
    below the new ones, at their old distances.
    """
    count = min(scores.shape[1], ranking.rows.shape[1])
    if count == 0:
        return replace(ranking, kind="derived")
    there = ranking.rows[:, :count] >= 0
    scores = np.where(there, scores[:, :count], -np.inf).astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")
    rows, values = ranking.rows.copy(), ranking.values.copy()
    rows[:, :count] = np.take_along_axis(rows[:, :count], order, axis=1)
    ordered = np.take_along_axis(scores, order, axis=1)
    values[:, :count] = np.where(np.isfinite(ordered), ordered, 0)
    values[:, count:] -= ranking.values[:, count - 1 : count] - values[:, count - 1 : count]
    return replace(ranking, rows=rows, values=values, kind="derived")


def _require_finite(vectors: Blocks, names: Sequence[str], side: str, label: str) -> None:
    for start in range(0, len(vectors), _BLOCK):
        bad = np.flatnonzero(~np.isfinite(vectors[start : start + _BLOCK]).all(axis=1))
        if len(bad):
            raise InputError(
                f"{label or 'the model'}: the vector of {side} {names[start + int(bad[0])]!r} has numbers that are not "
                f"finite (NaN or infinite)",
                "the model's weights are damaged, or it computes in too small a format; train it again or use fp32",
            )


def _judged_rows(data: RetrievalData, split: str, names: Sequence[str]) -> list[NDArray[np.int64]]:
    place = {name: row for row, name in enumerate(data.passages)}
    return [np.sort([place[passage] for passage in data.qrels[split][name]]) for name in names]


def _among(
    data: RetrievalData,
    names: tuple[str, ...],
    rows: Sequence[NDArray[np.int64]],
    scores: Sequence[NDArray[np.float32]],
    depth: int,
    above: float = -np.inf,
) -> Ranking:
    """Rank candidates that differ from query to query."""
    found = np.full((len(names), depth), -1, np.int64)
    best = np.zeros((len(names), depth), np.float32)
    for n, (row, score) in enumerate(zip(rows, scores, strict=True)):
        order = np.argsort(-score, kind="stable")[:depth]
        order = order[score[order] > above]
        found[n, : len(order)], best[n, : len(order)] = row[order], score[order]
    return Ranking(names, tuple(data.passages), found, best)
