"""Losses on a matrix of scores: contrastive, after a teacher, and after the model's own ensemble.

Scores come divided by their temperature, (queries, passages); `allowed` says which passages a query's softmax runs
over. Definitions follow BGE-M3 (arXiv:2402.03216, equations 1 and 6 to 9) and its public trainer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldtune.training.losses.targets import Targets

if TYPE_CHECKING:
    import torch


def allowed_passages(targets: Targets, *, in_batch: bool) -> torch.Tensor:
    """(b, p) bool: the passages that a query's positive competes with, itself among them.

    All of the batch but known other positives, or, without `in_batch`, of these the query's own alone.
    """
    import torch

    if in_batch:
        return ~targets.masked
    own = torch.zeros_like(targets.masked)
    row, place = torch.nonzero(targets.own >= 0, as_tuple=True)
    own[row, targets.own[row, place]] = True
    return own & ~targets.masked


def contrastive(scores: torch.Tensor, labels: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of each query's positive; a query that has nothing but its positive adds 0."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(_only(scores, allowed), labels)


def kl_div(scores: torch.Tensor, targets: Targets, *, teacher_temperature: float) -> torch.Tensor:
    """Cross-entropy of the student's softmax over a query's scored passages from the teacher's.

    The mean over queries with a scored passage. It is the Kullback-Leibler divergence up to the teacher's entropy, as
    in the public trainer: the gradient is the same. A group of one adds 0.
    """
    import torch

    there, some = _scored(targets)
    if not some.any():
        return scores.sum() * 0.0
    own = scores.gather(1, targets.own.clamp(min=0))
    ours = torch.log_softmax(_only(own, there)[some], dim=1).masked_fill(~there[some], 0.0)
    return -(teacher_weights(targets, teacher_temperature)[some] * ours).sum(dim=1).mean()


def m3_kd_loss(
    scores: torch.Tensor, targets: Targets, allowed: torch.Tensor, *, teacher_temperature: float
) -> torch.Tensor:
    """Sum over a query's scored passages of the teacher's weight times the cross-entropy against all of the batch.

    They are visited in the order of `targets.own`: the positive, then the others as they were drawn. Those visited
    before are left out of a later one's softmax, and so is the positive where it has no score. The mean over queries
    with a scored passage; a group of one is the contrastive loss.
    """
    import torch

    there, some = _scored(targets)
    if not some.any():
        return scores.sum() * 0.0
    weights = teacher_weights(targets, teacher_temperature)
    rows = torch.arange(len(scores), device=scores.device)
    free = allowed.clone()
    total = scores.new_zeros(len(scores))
    for place in range(targets.own.shape[1]):
        column = targets.own[:, place].clamp(min=0)
        now = there[:, place]
        these = free.clone()
        these[rows[now], column[now]] = True  # a passage that is visited competes, known positive or not
        these[rows[~now], targets.labels[~now]] = True  # rows that sit this visit out: keep their softmax finite
        ours = torch.log_softmax(_only(scores, these), dim=1)[rows, column]
        total = total - torch.where(now, weights[:, place] * ours.masked_fill(~now, 0.0), 0.0)
        gone = now | ((targets.own[:, place] >= 0) if place == 0 else torch.zeros_like(now))
        free[rows[gone], column[gone]] = False
    return total[some].mean()


def self_distillation(scores: torch.Tensor, ensemble: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of one score's softmax from that of the ensemble, which gets no gradient."""
    import torch

    teacher = torch.softmax(_only(ensemble.detach(), allowed), dim=1)
    ours = torch.log_softmax(_only(scores, allowed), dim=1).masked_fill(~allowed, 0.0)
    return -(teacher * ours).sum(dim=1).mean()


def teacher_weights(targets: Targets, temperature: float) -> torch.Tensor:
    """(b, k) softmax of the teacher's scores, divided by a temperature, over each query's scored passages; else 0.

    Logits of a cross-encoder are nearly one-hot at temperature 1, scores between 0 and 1 nearly flat.
    """
    import torch

    there, some = _scored(targets)
    given = _only(torch.nan_to_num(targets.scores) / temperature, there | ~some[:, None])
    return torch.softmax(given, dim=1).masked_fill(~there, 0.0)


def scored_queries(targets: Targets) -> torch.Tensor:
    """(b,) bool: those with a scored passage."""
    return _scored(targets)[1]


def _scored(targets: Targets) -> tuple[torch.Tensor, torch.Tensor]:
    """(b, k) which passages are there with a score, (b,) which queries have one."""
    there = (targets.own >= 0) & ~targets.scores.isnan()
    return there, there.any(dim=1)


def _only(scores: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    # In float32, whatever the model computes in: 16 bits do not hold scores divided by a temperature of 0.01.
    return (scores if scores.element_size() > 4 else scores.float()).masked_fill(~allowed, float("-inf"))
