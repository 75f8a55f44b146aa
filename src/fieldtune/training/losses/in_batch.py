"""Losses that take the batch's other passages for negatives, known positives left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldtune.training.losses.targets import Targets

if TYPE_CHECKING:
    import torch


def mnrl(queries: torch.Tensor, passages: torch.Tensor, targets: Targets, *, scale: float) -> torch.Tensor:
    """Mean cross-entropy of finding each query's positive among all passages of the batch (arXiv:1705.00652)."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(_out(scale * queries @ passages.T, targets.masked), targets.labels)


def symmetric(queries: torch.Tensor, passages: torch.Tensor, targets: Targets, *, scale: float) -> torch.Tensor:
    """The mean of `mnrl` and of finding each positive's query among all queries of the batch (arXiv:2310.19923)."""
    import torch
    from torch.nn.functional import cross_entropy

    back = _out(scale * passages[targets.labels] @ queries.T, _off_diagonal(targets.alike().T))
    forth = mnrl(queries, passages, targets, scale=scale)
    return (forth + cross_entropy(back, torch.arange(len(queries), device=back.device))) / 2


def gte(queries: torch.Tensor, passages: torch.Tensor, targets: Targets, *, scale: float) -> torch.Tensor:
    """One softmax over passages, queries, and both towers among themselves (arXiv:2308.03281, equation 2).

    Beside all passages, the pair competes with query-query, passage-query and passage-passage similarities; the pair
    itself stands in the sum twice, as it does in the equation. Queries that share an answer do not repel each other,
    nor does a positive its query's other passages.
    """
    import torch
    from torch.nn.functional import cross_entropy

    alike = targets.alike()
    own = torch.zeros_like(targets.masked)
    row, place = torch.nonzero(targets.own >= 0, as_tuple=True)
    own[row, targets.own[row, place]] = True
    positives = passages[targets.labels]
    logits = [
        _out(scale * queries @ passages.T, targets.masked),
        _out(scale * queries @ queries.T, alike | alike.T),
        _out(scale * positives @ queries.T, _off_diagonal(alike.T)),
        _out(scale * positives @ passages.T, targets.masked | own),
    ]
    return cross_entropy(torch.cat(logits, dim=1), targets.labels)


def guided(
    queries: torch.Tensor, passages: torch.Tensor, targets: Targets, *, scale: float, margin: float = 0.0
) -> torch.Tensor:
    """In-batch loss without what a guide finds more similar than the pair itself (GISTEmbed, arXiv:2402.16829).

    Negatives are passages, other queries and, for the positive, other positives; one is left out when the guide's
    cosine exceeds the guide's cosine of query and positive less `margin`. Needs `targets.guide_queries`.
    """
    import torch
    from torch.nn.functional import cross_entropy, normalize

    if targets.guide_queries is None or targets.guide_passages is None:
        raise ValueError("the guided loss needs the guide's vectors")
    guide_queries, guide_passages = (
        normalize(part, dim=-1) for part in (targets.guide_queries, targets.guide_passages)
    )
    count = torch.arange(len(queries), device=queries.device)
    by_guide = guide_queries @ guide_passages.T
    limit = by_guide[count, targets.labels][:, None] - margin
    positives, guide_positives = passages[targets.labels], guide_passages[targets.labels]
    wrong = by_guide > limit
    wrong[count, targets.labels] = False
    alike = targets.alike()
    # The same passage may be the positive of two queries: as a negative of a third it counts once.
    repeated = torch.triu(targets.labels[:, None] == targets.labels[None, :], 1).any(dim=0)
    logits = [
        _out(scale * queries @ passages.T, targets.masked | wrong),
        _out(scale * queries @ queries.T, alike | alike.T | (guide_queries @ guide_queries.T > limit)),
        _out(scale * positives @ positives.T, alike | repeated | (guide_positives @ guide_positives.T > limit)),
    ]
    return cross_entropy(torch.cat(logits, dim=1), targets.labels)


def _out(logits: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
    return logits.masked_fill(masked, float("-inf"))


def _off_diagonal(masked: torch.Tensor) -> torch.Tensor:
    import torch

    return masked & ~torch.eye(len(masked), dtype=torch.bool, device=masked.device)
