"""The way back: does a search with the made query lead to the passage that it was made from?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding import Encoder, cached_vectors, top_k
from fieldtune.lexical import BM25
from fieldtune.types import Passage, Qrels, Query

_CONSTANT = 60
"""Of reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009)."""


def unanswered(
    queries: Mapping[str, Query],
    qrels: Qrels,
    passages: Mapping[str, Passage],
    encoder: Encoder,
    vectors: Path,
    k: int,
) -> dict[str, dict[str, int]]:
    """Query id -> its passages that are not among the first k of the fused ranking, with their ranks (0: not ranked).

    The vectors of the passages are those that mining uses, and are kept in the same folder.
    """
    ids = list(passages)
    place = {key: row for row, key in enumerate(ids)}
    texts = [passage.content for passage in passages.values()]
    asked = [query.text for query in queries.values()]
    depth = min(len(ids), max(100, 2 * k))
    _, dense = top_k(
        cached_vectors(encoder, asked, "query", vectors, label="encoding made queries (base model)"),
        cached_vectors(encoder, texts, "passage", vectors, label="encoding passages (base model)"),
        depth,
    )
    _, lexical = BM25(texts).top_k(asked, depth)
    missed: dict[str, dict[str, int]] = {}
    for number, key in enumerate(queries):
        ranks = fused_ranks([dense[number], lexical[number]])
        far = {passage: ranks.get(place[passage], 0) for passage in qrels[key]}
        far = {passage: rank for passage, rank in far.items() if not 1 <= rank <= k}
        if far:
            missed[key] = far
    return missed


def fused_ranks(rankings: Sequence[NDArray[np.int64]]) -> dict[int, int]:
    """Row -> rank (from 1) by the sum of 1 / (60 + rank) over the rankings; -1 in a ranking is no row."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for position, row in enumerate(ranking.tolist(), 1):
            if row >= 0:
                scores[row] = scores.get(row, 0.0) + 1 / (_CONSTANT + position)
    order = sorted(scores, key=lambda row: (-scores[row], row))
    return {row: rank for rank, row in enumerate(order, 1)}
