"""Losses that follow a teacher: its margins, its ranking of a query's passages, or its vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldtune.training.losses.targets import Targets

if TYPE_CHECKING:
    import torch


def margin_mse(
    queries: torch.Tensor,
    passages: torch.Tensor,
    targets: Targets,
    *,
    student_temperature: float,
    teacher_temperature: float,
) -> torch.Tensor:
    """Mean squared difference between the student's and the teacher's margin of positive over other passage
    (arXiv:2010.02666); each side's margins are divided by its temperature, for cosines and logits differ in size.

    The mean over queries of the mean over a query's margins: each query with one counts the same.
    """
    student, there = _own_similarities(queries, passages, targets)
    ours = (student[:, :1] - student[:, 1:]) / student_temperature
    theirs = (targets.scores[:, :1] - targets.scores[:, 1:]) / teacher_temperature
    both = there[:, :1] & there[:, 1:]
    count = both.sum(dim=1)
    if not count.any():
        return queries.sum() * 0.0
    squares = (ours - theirs).masked_fill(~both, 0.0).pow(2).sum(dim=1)
    return (squares[count > 0] / count[count > 0]).mean()


def kl(
    queries: torch.Tensor,
    passages: torch.Tensor,
    targets: Targets,
    *,
    student_temperature: float,
    teacher_temperature: float,
) -> torch.Tensor:
    """Kullback-Leibler divergence of the student's distribution over a query's scored passages from the teacher's.

    The mean over queries with two or more scored passages, in nats. It is not multiplied by the squared temperature
    (arXiv:1503.02531, section 2): so its gradients are of the size of the in-batch loss's, with which it is mixed.
    """
    import torch

    student, there = _own_similarities(queries, passages, targets)
    enough = there.sum(dim=1) >= 2
    if not enough.any():
        return queries.sum() * 0.0
    student, there = student[enough], there[enough]
    teacher = targets.scores[enough].masked_fill(~there, float("-inf"))
    ours = torch.log_softmax((student / student_temperature).masked_fill(~there, float("-inf")), dim=1)
    theirs = torch.log_softmax(teacher / teacher_temperature, dim=1)
    terms = theirs.exp() * (theirs - ours)
    return terms.masked_fill(~there, 0.0).sum(dim=1).mean()


def vectors(
    queries: torch.Tensor, passages: torch.Tensor, targets: Targets, *, projection: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean of 1 - cosine between student and teacher vectors, queries and passages counting the same
    (EmbedDistill, arXiv:2301.12005).

    `projection` (teacher dim, dim) maps the student's vectors to the teacher's space; without it both have one size.
    """
    from torch.nn.functional import cosine_similarity

    if targets.guide_queries is None or targets.guide_passages is None:
        raise ValueError("the distillation of vectors needs the teacher's vectors")
    if projection is not None:
        queries, passages = queries @ projection.T, passages @ projection.T
    left = (1 - cosine_similarity(queries, targets.guide_queries, dim=-1)).mean()
    right = (1 - cosine_similarity(passages, targets.guide_passages, dim=-1)).mean()
    return (left + right) / 2


def _own_similarities(
    queries: torch.Tensor, passages: torch.Tensor, targets: Targets
) -> tuple[torch.Tensor, torch.Tensor]:
    """(b, k) similarities of each query with its own passages, and which of them are there with a score."""
    there = (targets.own >= 0) & ~targets.scores.isnan()
    similar = (queries[:, None, :] * passages[targets.own.clamp(min=0)]).sum(-1)
    return similar, there
