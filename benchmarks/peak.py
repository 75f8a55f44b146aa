"""What share of a GPU's peak a run reaches: the operations that its texts need, by the model's shape, over the time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

KNOWN: tuple[tuple[tuple[str, ...], float], ...] = (
    (("H100", "PCIe"), 756),
    (("H100", "NVL"), 835),
    (("H100",), 989),
    (("H200",), 989),
    (("A100",), 312),
    (("L40S",), 362),
    (("L4",), 121),
    (("A10",), 125),
    (("4090",), 165),
    (("3090",), 71),
)
"""Words of a GPU's name, and its trillions of bf16 operations a second without sparsity, as its maker states them."""
TRAINING = 3
"""A step costs its forward pass and twice as much backward."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides how many operations a text costs."""

    weights: int
    """Of all products with a token: those of attention and of what follows it, not the table of word vectors."""
    layers: int
    width: int

    def operations(self, lengths: NDArray[np.int64]) -> float:
        """Of one forward pass of texts of so many tokens, padding aside."""
        tokens = np.asarray(lengths, np.float64)
        return float(2 * self.weights * tokens.sum() + 4 * self.width * self.layers * (tokens**2).sum())


def on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def shape_of(model: Any) -> Shape:
    """Of a Sentence Transformers model whose first module is a transformer."""
    import torch

    inner = model[0].model if hasattr(model[0], "model") else model[0].auto_model
    weights = sum(
        part.weight.numel()
        for name, part in inner.named_modules()
        if isinstance(part, torch.nn.Linear) and "pooler" not in name  # which sees one token of a text, if any
    )
    return Shape(weights, inner.config.num_hidden_layers, inner.config.hidden_size)


def operations(encoder: Any, texts: Sequence[tuple[str, str]]) -> float:
    """Of one forward pass of (side, text), as long as the model reads; 0 where it takes no token ids alone."""
    if encoder.tokens is None:
        return 0.0
    shape = shape_of(encoder.model)
    sides = {side: [text for other, text in texts if other == side] for side in ("query", "passage")}
    stores = [encoder.tokens.store(some, encoder.prompts[side]) for side, some in sides.items() if some]
    return sum(shape.operations(store.lengths) for store in stores)


def peak_of(name: str) -> float:
    """Trillions of operations a second; NaN of a GPU that is not known."""
    words = set(re.split(r"[ -]", name))
    return next((float(peak) for known, peak in KNOWN if words >= set(known)), float("nan"))


def peak_here(given: float) -> float:
    """What --peak-tflops says, else what is known of this machine's GPU."""
    import torch

    return given or peak_of(torch.cuda.get_device_name())


def shares(operations: float, seconds: dict[str, float], peak: float) -> str:
    """In words, of each way."""
    if not (peak > 0 and operations > 0):
        return "share of the GPU's peak not known: give --peak-tflops"
    each = (f"{way} {100 * operations / took / (peak * 1e12):.1f}%" for way, took in seconds.items())
    return f"share of the GPU's peak ({peak:g} TFLOPS): {', '.join(each)}"
