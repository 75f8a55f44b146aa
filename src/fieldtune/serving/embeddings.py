"""POST /v1/embeddings and GET /v1/models, as OpenAI's clients expect them."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
from fastapi import APIRouter, Response

from fieldtune.serving.adapters import Adapter
from fieldtune.serving.choosing import adapter_of, modes_of
from fieldtune.serving.engine import Engine, Vectors
from fieldtune.serving.problems import ApiError
from fieldtune.serving.query_text import clean_text
from fieldtune.serving.routes import Served, as_json, problems
from fieldtune.serving.service import Service
from fieldtune.serving.shapes import EmbeddingsAnswer, EmbeddingsBody, ModelCard, ModelList

router = APIRouter(tags=["embeddings"])


@router.post("/v1/embeddings", response_model=EmbeddingsAnswer, responses=problems(404))
async def embeddings(body: EmbeddingsBody, service: Served) -> Response:
    """Unit vectors of texts, as OpenAI's endpoint gives them.

    `input_type` is ours: questions want `query`, what is searched wants `passage`, and models with two prompts find
    far less when the two are mixed up. Token ids are those of this model's tokenizer, not of OpenAI's.
    """
    adapter = adapter_of(service, body.model)
    engine = service.volume.engine if adapter is None else adapter.engine
    size = engine.dimension
    if body.dimensions is not None and body.dimensions > size:
        raise ApiError(400, f"dimensions: this model's vectors have {size}", param="dimensions", code="too_many")
    texts = _texts(service, engine, body.input)
    vectors, tokens = await service.vectors(texts, body.input_type, engine, adapter)
    vectors = shortened(vectors, body.dimensions)
    data = [
        {"object": "embedding", "index": row, "embedding": written}
        for row, written in enumerate(_written(vectors, body.encoding_format))
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return as_json({"object": "list", "data": data, "model": body.model, "usage": usage})


@router.get("/v1/models", response_model=ModelList, responses=problems())
async def models(service: Served) -> Response:
    """The index's model and the adapters: what their vectors are like, and what they can search by which columns."""
    return as_json(ModelList(object="list", data=[_card(service, one) for one in (None, *service.adapters.values())]))


@router.get("/v1/models/{model}", response_model=ModelCard, responses=problems(404))
async def model(model: str, service: Served) -> Response:
    """The same for one name."""
    return as_json(_card(service, adapter_of(service, model)))


def shortened(vectors: Vectors, dimensions: int | None) -> Vectors:
    """The first `dimensions` numbers of each vector, scaled to unit length; (n, dimensions)."""
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    cut = vectors[:, :dimensions]
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    return np.asarray(cut / np.maximum(lengths, 1e-12), np.float32)


def _card(service: Service, adapter: Adapter | None) -> ModelCard:
    index, modes = service.volume.index, modes_of(service, adapter)
    return ModelCard(
        id=service.name if adapter is None else adapter.model,
        object="model",
        created=service.since,
        owned_by="fieldtune",
        parent=None if adapter is None else adapter.parent,
        adapter=None if adapter is None else adapter.name,
        method="" if adapter is None else adapter.method,
        dimensions=(service.volume if adapter is None else adapter).engine.dimension,
        matryoshka=list(service.matryoshka) if adapter is None else [],
        passages=len(index) if modes else 0,
        columns=dict(index.columns) if modes else {},
        modes=list(modes),
    )


def _texts(service: Service, engine: Engine, given: str | list[str] | list[int] | list[list[int]]) -> list[str]:
    """The request's texts, token ids turned into the text that they stand for. Raises ApiError 400."""
    most, longest = service.settings.max_texts, service.settings.max_text
    if isinstance(given, str):
        return [clean_text(given, longest, "input")]
    if not given:
        raise ApiError(400, "input: is empty", param="input", code="empty")
    if isinstance(given[0], int):
        return [_decoded(service, engine, [one for one in given if isinstance(one, int)], "input")]
    if len(given) > most:
        raise ApiError(400, f"input: {len(given):,} texts; at most {most:,} at once", param="input", code="too_many")
    texts = []
    for row, one in enumerate(given):
        where = f"input[{row}]"
        if isinstance(one, str):
            texts.append(clean_text(one, longest, where))
        elif isinstance(one, list):
            texts.append(_decoded(service, engine, one, where))
    return texts


def _decoded(service: Service, engine: Engine, ids: Sequence[int], where: str) -> str:
    if not ids or len(ids) > service.settings.max_text:
        problem = "is empty" if not ids else "has too many token ids"
        raise ApiError(400, f"{where}: {problem}", param=where, code="too_long" if ids else "empty")
    return clean_text(engine.text_of(ids, where), 10 * service.settings.max_text, where)


def _written(vectors: Vectors, form: str | None) -> list[list[float]] | list[str]:
    if form == "base64":
        return [base64.b64encode(row.astype("<f4").tobytes()).decode("ascii") for row in vectors]
    # Eight digits: float32 has no more, as float64 it would be written with seventeen.
    rows: list[list[float]] = vectors.astype(np.float64).round(8).tolist()
    return rows
