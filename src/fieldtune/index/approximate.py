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
"""Queries measured: at recall 0.99 the standard error is then below 0.005."""
_TIE = 1e-5
"""Scores this close count as equal: which of two duplicate passages is found does not matter."""


@dataclass(frozen=True, slots=True)
class Measured:
    """How much of the exact top 10 a faster search finds."""

    recall: float
    queries: int
    queries_are: str
    """Real queries, or sampled passages where there are none, each looking for its neighbours."""


@dataclass(frozen=True, slots=True)
class Approximate:
    partitions: int
    nprobes: int
    """Partitions read per query; 0 says that no setting was good enough and search stays exact."""
    measured: Measured
    """With the last setting tried."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Vectors to ask with, and the score that a passage of their exact top 10 has at least."""

    vectors: NDArray[np.float32]
    own: int
    """1 if each is itself in the index: it is found first, and not counted; else 0."""
    depth: int
    least: NDArray[np.float32]
    what: str

    def recall(self, find: Any, passages: NDArray[np.float32]) -> Measured:
        """`find` gives the rows of `depth + own` passages for a vector."""
        found = 0
        for vector, least in zip(self.vectors, self.least, strict=True):
            scores = np.asarray(passages[find(vector, self.depth + self.own)]) @ vector
            found += max(0, int((scores >= least - _TIE).sum()) - self.own)
        return Measured(found / (self.depth * len(self.vectors)), len(self.vectors), self.what)


def sample(vectors: NDArray[np.float32], query_vectors: NDArray[np.float32] | None, seed: int) -> Sample:
    """Up to 200 of the query vectors, or of the passages' own where none are given, with their exact top 10."""
    given = query_vectors is not None and len(query_vectors) > 0
    source = query_vectors if given and query_vectors is not None else vectors
    own = 0 if given else 1
    rows = np.sort(np.random.default_rng(seed).permutation(len(source))[:_SAMPLE])
    asked, depth = np.asarray(source[rows], np.float32), min(K, len(vectors) - own)
    least = top_k(asked, vectors, depth + own)[0][:, -1]
    return Sample(asked, own, depth, least, "queries" if given else "sampled passages")


def build_approximate(table: Any, vectors: NDArray[np.float32], asked: Sample, *, min_recall: float) -> Approximate:
    """Index the table by inverted lists and read as many lists per query as `min_recall` takes.

    The lists hold the full vectors (IVF-Flat), so the scores of what is found are exact. With more than half of the
    lists to read there is nothing left to gain, and the index is dropped.
    """
    from lancedb.index import IvfFlat

    partitions = max(2, round(math.sqrt(len(vectors))))
    table.create_index("vector", config=IvfFlat(distance_type="dot", num_partitions=partitions))
    nprobes = max(1, partitions // 64)
    while True:
        measured = asked.recall(lambda vector, k, lists=nprobes: nearest(table, vector, k, nprobes=lists), vectors)
        if measured.recall >= min_recall:
            return Approximate(partitions, nprobes, measured)
        if nprobes * 3 // 2 >= partitions // 2:
            break
        nprobes = max(nprobes + 1, nprobes * 3 // 2)
    for index in table.list_indices():
        table.drop_index(index.name)
    return Approximate(partitions, 0, measured)
