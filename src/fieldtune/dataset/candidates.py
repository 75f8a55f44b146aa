"""Where candidates for negatives come from: the model's top passages, BM25's, or both fused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding import cosines, nearest
from fieldtune.fusion import reciprocal_rank_fusion

Source = Literal["model", "bm25", "fused"]


@dataclass(frozen=True, slots=True)
class Ranked:
    """What a block of n queries finds."""

    rows: NDArray[np.int64]
    """Of the corpus, (n, up to depth), best first; -1 where there are fewer."""
    cosines: NDArray[np.float32]
    """Of the same shape, by the model that mines, whatever ranked them; 0 where there are fewer."""


Candidates = Callable[[int, int], Ranked]
"""Queries from begin to end -> what they find."""


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
    depth = min(depth, len(passage_vectors))
    search = nearest(passage_vectors, depth) if source != "bm25" else None

    def by_model(begin: int, end: int) -> Ranked:
        assert search is not None  # it is asked for by the model's sources alone
        scores, rows = search(np.asarray(query_vectors[begin:end], np.float32))
        return Ranked(rows, scores)

    if source == "model":
        return by_model
    from fieldtune.lexical import BM25

    index = BM25(texts)

    def compared(begin: int, end: int, rows: NDArray[np.int64]) -> Ranked:
        asked = np.asarray(query_vectors[begin:end], np.float32)
        return Ranked(rows, np.where(rows < 0, np.float32(0), cosines(asked, passage_vectors, np.maximum(rows, 0))))

    def by_words(begin: int, end: int) -> NDArray[np.int64]:
        return index.top_k(queries[begin:end], depth)[1]

    if source == "bm25":
        return lambda begin, end: compared(begin, end, by_words(begin, end))

    def by_both(begin: int, end: int) -> Ranked:
        lists = [by_model(begin, end).rows, by_words(begin, end)]
        return compared(begin, end, reciprocal_rank_fusion(lists, depth)[0])

    return by_both
