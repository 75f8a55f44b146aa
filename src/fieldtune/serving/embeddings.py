"""POST /v1/embeddings and GET /v1/models, as OpenAI's clients expect them."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
from fastapi import APIRouter, Response

from fieldtune.serving.engine import Vectors
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
    require_model(service, body.model)
    size = service.volume.engine.dimension
    if body.dimensions is not None and body.dimensions > size:
        raise ApiError(400, f"dimensions: this model's vectors have {size}", param="dimensions", code="too_many")
    texts = _texts(service, body.input)
    vectors, tokens = await service.vectors(texts, body.input_type)
    vectors = shortened(vectors, body.dimensions)
    data = [
        {"object": "embedding", "index": row, "embedding": written}
        for row, written in enumerate(_written(vectors, body.encoding_format))
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return as_json({"object": "list", "data": data, "model": service.name, "usage": usage})


@router.get("/v1/models", response_model=ModelList, responses=problems())
async def models(service: Served) -> Response:
    """The model that is served, what its vectors are like and what can be filtered by."""
    return as_json(ModelList(object="list", data=[_card(service)]))


@router.get("/v1/models/{model}", response_model=ModelCard, responses=problems(404))
async def model(model: str, service: Served) -> Response:
    """The same for one name."""
    require_model(service, model)
    return as_json(_card(service))


def require_model(service: Service, name: str) -> None:
    """Raises ApiError 404 for a name that is not served."""
    if name != service.name:
        raise ApiError(404, f"the model {name[:200]!r} does not exist; there is {service.name!r}", param="model",
                       code="model_not_found")  # fmt: skip


def shortened(vectors: Vectors, dimensions: int | None) -> Vectors:
    """The first `dimensions` numbers of each vector, scaled to unit length; (n, dimensions)."""
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    cut = vectors[:, :dimensions]
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    return np.asarray(cut / np.maximum(lengths, 1e-12), np.float32)


def _card(service: Service) -> ModelCard:
    index = service.volume.index
    return ModelCard(
        id=service.name,
        object="model",
        created=service.since,
        owned_by="fieldtune",
        dimensions=service.volume.engine.dimension,
        matryoshka=list(service.matryoshka),
        passages=len(index),
        columns=dict(index.columns),
        modes=["auto", *index.modes],
    )


def _texts(service: Service, given: str | list[str] | list[int] | list[list[int]]) -> list[str]:
    """The request's texts, token ids turned into the text that they stand for. Raises ApiError 400."""
    most, longest = service.settings.max_texts, service.settings.max_text
    if isinstance(given, str):
        return [clean_text(given, longest, "input")]
    if not given:
        raise ApiError(400, "input: is empty", param="input", code="empty")
    if isinstance(given[0], int):
        return [_decoded(service, [one for one in given if isinstance(one, int)], "input")]
    if len(given) > most:
        raise ApiError(400, f"input: {len(given):,} texts; at most {most:,} at once", param="input", code="too_many")
    texts = []
    for row, one in enumerate(given):
        where = f"input[{row}]"
        if isinstance(one, str):
            texts.append(clean_text(one, longest, where))
        elif isinstance(one, list):
            texts.append(_decoded(service, one, where))
    return texts


def _decoded(service: Service, ids: Sequence[int], where: str) -> str:
    if not ids or len(ids) > service.settings.max_text:
        problem = "is empty" if not ids else "has too many token ids"
        raise ApiError(400, f"{where}: {problem}", param=where, code="too_long" if ids else "empty")
    return clean_text(service.volume.engine.text_of(ids, where), 10 * service.settings.max_text, where)


def _written(vectors: Vectors, form: str | None) -> list[list[float]] | list[str]:
    if form == "base64":
        return [base64.b64encode(row.astype("<f4").tobytes()).decode("ascii") for row in vectors]
    # Eight digits: float32 has no more, as float64 it would be written with seventeen.
    rows: list[list[float]] = vectors.astype(np.float64).round(8).tolist()
    return rows
