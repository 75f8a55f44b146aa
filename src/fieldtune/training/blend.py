"""A mean of base and tuned weights: most of the gain in the field, less of the loss elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def kept_weights(model: Any) -> dict[str, torch.Tensor]:
    """A copy of the model's trainable numbers, to be blended in later."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def blend(model: Any, base: Mapping[str, torch.Tensor], share: float) -> None:
    """Set each weight to `share` of the base model's and the rest of its own (WiSE-FT, arXiv:2109.01903, section 3)."""
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.lerp_(base[name].to(weight.device), share)
