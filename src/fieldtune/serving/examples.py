"""Requests for the OpenAPI that this very server answers: with its model, its columns, its tokenizer's ids."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fieldtune.errors import FieldtuneError
from fieldtune.serving.choosing import modes_of
from fieldtune.serving.service import Service

log = logging.getLogger(__name__)

Examples = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Address -> what the request does -> its body."""

_QUESTION = "How long is the notice period, and who may give notice?"
_PASSAGE = "The notice period is three months."
_CLAUSES = {
    "notice": (
        "Notice must be given three months before.",
        "Written notice ends the lease.",
        "A notice period of four weeks applies.",
    ),
    "deposit": (
        "The deposit is two months' rent.",
        "The landlord returns the deposit.",
        "No deposit is due for storage rooms.",
    ),
}


def examples_of(service: Service) -> Examples:
    """At least one for each address that takes a body."""
    question: dict[str, Any] = {"query": _QUESTION}
    search: dict[str, dict[str, Any]] = {
        "the usual search": question,
        "by words alone, five passages, without places to highlight": question
        | {"k": 5, "mode": "words", "highlight": False},
    }
    answer: dict[str, dict[str, Any]] = {
        "an answer in one piece": {"question": _QUESTION},
        "from three passages, as it is written": {"question": _QUESTION, "k": 3, "stream": True},
    }
    for name, where in _filters(service).items():
        search[name] = question | {"where": where}
        answer[name] = {"question": _QUESTION, "where": where}
    if service.reranker is not None:
        search["the first results put in order by the reranker"] = question | {"rerank": True}
    for name, one in service.adapters.items():
        if modes := modes_of(service, one):
            search["asked with an adapter"] = question | {"adapter": name, "mode": modes[0]}
            break
    texts = [_PASSAGE, "Notice must be given in 3 months."]
    pair: dict[str, Any] = {"first": [_QUESTION], "second": texts, "first_type": "query"}
    similarity = {"a question with two passages": pair}
    if adapter := next(iter(service.adapters.values()), None):
        similarity["by an adapter"] = pair | {"model": adapter.model}
    return {
        "/v1/search": search,
        "/v1/answer": answer,
        "/v1/embeddings": _embeddings(service, texts),
        "/v1/similarity": similarity,
        "/v1/rerank": {
            "texts": question | {"documents": texts},
            "the best one alone, with its text": question
            | {"documents": [{"text": text} for text in texts], "top_n": 1, "return_documents": True},
        },
        "/v1/classify": {
            "clauses by kind": {
                "examples": [{"text": text, "label": label} for label, given in _CLAUSES.items() for text in given],
                "texts": ["When may the tenant give notice?"],
                "abstain_below": 0.4,
            }
        },
        "/v1/duplicates": {
            "among texts": {"texts": [*texts, "Rent is due monthly."]},
            "between two lists, from a cosine on": {"texts": texts, "against": [_PASSAGE], "threshold": 0.8},
        },
        "/v1/outliers": {
            "texts of one kind": {"texts": [*(f"Invoice {number} for office rent." for number in range(12)), "A whale"]}
        },
    }


def show_examples(schema: dict[str, Any], examples: Examples) -> None:
    """Put them into an OpenAPI document, each under its request's body."""
    for path, named in examples.items():
        body = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        body["examples"] = {name.replace(" ", "-").replace(",", ""): {"summary": name, "value": value}
                            for name, value in named.items()}  # fmt: skip


def _embeddings(service: Service, texts: list[str]) -> dict[str, dict[str, Any]]:
    model: dict[str, Any] = {"model": service.name}
    size = service.matryoshka[0] if service.matryoshka else max(1, service.volume.engine.dimension // 2)
    found = {
        "a question": model | {"input": _QUESTION, "input_type": "query"},
        "passages, as base64": model | {"input": texts, "encoding_format": "base64"},
        "shorter vectors": model | {"input": texts, "dimensions": size},
    }
    if adapter := next(iter(service.adapters.values()), None):
        found["by an adapter"] = {"model": adapter.model, "input": texts}
    ids = service.volume.engine.ids_of(_PASSAGE)
    if ids:
        found["token ids of this model's own tokenizer"] = model | {"input": [ids]}
    return found


def _filters(service: Service) -> dict[str, dict[str, Any]]:
    """One filter by value and one by range, of the columns that there are."""
    index = service.volume.index
    found: dict[str, dict[str, Any]] = {}
    try:
        for column, kind in index.columns.items():
            values = index.values(column)
            if not values:
                continue
            if kind in ("text", "texts") and "filtered by value" not in found:
                found["filtered by value"] = {column: list(values[:2])}
            elif kind == "date" and "filtered by range" not in found:
                found["filtered by range"] = {column: {"from": values[0], "to": values[-1]}}
            elif kind == "number" and "filtered by range" not in found:
                found["filtered by range"] = {column: {"from": float(values[0])}}
            if len(found) == 2:
                break
    except (FieldtuneError, OSError) as error:  # the server says so to those who ask
        log.warning("no examples of filters: %s", type(error).__name__)
    return found
