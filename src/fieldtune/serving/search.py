"""POST /v1/search and /v1/similarity."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np
from fastapi import APIRouter, Response

from fieldtune.serving.adapters import Adapter
from fieldtune.serving.choosing import adapter_of, search_adapter
from fieldtune.serving.found import all_found
from fieldtune.serving.library import similarity
from fieldtune.serving.problems import ApiError
from fieldtune.serving.query_text import clean_query, clean_text
from fieldtune.serving.rerank import rerank_hits
from fieldtune.serving.routes import Served, as_json, problems
from fieldtune.serving.service import Service
from fieldtune.serving.shapes import SearchAnswer, SearchBody, SimilarityAnswer, SimilarityBody
from fieldtune.types import Hit

log = logging.getLogger(__name__)
router = APIRouter(tags=["search"])
_RERANKED = 50
"""Hits that the cross-encoder reads at least."""
_VALUES = 1_000
"""Of one column of a filter."""
_LONGEST_VALUE = 4_000


@router.post("/v1/search", response_model=SearchAnswer, responses=problems(404, 501))
async def search(body: SearchBody, service: Served) -> Response:
    """The passages that answer a question, best first, with document and page."""
    began = time.perf_counter()
    query = clean_query(body.query, service.settings.max_query)
    adapter = None if body.adapter is None else search_adapter(service, body.adapter, body.mode)
    hits = await find(service, query, body.k, body.mode, where_of(body.where), rerank=body.rerank, adapter=adapter)
    return as_json(
        SearchAnswer(
            results=all_found(hits, query if body.highlight else ""),
            mode=body.mode,
            found=is_found(service, hits) if adapter is None else None,  # its cosines have another scale
            milliseconds=round(1000 * (time.perf_counter() - began), 2),
        )
    )


@router.post("/v1/similarity", response_model=SimilarityAnswer, responses=problems(404))
async def similarities(body: SimilarityBody, service: Served) -> Response:
    """The cosine of each text of one list with each of another."""
    longest = service.settings.max_text
    model = service.name if body.model is None else body.model
    adapter, sides, engine = adapter_of(service, model), [], service.volume.engine
    for name, texts, side in (("first", body.first, body.first_type), ("second", body.second, body.second_type)):
        cleaned = [clean_text(text, longest, f"{name}[{row}]") for row, text in enumerate(texts)]
        sides.append((await service.vectors(cleaned, side, engine, adapter))[0])
    scores = np.clip(sides[0] @ sides[1].T, -1, 1)
    return as_json(SimilarityAnswer(scores=scores.astype(np.float64).round(6).tolist(), model=model))


async def find(
    service: Service,
    query: str,
    k: int,
    mode: str,
    where: dict[str, Any] | None,
    *,
    rerank: bool,
    adapter: Adapter | None = None,
) -> list[Hit]:
    """Hits for a cleaned query within the service's limits. Raises ApiError."""
    began = time.perf_counter()
    most = service.settings.max_results
    if k > most:
        raise ApiError(400, f"k: at most {most} passages at once", param="k", code="too_many")
    if rerank:
        reranker = service.require_reranker("rerank")
        candidates = await service.search(query, min(max(k, _RERANKED), most), mode, where, adapter)
        hits = (await rerank_hits(reranker, query, candidates))[:k]
    else:
        hits = await service.search(query, k, mode, where, adapter)
    if service.settings.log_queries:
        # As Python writes it: a query cannot end the line and begin one of its own.
        log.info("asked %r: %d passages, %.1f ms", query, len(hits), 1000 * (time.perf_counter() - began))
    return hits


def is_found(service: Service, hits: list[Hit]) -> bool | None:
    """Whether the best of these hits is as similar as right passages are; None where that is not known."""
    threshold, best = service.volume.threshold, similarity(hits)
    return None if threshold is None or best is None else best >= threshold.cut


def where_of(where: Any) -> dict[str, Any] | None:
    """The filter as the index takes it. Raises ApiError 400 for one that is too large, and for an empty range."""
    if not where:
        return None
    plain = {}
    for column, wanted in where.items():
        if hasattr(wanted, "model_dump"):
            wanted = {name: end for name, end in wanted.model_dump(by_alias=True).items() if end is not None}
            if not wanted:
                raise ApiError(400, f"where.{column[:80]}: a range needs from or to", param="where", code="empty")
        given = wanted if isinstance(wanted, list) else [*wanted.values()] if isinstance(wanted, dict) else [wanted]
        if len(given) > _VALUES or any(isinstance(one, str) and len(one) > _LONGEST_VALUE for one in given):
            why = f"at most {_VALUES:,} values of {_LONGEST_VALUE:,} characters each"
            raise ApiError(400, f"where.{column[:80]}: {why}", param="where", code="too_long")
        plain[column] = wanted
    return plain
