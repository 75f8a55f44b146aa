"""Losses on scores of pairs: given with the labels, or 1 for a positive and 0 for a negative."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldtune.training.losses.targets import Targets, own_pairs

if TYPE_CHECKING:
    import torch


def cosine(
    queries: torch.Tensor, passages: torch.Tensor, targets: Targets, *, uses_scores: bool, score_scale: float = 1.0
) -> torch.Tensor:
    """Mean squared difference between similarity and score; scores are divided by `score_scale` first."""
    similarity, score = _scored(queries, passages, targets, uses_scores)
    return (similarity - score / score_scale).pow(2).mean() if len(score) else queries.sum() * 0.0


def cosent(
    queries: torch.Tensor, passages: torch.Tensor, targets: Targets, *, scale: float, uses_scores: bool
) -> torch.Tensor:
    """log(1 + sum of exp(scale * (s_low - s_high))) over all two pairs of the batch of which one has the higher score
    (CoSENT, doi:10.1109/TASLP.2024.3402087); only the order of the scores matters."""
    import torch

    similarity, score = _scored(queries, passages, targets, uses_scores)
    gaps = scale * (similarity[:, None] - similarity[None, :])
    gaps = gaps[score[:, None] < score[None, :]]
    return torch.logsumexp(torch.cat([gaps.new_zeros(1), gaps]), dim=0)


def _scored(
    queries: torch.Tensor, passages: torch.Tensor, targets: Targets, uses_scores: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    row, column, positive = own_pairs(targets)
    score = targets.scores[targets.own >= 0] if uses_scores else positive.float()
    there = ~score.isnan()
    return (queries[row] * passages[column]).sum(-1)[there], score[there]
