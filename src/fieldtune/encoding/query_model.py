"""A query adapter as part of a Sentence Transformers model: queries pass it, passages do not."""

from __future__ import annotations

from typing import Any

import numpy as np

from fieldtune.encoding.encoder import Encoder
from fieldtune.encoding.query_adapter import QueryAdapter
from fieldtune.workspace import digest

_BETWEEN = "inner_query_vector"


def with_query_adapter(encoder: Encoder, adapter: QueryAdapter) -> Encoder:
    """An encoder whose queries pass the adapter; passages get the vectors they had.

    Its model is made of Sentence Transformers' own modules alone: those of the encoder's, then a Router. Saved, it
    loads as a plain model: `encode_query` uses the adapter, `encode_document` does not.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Router

    model = encoder.model
    router = Router.for_query_document([Normalize(), *_layers(adapter), Normalize()], [Normalize()])
    prompts = {"query": encoder.prompts["query"], "document": encoder.prompts["passage"]}
    routed = SentenceTransformer(modules=[*model.children(), router], prompts=prompts, device=str(model.device))
    made = Encoder(
        routed,
        name=encoder.name,
        fingerprint=digest([encoder.fingerprint, adapter.digest()]),
        precision=encoder.precision,
        tokens=encoder.tokens,
        shares_weights=encoder.shares_weights,
    )
    made.passage_fingerprint = encoder.passage_fingerprint
    return made


def _layers(adapter: QueryAdapter) -> list[Any]:
    """Dense layers that compute what `adapter.apply` does.

    The residual around an inner layer is written into the two matrices, for x = relu(x) - relu(-x).
    """
    import torch
    from sentence_transformers.sentence_transformer.modules import Dense

    size = adapter.dimension
    outer_bias = torch.from_numpy(adapter.outer_bias)
    if adapter.inner is None or adapter.inner_bias is None:
        outer = torch.from_numpy(adapter.outer)
        return [Dense(size, size, True, torch.nn.Identity(), outer, outer_bias, use_residual=True)]
    whole, none = np.eye(size, dtype=np.float32), np.zeros(2 * size, np.float32)
    inner = torch.from_numpy(np.concatenate([whole, -whole, adapter.inner]))
    inner_bias = torch.from_numpy(np.concatenate([none, adapter.inner_bias]))
    outer = torch.from_numpy(np.concatenate([whole, -whole, adapter.outer], axis=1))
    width = len(inner)
    return [
        Dense(size, width, True, torch.nn.ReLU(), inner, inner_bias, module_output_name=_BETWEEN),
        Dense(
            width, size, True, torch.nn.Identity(), outer, outer_bias,
            module_input_name=_BETWEEN, module_output_name="sentence_embedding",
        ),
    ]  # fmt: skip
