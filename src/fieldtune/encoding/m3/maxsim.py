"""The best passage token of each query token, without the tensor of all token pairs of a batch."""

from __future__ import annotations

from typing import Any

import torch

_CELLS = 16_000_000  # similarities of token pairs in memory at once


class BestToken(torch.autograd.Function):
    """(query tokens, passages) the highest inner product with a token of the passage, and 0 for one without tokens.

    Kept for the backward pass is which token it was, not the similarities: memory is (query tokens x passages) numbers
    instead of (query tokens x passage tokens).
    """

    @staticmethod
    def forward(ctx: Any, queries: torch.Tensor, passages: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """`queries` (s, size), `passages` (t, size), `places` (p, longest): rows of a passage's tokens, -1 behind."""
        best = queries.new_zeros(len(queries), len(places))
        which = torch.full((len(queries), len(places)), -1, dtype=torch.int64, device=queries.device)
        step = max(1, _CELLS // max(1, len(queries) * places.shape[1]))
        for begin in range(0, len(places) if len(queries) and places.shape[1] else 0, step):
            part = places[begin : begin + step]
            part = part[:, : max(1, int((part >= 0).sum(1).max()))]
            similar = queries @ passages[part.clamp(min=0).reshape(-1)].T
            similar = similar.view(len(queries), *part.shape).masked_fill(part < 0, float("-inf"))
            value, column = similar.max(dim=-1)
            found = part.expand(len(queries), *part.shape).gather(-1, column[..., None]).squeeze(-1)
            which[:, begin : begin + step] = found
            best[:, begin : begin + step] = value.masked_fill(found < 0, 0.0)
        ctx.save_for_backward(queries, passages, which)
        return best

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        queries, passages, which = ctx.saved_tensors
        gradient = gradients[0]
        token, passage = torch.nonzero((which >= 0) & (gradient != 0), as_tuple=True)
        entries = torch.sparse_coo_tensor(
            torch.stack([token, which[token, passage]]),
            gradient[token, passage],
            (len(queries), len(passages)),
            check_invariants=False,
        )
        return torch.sparse.mm(entries, passages), torch.sparse.mm(entries.t(), queries), None
