"""The in-batch contrastive loss, at one or several vector sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def in_batch_loss(
    queries: torch.Tensor,
    passages: torch.Tensor,
    labels: torch.Tensor,
    masked: torch.Tensor,
    *,
    scale: float,
    dimensions: Sequence[int],
) -> torch.Tensor:
    """Mean cross-entropy of finding each query's positive among all passages of the batch.

    `queries` (b, dim), `passages` (p, dim), `labels` (b,) columns of the positives, `masked` (b, p) known positives to
    leave out. Cosines are multiplied by `scale`. With several `dimensions` the loss is the mean over the leading
    coordinates of each size (Matryoshka Representation Learning, arXiv:2205.13147, with equal weights); in-batch
    negatives after arXiv:1705.00652.
    """
    import torch
    from torch.nn.functional import cross_entropy, normalize

    queries, passages = queries.float(), passages.float()
    losses = []
    for size in dimensions:
        cosines = normalize(queries[:, :size], dim=-1) @ normalize(passages[:, :size], dim=-1).T
        losses.append(cross_entropy((scale * cosines).masked_fill(masked, float("-inf")), labels))
    return torch.stack(losses).mean()


def matryoshka_dimensions(full: int, smallest: int = 64) -> tuple[int, ...]:
    """The full size and its halves down to `smallest`: 384 -> (384, 192, 96)."""
    sizes = [full]
    while sizes[-1] % 2 == 0 and sizes[-1] // 2 >= smallest:
        sizes.append(sizes[-1] // 2)
    return tuple(sizes)
