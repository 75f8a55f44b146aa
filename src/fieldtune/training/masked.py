"""Masked language modelling: tokens hidden from the encoder, for its head to guess."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding import Encoder
from fieldtune.encoding.precision import autocast
from fieldtune.encoding.tokens import TokenStore
from fieldtune.errors import ModelError
from fieldtune.training.masked_head import masked_head
from fieldtune.training.processor import fast_passes
from fieldtune.training.tokens_to_find import Task, find_loss, special_tokens

if TYPE_CHECKING:
    import torch

_KEPT, _RANDOM = 0.1, 0.1  # of the chosen tokens: shown as they are, shown as any other (arXiv:1810.04805, 3.1)


def mask_token(encoder: Encoder) -> int:
    """The id that hides a token. Raises ModelError for a model that has none."""
    mark = getattr(encoder.model.tokenizer, "mask_token_id", None)
    if mark is None:
        raise ModelError(
            f"{encoder.name} has no mask token: it was not made to guess masked words",
            "set training.pretrain = tsdae, or none",
        )
    return int(mark)


def hide_tokens(
    ids: NDArray[np.int64],
    free: NDArray[np.bool_],
    share: float,
    mark: int,
    vocabulary: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Ids with `share` of the free tokens hidden, and which were chosen: both in the shape of `ids` (n, width).

    `free` is true for tokens of the text itself, neither padding nor marks of beginning and end. Each row has at least
    one chosen token if it has a free one.
    """
    draw = np.where(free, rng.random(ids.shape), 2.0)
    chosen = draw < share
    rows = np.arange(len(ids))
    first = draw.argmin(axis=1)
    chosen[rows, first] |= free[rows, first]
    kind = rng.random(ids.shape)
    other = rng.integers(0, vocabulary, ids.shape)
    hidden = np.where(kind < _KEPT, ids, np.where(kind < _KEPT + _RANDOM, other, mark))
    return np.where(chosen, hidden, ids), chosen


def masked_task(encoder: Encoder, folder: Path, store: TokenStore, share: float) -> Task:
    """Guess `share` of the tokens from the others. Raises ModelError for a model without a mask token."""
    import torch

    assert encoder.tokens is not None  # the training stage has checked
    mark, pad, model = mask_token(encoder), encoder.tokens.pad, encoder.model
    inner, special = model.transformers_model, special_tokens(model)
    words = len(inner.get_input_embeddings().weight)
    head, own = masked_head(encoder, folder)

    def loss(rows: NDArray[np.int64], rng: np.random.Generator) -> tuple[torch.Tensor, int]:
        ids, attention = store.padded(rows, pad)
        free = attention.numpy().astype(np.bool_) & ~np.isin(ids.numpy(), special)
        hidden, chosen = hide_tokens(ids.numpy(), free, share, mark, words, rng)
        places = torch.from_numpy(chosen)
        with autocast(encoder.precision, encoder.device), fast_passes(encoder):
            output = inner(
                input_ids=torch.from_numpy(hidden).to(model.device), attention_mask=attention.to(model.device)
            )
            states = output.last_hidden_state[places.to(model.device)]
            return find_loss(states, ids[places].to(model.device), head, words, rng)

    return Task(model, torch.nn.ModuleDict({"encoder": model, "head": head}), loss, not own)
