"""Attention of texts that lie end to end in one row, each by itself: the kernel, and how a model comes to use it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Kernel = Callable[..., "torch.Tensor"]


class CannotPackError(Exception):
    """A call of attention that says something of other texts, or that the kernel has no way for."""


@cache
def kernel_of_gpu(index: int) -> Kernel | None:
    import torch

    if torch.version.cuda is None or torch.cuda.get_device_capability(index) < (8, 0):
        return None
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None

    def kernel(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: torch.Tensor, longest: int, scale: float
    ) -> torch.Tensor:
        if torch.is_autocast_enabled("cuda"):
            query, key, value = (one.to(torch.get_autocast_dtype("cuda")) for one in (query, key, value))
        if query.dtype == torch.float32:
            raise CannotPackError("the kernel of the GPU computes in 16 bits")
        with torch.autocast("cuda", enabled=False):
            found = varlen_attn(query, key, value, starts, starts, longest, longest, scale=scale)
        assert isinstance(found, torch.Tensor)  # a pair only where more than the result is asked for
        return found

    return kernel


@cache
def mode() -> Any:
    """The class, made when torch is there.

    Within it, attention of one row of tokens is of the texts that begin at `starts` (n + 1,), each by itself. A
    `careful` one looks at every number before its row is taken from a table: one beyond the table is an error that can
    be caught on a processor, and the end of all work of the process on a GPU.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    attention, lookup = torch.nn.functional.scaled_dot_product_attention, torch.nn.functional.embedding

    class Apart(TorchFunctionMode):
        def __init__(self, starts: torch.Tensor, tokens: int, longest: int, kernel: Kernel, careful: bool) -> None:
            super().__init__()
            self.starts, self.tokens, self.longest, self.kernel = starts, tokens, longest, kernel
            self.careful, self.calls = careful, 0

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func is attention:
                return self.of_each(*args, **kwargs)
            if func is lookup and self.careful and int(args[0].max()) >= len(args[1]):
                raise CannotPackError("it counts places beyond its table of them")
            return func(*args, **kwargs)

        def of_each(
            self,
            query: torch.Tensor,
            key: torch.Tensor,
            value: torch.Tensor,
            attn_mask: torch.Tensor | None = None,
            dropout_p: float = 0.0,
            is_causal: bool = False,
            scale: float | None = None,
            enable_gqa: bool = False,
        ) -> torch.Tensor:
            """From and to (1, heads, tokens, width)."""
            if attn_mask is not None or is_causal:
                raise CannotPackError("its attention has a mask of its own")
            if dropout_p:
                raise CannotPackError("its attention drops weights at random")
            if enable_gqa or query.shape != key.shape or len(query) != 1 or query.shape[2] != self.tokens:
                raise CannotPackError("its attention is not of the texts alone")
            self.calls += 1
            # To (tokens, heads, width), as the kernel takes them, and back.
            rows = (one[0].transpose(0, 1).contiguous() for one in (query, key, value))
            width = query.shape[-1] ** -0.5
            return self.kernel(*rows, self.starts, self.longest, scale or width).transpose(0, 1)[None]

    return Apart
