"""The three scores of every query with every passage, as BGE-M3 defines them (arXiv:2402.03216, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fieldtune.encoding.m3.signals import Signals

if TYPE_CHECKING:
    import torch

WEIGHTS = (1.0, 0.3, 1.0)
"""Of dense, sparse and multi-vector in the ensemble, as BGE-M3 was trained."""


@dataclass(frozen=True, slots=True)
class Scores:
    """(queries, passages) each, before any temperature."""

    dense: torch.Tensor
    sparse: torch.Tensor
    multi: torch.Tensor

    def ensemble(self, weights: Sequence[float] = WEIGHTS) -> torch.Tensor:
        """The weighted sum, weights of dense, sparse and multi in this order."""
        dense, sparse, multi = weights
        return dense * self.dense + sparse * self.sparse + multi * self.multi


def scores(queries: Signals, passages: Signals) -> Scores:
    """All three, with gradients."""
    return Scores(queries.dense @ passages.dense.T, sparse_scores(queries, passages), multi_scores(queries, passages))


def sparse_scores(queries: Signals, passages: Signals) -> torch.Tensor:
    """Sum over shared token ids of the product of both weights, the weight of an id being its highest in the text.

    The maximum is scattered into (texts x ids that occur in the queries), the only ones that any product can have: no
    tensor has the vocabulary for a side. Of equal highest weights of one id, each gets its part of the gradient.
    """
    import torch

    words = torch.unique(queries.ids)
    if not len(words):
        return queries.weights.new_zeros(len(queries), len(passages))
    return _by_word(queries, words) @ _by_word(passages, words).T


def _by_word(texts: Signals, words: torch.Tensor) -> torch.Tensor:
    """(texts, words) the highest weight of each of the sorted ids `words`; 0 where a text does not have it."""
    import torch

    column = torch.searchsorted(words, texts.ids).clamp(max=len(words) - 1)
    there = words[column] == texts.ids
    cells = (texts.owners() * len(words) + column)[there]
    empty = texts.weights.new_zeros(len(texts) * len(words))
    return empty.scatter_reduce(0, cells, texts.weights[there], "amax").view(len(texts), len(words))


def multi_scores(queries: Signals, passages: Signals) -> torch.Tensor:
    """Mean over a query's tokens of the inner product with the passage's best token; 0 where a text has no token."""
    from fieldtune.encoding.m3.maxsim import BestToken

    best: torch.Tensor = BestToken.apply(  # type: ignore[no-untyped-call]
        queries.vectors, passages.vectors, _places(passages.counts)
    )
    total = best.new_zeros(len(queries), len(passages)).index_add(0, queries.owners(), best)
    return total / queries.counts.clamp(min=1)[:, None]


def _places(counts: torch.Tensor) -> torch.Tensor:
    """(texts, longest) rows of each text's tokens, -1 behind the last one."""
    import torch

    width = int(counts.max()) if len(counts) else 0
    columns = torch.arange(width, device=counts.device)
    starts = counts.cumsum(0) - counts
    return (starts[:, None] + columns).masked_fill(columns >= counts[:, None], -1)
