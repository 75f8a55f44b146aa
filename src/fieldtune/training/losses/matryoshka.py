"""A loss at several vector sizes at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from fieldtune.training.losses.targets import Targets

if TYPE_CHECKING:
    import torch

    from fieldtune.training.losses.targets import Loss


def at_dimensions(
    loss: Loss,
    queries: torch.Tensor,
    passages: torch.Tensor,
    targets: Targets,
    *,
    dimensions: Sequence[int],
    weights: Sequence[float] = (),
    similarity: Literal["cosine", "dot"] = "cosine",
) -> torch.Tensor:
    """The weighted mean of the loss over the leading coordinates of each size (arXiv:2205.13147).

    For cosine similarity the cut vectors are brought to unit length; without `weights` all sizes count the same.
    """
    import torch
    from torch.nn.functional import normalize

    values = []
    for size in dimensions:
        left, right = queries[:, :size].float(), passages[:, :size].float()
        if similarity == "cosine":
            left, right = normalize(left, dim=-1), normalize(right, dim=-1)
        values.append(loss(left, right, targets))
    if not weights:
        return torch.stack(values).mean()
    shares = torch.tensor(weights, device=queries.device, dtype=torch.float32)
    return (torch.stack(values) * shares).sum() / shares.sum()


def matryoshka_dimensions(full: int, smallest: int = 64) -> tuple[int, ...]:
    """The full size and its halves down to `smallest`: 384 -> (384, 192, 96)."""
    sizes = [full]
    while sizes[-1] % 2 == 0 and sizes[-1] // 2 >= smallest:
        sizes.append(sizes[-1] // 2)
    return tuple(sizes)
