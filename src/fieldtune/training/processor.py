"""What a training on a processor computes in other ways than torch: attention, and the gradient of word vectors."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

from fieldtune.encoding import Encoder
from fieldtune.training.attention import attend
from fieldtune.training.words import look_up


def fast_passes(encoder: Encoder) -> AbstractContextManager[Any]:
    """Passes of the encoder within it are computed in the ways that are fastest on its device."""
    # Layers computed a second time in the backward pass must be computed as they were in the forward pass.
    again = getattr(encoder.model.transformers_model, "is_activation_checkpointing", False)
    if again or not encoder.device.startswith("cpu"):
        return nullcontext()
    # Of weights that lie on several devices the whole is there for a moment alone: gradients must go torch's way.
    whole = not any(hasattr(weight, "placements") or hasattr(weight, "ds_id") for weight in encoder.model.parameters())
    mode: AbstractContextManager[Any] = _mode()(whole)
    return mode


@cache
def _mode() -> Any:
    """The class, made when torch is there."""
    import torch
    from torch.overrides import TorchFunctionMode

    functional = torch.nn.functional
    attention, embedding = functional.scaled_dot_product_attention, functional.embedding

    class Fast(TorchFunctionMode):
        def __init__(self, words: bool) -> None:
            super().__init__()
            self.words = words

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs, found = kwargs or {}, None
            if func is attention:
                found = attend(args, kwargs)
            elif func is embedding and self.words:
                found = look_up(args, kwargs)
            return func(*args, **kwargs) if found is None else found

    return Fast
