"""TSDAE: a passage with most of its tokens deleted becomes a vector, from which a small decoder restores it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding import Encoder
from fieldtune.encoding.precision import autocast
from fieldtune.encoding.tokens import TokenStore
from fieldtune.training.processor import fast_passes
from fieldtune.training.tokens_to_find import Task, find_loss, special_tokens

if TYPE_CHECKING:
    import torch
    from torch.nn import Module


def delete_tokens(
    ids: NDArray[np.int32], free: NDArray[np.bool_], share: float, rng: np.random.Generator
) -> NDArray[np.int32]:
    """The ids (n,) without `share` of the free ones; one of those stays in any case (TSDAE, arXiv:2104.06979, 3)."""
    places = np.flatnonzero(free)
    if not len(places):
        return ids
    keep = rng.random(len(places)) >= share
    keep[rng.integers(len(places))] = True
    stays = ~free
    stays[places[keep]] = True
    return ids[stays]


def make_decoder(words: torch.nn.Parameter, dimension: int, positions: int, heads: int = 4) -> Module:
    """One transformer layer that reads the tokens so far and the sentence's vector, its words tied to the encoder's.

    The paper's decoder is a copy of the whole encoder. A small one cannot restore much by itself, so the vector has to
    say it, and costs a fraction. Takes ids (n, width) and vectors (n, dimension), gives states (n, width, hidden) for
    `.output`, which turns states into logits.
    """
    import torch
    from torch.nn import Embedding, LayerNorm, Linear, Module, TransformerDecoderLayer

    size = words.shape[1]
    heads = next(count for count in (heads, 2, 1) if size % count == 0)

    class Decoder(Module):
        def __init__(self) -> None:
            super().__init__()
            self.position = Embedding(positions, size)
            self.bridge = Linear(dimension, size)
            self.before = LayerNorm(size)
            self.layer = TransformerDecoderLayer(
                size, heads, 4 * size, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            self.after = LayerNorm(size)
            self.output = Linear(size, len(words))
            self.output.weight = words
            torch.nn.init.zeros_(self.output.bias)
            torch.nn.init.normal_(self.position.weight, std=0.02)
            # Word vectors of a sentence encoder are long: at full length the first guesses would all be sure and wrong.
            torch.nn.init.constant_(self.after.weight, size**-0.5)

        def forward(self, ids: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
            width = ids.shape[1]
            places = torch.arange(width, device=ids.device)
            states = self.before(torch.nn.functional.embedding(ids, self.output.weight) + self.position(places))
            later = torch.ones(width, width, dtype=torch.bool, device=ids.device).triu(1)
            memory = self.bridge(vectors).unsqueeze(1)
            restored: torch.Tensor = self.after(self.layer(states, memory, tgt_mask=later))
            return restored

    return Decoder().to(words.device)


def restoring_task(encoder: Encoder, store: TokenStore, share: float) -> Task:
    """Restore each passage from the vector of what is left of it without `share` of its tokens."""
    import torch

    assert encoder.tokens is not None  # the training stage has checked
    pad, model = encoder.tokens.pad, encoder.model
    words, special = model.transformers_model.get_input_embeddings().weight, special_tokens(model)
    decoder: Any = make_decoder(words, encoder.dimension, int(store.lengths.max()))

    def loss(rows: NDArray[np.int64], rng: np.random.Generator) -> tuple[torch.Tensor, int]:
        whole = [store.ids[store.starts[row] : store.starts[row + 1]] for row in rows]
        left = [delete_tokens(ids, ~np.isin(ids, special), share, rng) for ids in whole]
        cut = TokenStore(np.concatenate(left), np.concatenate([[0], np.cumsum([len(ids) for ids in left])]))
        ids, attention = (part.to(model.device) for part in cut.padded(np.arange(len(left)), pad))
        full, there = (part.to(model.device) for part in store.padded(rows, pad))
        known = there[:, 1:].bool()
        with autocast(encoder.precision, encoder.device), fast_passes(encoder):
            vectors = model({"input_ids": ids, "attention_mask": attention})["sentence_embedding"]
            states = decoder(full[:, :-1], vectors)
            return find_loss(states[known], full[:, 1:][known], decoder.output, len(words), rng)

    return Task(model, torch.nn.ModuleDict({"encoder": model, "head": decoder}), loss, True)
