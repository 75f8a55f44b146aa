"""Where the parts of a transformer are, found in the model itself: its layers, their linear parts, what ends each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fieldtune.errors import ModelError

if TYPE_CHECKING:
    from torch.nn import Module

# BERT, RoBERTa, XLM-R and DistilBERT say attention, MPNet attention.attn, ModernBERT attn, Qwen and Llama self_attn.
_ATTENTION = re.compile(r"(^|\.)(self_|self)?(attention|attn)(\.|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Linear:
    """A matrix of a transformer."""

    name: str
    """Its full name in the model: encoder.layer.3.attention.self.query."""
    layer: int
    """Number of the layer it belongs to, from 0."""
    attention: bool
    """Part of attention; else of the feed-forward part."""
    outputs: int


def layers_of(transformer: Module) -> tuple[str, list[Module]]:
    """Name and modules of the stack of layers, lowest first: the list of like modules that has the most weights.

    Raises ModelError where there is none.
    """
    import torch

    best, name, size = [], "", 0
    for place, module in transformer.named_modules():
        if not isinstance(module, torch.nn.ModuleList) or not len(module):
            continue
        weights = sum(weight.numel() for weight in module.parameters())
        inside = name and place.startswith(f"{name}.")  # a list inside a layer has fewer weights than the whole
        if weights > size and not inside and len({type(one) for one in module}) == 1:
            best, name, size = list(module), place, weights
    if not best:
        raise ModelError(
            f"no stack of layers was found in {type(transformer).__name__}",
            "use training.method=full without training.freeze_layers, or training.method=query",
        )
    return name, best


def linears_of(transformer: Module) -> list[Linear]:
    """Every linear part of the layers, in the order in which the model's code makes them."""
    stack, layers = layers_of(transformer)
    found = []
    for number, layer in enumerate(layers):
        for name, module in layer.named_modules():
            outputs = _outputs(module)
            if outputs:
                found.append(Linear(f"{stack}.{number}.{name}", number, bool(_ATTENTION.search(name)), outputs))
    return found


def sublayer_ends(transformer: Module, *, attention: bool, width: int) -> list[Linear]:
    """The linear part that ends each layer's feed-forward part, or its attention: the last one of it made.

    Raises ModelError where a layer has none that gives vectors of the model's `width`.
    """
    linears = linears_of(transformer)
    ends = {linear.layer: linear for linear in linears if linear.attention is attention}  # the last one stays
    _, layers = layers_of(transformer)
    if len(ends) < len(layers) or any(linear.outputs != width for linear in ends.values()):
        part = "attention" if attention else "feed-forward part"
        raise ModelError(
            f"the {part} of {type(transformer).__name__}'s layers has no linear end that an adapter fits behind",
            "use training.method=lora, which changes the matrices that are there",
        )
    return [ends[number] for number in sorted(ends)]


def _outputs(module: Any) -> int:
    """Of a linear layer, in whatever number format; 0 for other modules."""
    import torch
    from transformers.pytorch_utils import Conv1D

    if isinstance(module, torch.nn.Linear):
        return int(module.out_features)
    return int(module.nf) if isinstance(module, Conv1D) else 0
