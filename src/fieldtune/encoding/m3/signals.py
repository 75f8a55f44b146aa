"""What one pass gives of a batch of texts: a dense vector, a weight and a vector for each token."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.encoder import Encoder
from fieldtune.encoding.m3.heads import MULTI, SPARSE
from fieldtune.encoding.precision import autocast
from fieldtune.encoding.tokens import Tokens, TokenStore
from fieldtune.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch.nn import ModuleDict


@dataclass(frozen=True, slots=True)
class Signals:
    """Of n texts with t tokens together, end to end without padding: texts of any lengths stand side by side."""

    dense: torch.Tensor
    """(n, dim) float32, unit length."""
    weights: torch.Tensor
    """(t,) float32, never below 0; 0 for special tokens."""
    vectors: torch.Tensor
    """(t, size) float32, unit length."""
    ids: torch.Tensor
    """(t,) int64 token ids."""
    counts: torch.Tensor
    """(n,) int64: tokens of each text, the CLS token not among them."""

    def __len__(self) -> int:
        return len(self.counts)

    def owners(self) -> torch.Tensor:
        """(t,) the text that each token is of."""
        import torch

        return torch.repeat_interleave(torch.arange(len(self), device=self.counts.device), self.counts)

    def take(self, order: torch.Tensor) -> Signals:
        """The texts of these places, in their order."""
        import torch

        starts = (self.counts.cumsum(0) - self.counts)[order]
        counts = self.counts[order]
        owners = torch.repeat_interleave(torch.arange(len(order), device=counts.device), counts)
        inside = torch.arange(len(owners), device=counts.device) - (counts.cumsum(0) - counts)[owners]
        tokens = starts[owners] + inside
        return Signals(self.dense[order], self.weights[tokens], self.vectors[tokens], self.ids[tokens], counts)


def joined(parts: Sequence[Signals]) -> Signals:
    """One batch out of several."""
    import torch

    return Signals(
        *(
            torch.cat([getattr(part, name) for part in parts])
            for name in ("dense", "weights", "vectors", "ids", "counts")
        )
    )


def signals_of(encoder: Encoder, heads: ModuleDict, store: TokenStore, rows: NDArray[np.int64]) -> Signals:
    """All three of these rows in one forward pass in the encoder's precision; heads and lengths are in float32.

    The dense vector is what the model's own pooling gives. Token vectors leave the CLS token out and keep the end
    token, as BGE-M3's do; weights are 0 for every special token. Raises ModelError for a model that takes no token ids.
    """
    import torch

    tokens = require_tokens(encoder)
    ids, mask = (part.to(encoder.model.device) for part in store.padded(rows, tokens.pad))
    with autocast(encoder.precision, encoder.device):
        output: Any = encoder.model({"input_ids": ids, "attention_mask": mask})
    inside = mask.bool()
    inside[:, 0] &= ids[:, 0] != tokens.first
    off = torch.autocast(encoder.device.split(":")[0], enabled=False) if encoder.precision != "fp32" else nullcontext()
    with off:
        return of_states(
            heads, tokens.special, output["sentence_embedding"], output["token_embeddings"][inside], ids[inside],
            inside.sum(dim=1),
        )  # fmt: skip


def of_states(
    heads: ModuleDict, special: NDArray[np.int64], dense: torch.Tensor, states: torch.Tensor, ids: torch.Tensor,
    counts: torch.Tensor,
) -> Signals:  # fmt: skip
    """What the layers make of a model's vectors (n, dim) and of its tokens' states (t, hidden), CLS tokens left out."""
    import torch

    kind: Any = heads[SPARSE].weight.dtype
    states = states.float().to(kind)  # DeepSpeed may keep the layers in 16 bits
    weights = torch.relu(heads[SPARSE](states).float()).squeeze(-1)
    weights = weights.masked_fill(torch.isin(ids, torch.from_numpy(special).to(ids.device)), 0.0)
    vectors = torch.nn.functional.normalize(heads[MULTI](states).float(), dim=-1)
    return Signals(torch.nn.functional.normalize(dense.float(), dim=-1), weights, vectors, ids, counts)


def token_counts(encoder: Encoder, store: TokenStore, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """(len(rows),) how many token vectors each text gives, known before any pass."""
    return counts_in(store, rows, require_tokens(encoder).first)


def counts_in(store: TokenStore, rows: NDArray[np.int64], first: int) -> NDArray[np.int64]:
    """As `token_counts`, `first` being the id of the token that stands for the whole text."""
    lengths = store.lengths[rows]
    firsts = store.ids[np.minimum(store.starts[rows], max(0, len(store.ids) - 1))] if len(store.ids) else lengths * 0
    return np.asarray(lengths - ((firsts == first) & (lengths > 0)), np.int64)


def hidden_size(encoder: Encoder) -> int:
    """Numbers of a token's state."""
    return int(encoder.model.transformers_model.config.hidden_size)


def require_tokens(encoder: Encoder) -> Tokens:
    """The encoder's tokenizer; raises ModelError for a model whose single tokens cannot be had."""
    if encoder.tokens is None or encoder.routed:
        raise ModelError(
            f"{encoder.name} is not a plain text encoder with a fast tokenizer",
            "set training.m3.train=none, or model.base to a model whose first module is a Transformer with a "
            "tokenizer.json: sparse and multi-vectors are made of its tokens",
        )
    return encoder.tokens
