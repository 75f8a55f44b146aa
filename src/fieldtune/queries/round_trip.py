"""The way back: does a search with the made query lead to the passage that it was made from?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fieldtune.config import Encoding
from fieldtune.encoding import Encoder, cached_vectors, corpus_vectors, top_k
from fieldtune.fusion import reciprocal_rank_fusion
from fieldtune.lexical import BM25
from fieldtune.types import Passage, Qrels, Query


def unanswered(
    queries: Mapping[str, Query],
    qrels: Qrels,
    passages: Mapping[str, Passage],
    encoder: Encoder,
    vectors: Path,
    k: int,
    encoding: Encoding | None = None,
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
        corpus_vectors(encoder, texts, vectors, encoding, label="encoding passages (base model)").vectors,
        depth,
    )
    _, lexical = BM25(texts).top_k(asked, depth)
    fused, _ = reciprocal_rank_fusion([dense, lexical], 2 * depth)
    missed: dict[str, dict[str, int]] = {}
    for key, ranked in zip(queries, fused.tolist(), strict=True):
        ranks = {row: rank for rank, row in enumerate(ranked, 1) if row >= 0}
        far = {passage: ranks.get(place[passage], 0) for passage in qrels[key]}
        far = {passage: rank for passage, rank in far.items() if not 1 <= rank <= k}
        if far:
            missed[key] = far
    return missed
