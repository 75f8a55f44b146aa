"""Who ranks what: the queries that can be asked, and the rankings of an embedding model and of BM25."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fieldtune.beir import RetrievalData
from fieldtune.encoding.search import top_k
from fieldtune.errors import InputError
from fieldtune.lexical import BM25

Kind = Literal["model", "lexical"]
DEPTH = 100
"""Ranks kept of each ranking; deeper ones are neither measured nor shown."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The top passages of each query, best first, with their scores."""

    queries: tuple[str, ...]
    passages: tuple[tuple[str, ...], ...]
    scores: tuple[tuple[float, ...], ...]
    kind: Kind = "model"
    """What made it; BM25 is a yardstick and never the base or the tuned model of a verdict."""


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


def dense_ranking(
    data: RetrievalData,
    split: str,
    queries: NDArray[np.float32],
    passages: NDArray[np.float32],
    depth: int = DEPTH,
) -> Ranking:
    """Exact ranking by inner product; equal scores go by the order of the corpus.

    `queries` is `(n, dim)`, one row for each of `asked(data, split)`; `passages` is `(m, dim)`, one row for each
    passage in corpus order. Data that are judged-only rank a query's judged passages alone.
    """
    names = asked(data, split)
    if len(queries) != len(names) or len(passages) != len(data.passages):
        raise ValueError(
            f"{len(queries)} query and {len(passages)} passage vectors for {len(names)} queries and "
            f"{len(data.passages)} passages"
        )
    if data.evaluation == "judged-only":
        rows = _judged_rows(data, split, names)
        return _among(data, names, rows, [queries[n] @ passages[row].T for n, row in enumerate(rows)], depth)
    scores, found = top_k(queries, passages, depth)
    return _ranking(data, names, found, scores)


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
    best, found = index.top_k(texts, depth)
    return replace(_ranking(data, names, found, best), kind="lexical")


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
    return _ranking(data, names, found, best)


def _ranking(
    data: RetrievalData, names: tuple[str, ...], found: NDArray[np.int64], scores: NDArray[np.float32]
) -> Ranking:
    ids = list(data.passages)
    lengths = (found >= 0).sum(axis=1).tolist()
    return Ranking(
        names,
        tuple(tuple(ids[i] for i in row[:n]) for row, n in zip(found.tolist(), lengths, strict=True)),
        tuple(tuple(row[:n]) for row, n in zip(scores.tolist(), lengths, strict=True)),
    )
