"""Where candidates for negatives come from: the model's top passages, BM25's, or both fused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding import top_k

Source = Literal["model", "bm25", "fused"]
Candidates = Callable[[int, int], NDArray[np.int64]]
"""Queries from begin to end -> rows of the corpus, (end - begin, up to depth), best first; -1 where there are fewer."""

_SMOOTH = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)."""


def candidates_from(
    source: Source,
    queries: Sequence[str],
    texts: Sequence[str],
    query_vectors: NDArray[np.float32],
    passage_vectors: NDArray[np.float32],
    depth: int,
) -> Candidates:
    """A function that ranks the corpus for a block of queries; only the scores of one block exist at a time.

    `query_vectors` (n, dim) and `passage_vectors` (m, dim) are unit vectors and may be memory-mapped. The BM25 index is
    built here, once, and only where it is asked for.
    """

    def by_model(begin: int, end: int) -> NDArray[np.int64]:
        return top_k(np.asarray(query_vectors[begin:end], np.float32), passage_vectors, depth)[1]

    if source == "model":
        return by_model
    from fieldtune.lexical import BM25

    index = BM25(texts)

    def by_words(begin: int, end: int) -> NDArray[np.int64]:
        return index.top_k(queries[begin:end], min(depth, len(texts)))[1]

    if source == "bm25":
        return by_words
    return lambda begin, end: fuse([by_model(begin, end), by_words(begin, end)], depth)


def fuse(rankings: Sequence[NDArray[np.int64]], depth: int) -> NDArray[np.int64]:
    """Reciprocal rank fusion of rankings of the same queries, each (n, k); ties go to the lower row."""
    count = len(rankings[0])
    fused = np.full((count, depth), -1, np.int64)
    for query in range(count):
        scores: dict[int, float] = {}
        for ranking in rankings:
            for rank, row in enumerate(ranking[query].tolist(), 1):
                if row >= 0:
                    scores[row] = scores.get(row, 0.0) + 1 / (_SMOOTH + rank)
        best = sorted(scores, key=lambda row: (-scores[row], row))[:depth]
        fused[query, : len(best)] = best
    return fused
