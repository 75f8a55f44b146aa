"""POST /v1/rerank: a cross-encoder reads question and text together."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Response

from fieldtune.serving.batching import Batcher
from fieldtune.serving.problems import ApiError
from fieldtune.serving.query_text import clean_query, clean_text
from fieldtune.serving.routes import Served, as_json, problems
from fieldtune.serving.shapes import RerankAnswer, RerankBody, Reranked
from fieldtune.types import Hit

log = logging.getLogger(__name__)
router = APIRouter(tags=["search"])
_PIECE = 16
"""Pairs read in one pass."""
_WAITING = 4_000


class CrossEncoder:
    """A cross-encoder and the thread that it works in."""

    def __init__(self, model: Any, name: str) -> None:
        self._model, self.name = model, name
        self._queue: Batcher[tuple[str, Sequence[str]], list[float]] = Batcher(
            "reranker", self._score, batch=1, most=_WAITING
        )

    @classmethod
    def load(cls, name: str) -> CrossEncoder:
        """Load a folder or hub id. Raises ModelError when it is not a cross-encoder with one score."""
        from fieldtune.evaluation.rerank import Reranker

        return cls(Reranker.load(name).model, name)

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """Relevance of each text, any real number, higher is better. Raises ApiError 503 when too much waits."""
        self._queue.require_room(len(texts))
        out: list[float] = []
        for begin in range(0, len(texts), _PIECE):
            piece = texts[begin : begin + _PIECE]
            out += await self._queue.submit((query, piece), kind=None, weight=len(piece))
        return out

    async def close(self) -> None:
        await self._queue.close()

    def _score(self, _: Hashable, items: Sequence[tuple[str, Sequence[str]]]) -> Sequence[list[float]]:
        import torch

        pairs = [(query, text) for query, texts in items for text in texts]
        # Logits: the sigmoid that many models end in makes all sure answers equal in float32.
        found = self._model.predict(pairs, show_progress_bar=False, activation_fn=torch.nn.Identity())
        scores = iter([float(score) for score in found.ravel().tolist()])
        return [[next(scores) for _ in texts] for _, texts in items]


@router.post("/v1/rerank", response_model=RerankAnswer, responses=problems(404, 501))
async def rerank(body: RerankBody, service: Served) -> Response:
    """Put texts in the order in which they answer a question, as Cohere's and Jina's endpoints do."""
    reranker = service.require_reranker("model")
    if body.model is not None and body.model != reranker.name:
        raise ApiError(404, f"the model {body.model[:200]!r} does not exist; there is {reranker.name!r}", param="model",
                       code="model_not_found")  # fmt: skip
    query = clean_query(body.query, service.settings.max_query)
    texts = [
        clean_text(one if isinstance(one, str) else one.text, service.settings.max_text, f"documents[{row}]")
        for row, one in enumerate(body.documents)
    ]
    scores = await reranker.scores(query, texts)
    order = sorted(range(len(texts)), key=lambda row: (-scores[row], row))[: body.top_n]
    results = [
        Reranked(
            index=row,
            relevance_score=round(_share(scores[row]), 6),
            document={"text": texts[row]} if body.return_documents else None,
        )
        for row in order
    ]
    return as_json(RerankAnswer(id=f"rerank-{secrets.token_hex(8)}", model=reranker.name, results=results))


async def rerank_hits(reranker: CrossEncoder, query: str, hits: Sequence[Hit]) -> list[Hit]:
    """The hits in the cross-encoder's order, its score in place of theirs and among their parts."""
    scores = await reranker.scores(query, [hit.passage.content for hit in hits])
    order = sorted(range(len(hits)), key=lambda row: (-scores[row], hits[row].rank))
    return [
        replace(hits[row], rank=rank, score=scores[row], parts={**hits[row].parts, "rerank": scores[row]})
        for rank, row in enumerate(order, 1)
    ]


def _share(score: float) -> float:
    """Between 0 and 1, as clients of these endpoints expect it."""
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, score))))
