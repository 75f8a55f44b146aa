"""What an embedding model ranks, its vectors kept on disk so that each corpus is encoded once per model."""

from __future__ import annotations

from pathlib import Path

from fieldtune.beir import RetrievalData
from fieldtune.encoding import Encoder, cached_vectors
from fieldtune.evaluation.rankings import Ranking, asked, dense_ranking


def model_ranking(encoder: Encoder, data: RetrievalData, split: str, vectors: Path, *, label: str) -> Ranking:
    """The exact ranking of a split's queries; `vectors` is the folder of encoded texts, `label` names the model in
    the progress line."""
    queries = [data.queries[query].text for query in asked(data, split)]
    passages = [passage.content for passage in data.passages.values()]
    return dense_ranking(
        data,
        split,
        cached_vectors(encoder, queries, "query", vectors, label=f"encoding {split} queries ({label})"),
        cached_vectors(encoder, passages, "passage", vectors, label=f"encoding passages ({label})"),
    )
