"""An approximate index earns its place: its recall is measured against exact search before it is used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding import top_k
from fieldtune.index.table import nearest

K = 10
_SAMPLE = 200
"""Queries measured: at recall 0.95 the standard error is then below 0.01."""
_TIE = 1e-5
"""Scores this close count as equal: which of two duplicate passages is found does not matter."""


@dataclass(frozen=True, slots=True)
class Approximate:
    partitions: int
    nprobes: int
    """Partitions read per query; 0 says that no setting was good enough and search stays exact."""
    recall: float
    """Recall@10 against exact search with the last setting tried."""
    queries: int
    queries_are: str


def build_approximate(
    table: Any,
    vectors: NDArray[np.float32],
    query_vectors: NDArray[np.float32] | None,
    *,
    min_recall: float,
    seed: int,
) -> Approximate:
    """Index the table by inverted lists and read as many lists per query as `min_recall` takes.

    The lists hold the full vectors (IVF-Flat), so the scores of what is found are exact. With more than half of the
    lists to read there is nothing left to gain, and the index is dropped. Where no query vectors are given, sampled
    passages stand in, each looking for its neighbours.
    """
    from lancedb.index import IvfFlat

    asked, own, what = _sample(vectors, query_vectors, seed)
    depth = min(K, len(vectors) - own)
    # A passage finds itself first in both searches; one more is asked for, and that one is not counted.
    exact = top_k(asked, vectors, depth + own)[0][:, -1]
    partitions = max(2, round(math.sqrt(len(vectors))))
    table.create_index("vector", config=IvfFlat(distance_type="dot", num_partitions=partitions))
    nprobes, recall = max(1, partitions // 32), 0.0
    while True:
        recall = _recall(table, asked, exact, depth, own, nprobes)
        if recall >= min_recall:
            return Approximate(partitions, nprobes, recall, len(asked), what)
        if nprobes * 2 > partitions // 2:
            break
        nprobes *= 2
    for index in table.list_indices():
        table.drop_index(index.name)
    return Approximate(partitions, 0, recall, len(asked), what)


def _sample(
    vectors: NDArray[np.float32], query_vectors: NDArray[np.float32] | None, seed: int
) -> tuple[NDArray[np.float32], int, str]:
    """The vectors to ask with, 1 if each is itself in the index else 0, and what they are."""
    given = query_vectors is not None and len(query_vectors) > 0
    source = query_vectors if given and query_vectors is not None else vectors
    rows = np.sort(np.random.default_rng(seed).permutation(len(source))[:_SAMPLE])
    return source[rows], 0 if given else 1, "queries" if given else "sampled passages"


def _recall(
    table: Any, asked: NDArray[np.float32], exact: NDArray[np.float32], depth: int, own: int, nprobes: int
) -> float:
    found = 0
    for vector, worst in zip(asked, exact, strict=True):
        rows = nearest(table, vector, depth + own, nprobes=nprobes, columns=("id",))
        right = sum(row["score"] >= worst - _TIE for row in rows)
        found += max(0, right - own)
    return found / (depth * len(asked))
