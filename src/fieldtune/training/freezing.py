"""Leaving the word vectors and the lower layers as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fieldtune.errors import ModelError
from fieldtune.training.blocks import layers_of

if TYPE_CHECKING:
    from torch.nn import Module


def freeze_lower(transformer: Any, count: int) -> None:
    """Take everything below layer `count` (from 0) out of training: word vectors, positions and those layers.

    Raises ModelError when no layer would be left to train.
    """
    require_layers(transformer, count)
    if not count:
        return
    stack, layers = layers_of(transformer)
    for weight in _below(transformer, stack):
        weight.requires_grad_(False)
    for layer in layers[:count]:
        layer.requires_grad_(False)


def require_layers(transformer: Module, count: int) -> None:
    if count and count >= (present := len(layers_of(transformer)[1])):
        raise ModelError(
            f"training.freeze_layers={count} leaves nothing to train: the model has {present} layers",
            f"freeze {present - 1} or fewer",
        )


def trainable(model: Module) -> tuple[int, int]:
    """How many numbers training changes, and how many there are."""
    import torch

    weights = list(model.parameters())
    packed = [weight for weight in weights if not weight.is_floating_point()]  # two of 4 bits in a byte
    whole = sum(weight.numel() for weight in weights) + sum(
        weight.numel() for weight in packed if weight.dtype == torch.uint8
    )
    return sum(weight.numel() for weight in weights if weight.requires_grad), whole


def _below(transformer: Any, stack: str) -> list[Any]:
    """Weights of what feeds the first layer: whatever is called embeddings, beside the word vectors themselves."""
    found = list(transformer.get_input_embeddings().parameters())
    for name, weight in transformer.named_parameters():
        if not name.startswith(f"{stack}.") and "embed" in name:
            found.append(weight)
    return found
