"""Vectors of a batch with gradients: sub-batches of like length, in the ways that suit the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.encoder import Encoder, embed
from fieldtune.encoding.precision import autocast
from fieldtune.encoding.tokens import TokenStore, budgeted
from fieldtune.training.processor import fast_passes

if TYPE_CHECKING:
    import torch

# Padded tokens per forward pass. Small passes stay in a processor's cache: training MiniLM on passages of 36 tokens,
# 1,024 were 1.4 times as fast as 4,096; on passages of 250 tokens there was no difference.
_BUDGET = {"cpu": 1_024, "cuda": 131_072}
# With a gradient cache the activations of one pass are all there is in memory at a time.
_CACHED_BUDGET = {"cpu": 1_024, "cuda": 32_768}


def embed_rows(encoder: Encoder, store: TokenStore, rows: NDArray[np.int64]) -> torch.Tensor:
    """Embeddings of the rows in order, (len(rows), dimension)."""
    import torch

    if not len(rows):
        return torch.zeros(0, encoder.dimension, device=encoder.model.device)
    parts = sub_batches(encoder, store, rows, cached=False)
    output = torch.cat([embed_part(encoder, store, rows[part]) for part in parts])
    back = np.empty(len(rows), np.int64)
    back[np.concatenate(parts)] = np.arange(len(rows))
    return output[torch.from_numpy(back).to(output.device)]


def sub_batches(
    encoder: Encoder, store: TokenStore, rows: NDArray[np.int64], *, cached: bool
) -> list[NDArray[np.int64]]:
    """Places in `rows` that go through the model together, longest first."""
    budget = _CACHED_BUDGET if cached else _BUDGET
    return budgeted(store.lengths[rows], budget["cuda" if encoder.device.startswith("cuda") else "cpu"])


def embed_part(encoder: Encoder, store: TokenStore, rows: NDArray[np.int64]) -> torch.Tensor:
    """One forward pass in the encoder's precision, float32 out."""
    assert encoder.tokens is not None  # the training stage has checked
    with autocast(encoder.precision, encoder.device), fast_passes(encoder):
        return embed(encoder.model, store, rows, encoder.tokens.pad).float()
