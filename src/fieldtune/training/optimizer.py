"""What is trained and at which rate: AdamW, its parameter groups, and the schedule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from fieldtune.config import Training
from fieldtune.training.lora import faster_b
from fieldtune.training.m3.fitting import heads_apart

if TYPE_CHECKING:
    import torch


def make_optimizer(model: Any, settings: Training, extra: Iterable[torch.nn.Parameter] = ()) -> torch.optim.Optimizer:
    """AdamW over the model's trainable parameters and those that only the loss has (`extra`)."""
    import torch

    groups = parameter_groups(model, settings)
    if more := list(extra):
        groups.append({"params": more, "weight_decay": settings.weight_decay, "share": 1.0})
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def parameter_groups(model: Any, settings: Training) -> list[dict[str, Any]]:
    """Weight decay on matrices alone. A group's `share` is its part of the learning rate at every step."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay, "share": 1.0},
        {"params": others, "weight_decay": 0.0, "share": 1.0},
    ]
    return heads_apart(faster_b(groups, model, settings), model, settings)


def set_rate(optimizer: torch.optim.Optimizer, settings: Training, step: int, steps: int) -> float:
    """Set the rate of this step (counted from 0) in every group, and return it."""
    rate = settings.learning_rate * schedule(step, steps, settings.warmup)
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("share", 1.0)
    return rate


def schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the peak rate at a step: linear rise over `warmup` of the steps, linear fall to zero."""
    rise = max(1, round(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return max(0.0, (steps - step) / max(1, steps - rise))


def freezes_embeddings(model: Any, setting: bool | Literal["auto"]) -> bool:
    """Whether the word vectors stay as they are. Of 250,000 words a batch holds a few hundred, yet the gradient and the
    optimizer state of all of them would be computed and kept at every step."""
    if setting != "auto":
        return setting
    words = sum(weight.numel() for weight in model.transformers_model.get_input_embeddings().parameters())
    return bool(3 * words > 2 * sum(weight.numel() for weight in model.parameters()))
