"""A query adapter as part of a Sentence Transformers model: queries pass it, passages do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fieldtune.encoding import Encoder, QueryAdapter, cached_vectors
from fieldtune.errors import ModelError
from fieldtune.training.adapting import record_of
from fieldtune.training.checkpoint import Progressed
from fieldtune.training.development import dev_queries
from fieldtune.training.loop import Recipe
from fieldtune.training.pairs import Pairs
from fieldtune.training.query_side import FixedDevelopment, fit_query_adapter
from fieldtune.beir import RetrievalData
from fieldtune.workspace import atomic_folder

_SAME = 0.9999  # least cosine between vectors of the saved folder and what they should be
_BETWEEN = "inner_query_vector"


def tune_queries(
    encoder: Encoder, data: RetrievalData, pairs: Pairs, recipe: Recipe, vectors: Path
) -> tuple[QueryAdapter, Progressed]:
    """Train a query adapter on the encoder's own vectors, kept in the folder `vectors`; the encoder stays as it is.

    Raises ModelError for a model that has a query layer already.
    """
    if encoder.routed:
        raise ModelError(f"{encoder.name} has a layer for queries already", "give the model that it was made of")
    queries = cached_vectors(encoder, pairs.queries, "query", vectors, label="encoding training queries")
    passages = cached_vectors(encoder, pairs.passages, "passage", vectors, label="encoding training passages")
    development = None
    chosen = dev_queries(data, recipe.settings.dev_queries, recipe.seed)
    if chosen:
        place = {passage: row for row, passage in enumerate(data.passages)}
        corpus = [passage.content for passage in data.passages.values()]
        development = FixedDevelopment(
            cached_vectors(encoder, [data.queries[query].text for query in chosen], "query", vectors),
            cached_vectors(encoder, corpus, "passage", vectors, label="encoding passages"),
            [{place[p]: grade for p, grade in data.qrels["dev"][query].items()} for query in chosen],
            data.relevance_threshold,
        )
    return fit_query_adapter(queries, passages, pairs, recipe, development)


def save_query_model(encoder: Encoder, adapter: QueryAdapter, folder: Path, probe: list[str]) -> None:
    """Save the encoder's model with the adapter in front of its queries, and the adapter alone as `folder/adapter`.

    The folder is a plain Sentence Transformers model: `encode_query` uses the adapter, `encode_document` gives the
    base's vectors. It is kept only if, loaded afresh, it does so for the texts of `probe`; else ModelError.
    """
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    expected = {"query": adapter.apply(encoder.encode(probe, "query")), "passage": encoder.encode(probe, "passage")}
    record = record_of(encoder, "query")
    with atomic_folder(folder) as temporary, torch.inference_mode():
        with_query_adapter(encoder.model, adapter).save(str(temporary))
        adapter.save(temporary / "adapter", record)
        saved = Encoder.load(str(temporary), precision=encoder.precision)
        for side, wanted in (("query", expected["query"]), ("passage", expected["passage"])):
            found = saved.encode(probe, "query" if side == "query" else "passage")
            cosine = float(np.einsum("ij,ij->i", found, wanted).min())
            if cosine < _SAME:
                raise ModelError(
                    f"the saved model gives other {side} vectors than the trained one (cosine {cosine:.5f})",
                    "this is a bug in saving or in the model's own code; the model was not kept",
                )


def with_query_adapter(model: Any, adapter: QueryAdapter) -> Any:
    """A Sentence Transformers model of stock modules alone: `model`'s, then a Router with the adapter for queries.

    The residual around an inner layer is written into the two matrices, for x = relu(x) - relu(-x).
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Router

    size = adapter.dimension
    outer_bias = torch.from_numpy(adapter.outer_bias)
    layers: list[Any] = [Normalize()]
    if adapter.inner is None or adapter.inner_bias is None:
        outer = torch.from_numpy(adapter.outer)
        layers.append(Dense(size, size, True, torch.nn.Identity(), outer, outer_bias, use_residual=True))
    else:
        whole, none = np.eye(size, dtype=np.float32), np.zeros(2 * size, np.float32)
        inner = torch.from_numpy(np.concatenate([whole, -whole, adapter.inner]))
        inner_bias = torch.from_numpy(np.concatenate([none, adapter.inner_bias]))
        outer = torch.from_numpy(np.concatenate([whole, -whole, adapter.outer], axis=1))
        width = len(inner)
        layers.append(Dense(size, width, True, torch.nn.ReLU(), inner, inner_bias, module_output_name=_BETWEEN))
        layers.append(
            Dense(
                width, size, True, torch.nn.Identity(), outer, outer_bias,
                module_input_name=_BETWEEN, module_output_name="sentence_embedding",
            )
        )  # fmt: skip
    router = Router.for_query_document([*layers, Normalize()], [Normalize()])
    return SentenceTransformer(modules=[*model.children(), router], prompts=model.prompts, device=str(model.device))
