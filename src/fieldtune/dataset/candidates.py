"""Where candidates for negatives come from: the model's top passages, BM25's, or both fused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding import nearest
from fieldtune.fusion import reciprocal_rank_fusion

Source = Literal["model", "bm25", "fused"]
Candidates = Callable[[int, int], NDArray[np.int64]]
"""Queries from begin to end -> rows of the corpus, (end - begin, up to depth), best first; -1 where there are fewer."""


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
    search = nearest(passage_vectors, min(depth, len(passage_vectors))) if source != "bm25" else None

    def by_model(begin: int, end: int) -> NDArray[np.int64]:
        assert search is not None  # it is asked for by the model's sources alone
        return search(np.asarray(query_vectors[begin:end], np.float32))[1]

    if source == "model":
        return by_model
    from fieldtune.lexical import BM25

    index = BM25(texts)

    def by_words(begin: int, end: int) -> NDArray[np.int64]:
        return index.top_k(queries[begin:end], min(depth, len(texts)))[1]

    if source == "bm25":
        return by_words
    return lambda begin, end: reciprocal_rank_fusion([by_model(begin, end), by_words(begin, end)], depth)[0]
