"""Attention for training on a processor: torch's fused kernel forward, plain matrix products backward.

The fused kernel's own backward pass is the slowest part of a training step on a processor, several times slower than
its forward pass. The products of one pass's few short texts are small enough for the cache, so the weights are computed
once more in the backward pass from what the fused kernel keeps anyway, the logarithm of each row's sum; nothing of the
size of length x length stays in memory between the passes (after arXiv:2205.14135, section 3.1).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def products_backward() -> AbstractContextManager[Any]:
    """Within it, scaled_dot_product_attention of texts that learn goes backward through plain matrix products.

    Calls with dropout, a causal mask, grouped heads or without gradients take torch's own way.
    """
    mode: AbstractContextManager[Any] = _mode()()
    return mode


@cache
def _mode() -> Any:
    """The class, made when torch is there."""
    import torch
    from torch.overrides import TorchFunctionMode

    attention = torch.nn.functional.scaled_dot_product_attention
    step = _step()

    class ProductsBackward(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func is attention and len(args) == 3 and _fits(args[0], args[1], kwargs):
                mask = kwargs.get("attn_mask")
                query, key, value = _of_one_kind(*args)
                scale = kwargs.get("scale")
                return step.apply(query, key, value, _added(mask, query.dtype), scale or query.shape[-1] ** -0.5)
            return func(*args, **kwargs)

    return ProductsBackward


def _fits(query: torch.Tensor, key: torch.Tensor, settings: dict[str, Any]) -> bool:
    import torch

    mask = settings.get("attn_mask")
    return (
        torch.is_grad_enabled()
        and query.requires_grad
        and query.dim() == 4
        and query.shape == key.shape
        and not settings.get("dropout_p")
        and not settings.get("is_causal")
        and not settings.get("enable_gqa")
        and (mask is None or not mask.requires_grad)
    )


def _of_one_kind(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """In the format of autocast, as the call itself would have them."""
    import torch

    if not torch.is_autocast_enabled("cpu"):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype("cpu")) for tensor in tensors)


def _added(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """A mask of what may be looked at, as numbers to add to the similarities."""
    import torch

    if mask is None or mask.dtype != torch.bool:
        return None if mask is None else mask.to(dtype)
    # Not minus infinity: a row of padding that looks at nothing would be not a number.
    return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min / 2)


@cache
def _step() -> Any:
    import torch

    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, query: Any, key: Any, value: Any, mask: Any, scale: float) -> Any:
            with torch.autocast("cpu", enabled=False):
                out, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                    query, key, value, 0.0, False, attn_mask=mask, scale=scale
                )
            ctx.save_for_backward(query, key, value, mask, sums)
            ctx.scale = scale
            return out

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            query, key, value, mask, sums = ctx.saved_tensors
            (gradient,) = gradients
            # In 32 bits: a similarity rounded to 16 would be off by its own size before the exponential.
            scores = torch.matmul(query.float() * ctx.scale, key.float().transpose(-1, -2))
            if mask is not None:
                scores += mask
            weights = scores.sub_(sums.unsqueeze(-1)).exp_().to(query.dtype)
            to_value = torch.matmul(weights.transpose(-1, -2), gradient)
            to_weights = torch.matmul(gradient, value.transpose(-1, -2))
            to_scores = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype)
            to_query = torch.matmul(to_scores, key) * ctx.scale
            to_key = torch.matmul(to_scores.transpose(-1, -2), query) * ctx.scale
            return to_query, to_key, to_value, None, None

    return Attention
