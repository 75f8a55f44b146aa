"""Losses on a query's own passages: the positive, and the hard negatives drawn for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldtune.training.losses.targets import Targets, own_pairs

if TYPE_CHECKING:
    import torch


def triplet(queries: torch.Tensor, passages: torch.Tensor, targets: Targets, *, margin: float) -> torch.Tensor:
    """Mean over (query, positive, negative) of how far the negative is from being `margin` farther off
    (arXiv:1703.07737); a distance is 1 - similarity."""
    from torch.nn.functional import relu

    row, column, positive = own_pairs(targets)
    row, column = row[~positive], column[~positive]
    own = (queries * passages[targets.labels]).sum(-1)[row]
    other = (queries[row] * passages[column]).sum(-1)
    return relu(margin - own + other).mean() if len(row) else queries.sum() * 0.0


def contrastive(queries: torch.Tensor, passages: torch.Tensor, targets: Targets, *, margin: float) -> torch.Tensor:
    """Half the mean of squared distances of positives, and of what negatives lack to `margin`
    (Hadsell et al., 2006)."""
    from torch.nn.functional import relu

    distance, positive = _distances(queries, passages, targets)
    terms = positive * distance.pow(2) + (~positive) * relu(margin - distance).pow(2)
    return 0.5 * terms.mean()


def online_contrastive(
    queries: torch.Tensor, passages: torch.Tensor, targets: Targets, *, margin: float
) -> torch.Tensor:
    """The contrastive sum over the hard pairs alone: negatives nearer than the farthest positive of the batch,
    positives farther than its nearest negative."""
    from torch.nn.functional import relu

    distance, positive = _distances(queries, passages, targets)
    near, far = distance[positive], distance[~positive]
    negatives = far[far < near.max()]
    positives = near[near > (far.min() if len(far) else near.mean())]
    return positives.pow(2).sum() + relu(margin - negatives).pow(2).sum()


def _distances(queries: torch.Tensor, passages: torch.Tensor, targets: Targets) -> tuple[torch.Tensor, torch.Tensor]:
    row, column, positive = own_pairs(targets)
    return 1 - (queries[row] * passages[column]).sum(-1), positive
