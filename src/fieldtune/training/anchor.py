"""A pull towards the weights that training started from, so that what they know is not moved without need."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def anchored(model: Any, strength: float) -> Callable[[], torch.Tensor]:
    """Half the squared distance of the trained weights from those of now, times `strength` (L2-SP, arXiv:1802.01483,
    equation 2), as a function to be added to each step's loss.

    Call it before the first step, when the model holds the initial weights, also for a run that is resumed. Weights
    that do not require a gradient by then are left out.
    """
    import torch

    weights = [weight for weight in model.parameters() if weight.requires_grad]
    initial = [weight.detach().clone() for weight in weights]

    def penalty() -> torch.Tensor:
        parts = [(weight - start).float().square().sum() for weight, start in zip(weights, initial, strict=True)]
        return 0.5 * strength * torch.stack(parts).sum()

    return penalty
