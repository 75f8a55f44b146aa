"""Attention for training on a processor: plain matrix products both ways, a few texts at a time.

PyTorch's fused kernel is made for GPUs and for long texts: on a processor that multiplies bf16 it takes as long as all
linear layers beside it, and its backward pass several times as long. The products themselves are quick. What costs in a
plain form is memory: so the similarities of a few heads at a time lie in one array that stays in the processor's cache
and is used again for the next ones, and their rows are filled up to a number of places that the vector units take
whole. The weights of the forward pass are kept for the backward pass where texts are short, and computed again, the
same to the last bit, where they would take more memory than the rest of a layer.

Forward and backward together, in bf16 and 12 heads of 32, this takes 0.4 of the time of the fused kernel at 250 tokens
and 0.2 at 64; 0.6 at 1,024. In 32 bits it would take as long or longer, so it is for 16 alone. The similarities are
rounded to 16 bits, as in every plain implementation of attention: the gradients of MiniLM's layers are 1 to 3% off the
exact ones of the same inputs, those of the fused kernel 0.5 to 1%.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Similarities in the array that is used again: a megabyte of bf16, which stays in a core's own cache.
_TOGETHER = 1 << 19
_WHOLE = 32  # places in a row are a multiple of this: what is left of a softmax is computed one by one
# Weights of a token take heads x length x 2 bytes in a layer; at this length about half of what else is kept of it.
_KEPT_TO = 256


def attend(args: Sequence[Any], settings: dict[str, Any]) -> torch.Tensor | None:
    """What scaled_dot_product_attention(*args, **settings) gives, in 16 bits; the same to the bit without gradients.

    None for calls that take torch's own way: in 32 bits, with dropout, a causal mask, grouped heads, values of another
    width than the keys.
    """
    import torch

    if len(args) != 3 or not _fits(args[0], args[1], args[2], settings):
        return None
    query, key, value = _of_one_kind(*args)
    if query.dtype == torch.float32:
        return None
    mask, scale = _added(settings.get("attn_mask"), query.dtype), settings.get("scale")
    scale = scale or query.shape[-1] ** -0.5
    if not (torch.is_grad_enabled() and any(one.requires_grad for one in (query, key, value))):
        return _Heads.of(query, key, value, mask, scale).looked_up().view(query.shape)
    found: torch.Tensor = _step().apply(query, key, value, mask, scale)
    return found


def _fits(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, settings: dict[str, Any]) -> bool:
    mask = settings.get("attn_mask")
    return (
        query.dim() == 4
        and query.shape == key.shape == value.shape
        and not settings.get("dropout_p")
        and not settings.get("is_causal")
        and not settings.get("enable_gqa")
        and (mask is None or (mask.dim() == 4 and not mask.requires_grad))
    )


def _of_one_kind(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """In the format of autocast, as the call itself would have them."""
    import torch

    if not torch.is_autocast_enabled("cpu"):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype("cpu")) for tensor in tensors)


def _added(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """A mask of what may be looked at, as numbers to add: (texts or 1, heads or 1, tokens or 1, places)."""
    import torch

    if mask is None:
        return None
    if mask.stride(2) == 0:  # the same for all tokens of a text, which is the usual case
        mask = mask[:, :, :1]
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    # Not minus infinity: a row of padding that looks at nothing would be not a number.
    return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, _never(dtype))


def _never(dtype: torch.dtype) -> float:
    import torch

    return torch.finfo(dtype).min / 2


@dataclass(frozen=True, slots=True)
class _Heads:
    """The heads of all texts one after the other, h = texts x heads of them."""

    query: torch.Tensor
    """(h, length, width)"""
    key: torch.Tensor
    """(h, places, width): zeros after the last token up to a whole number of places; and so `value`."""
    value: torch.Tensor
    mask: torch.Tensor | None
    """(texts or 1, heads or 1, length or 1, places), added to the similarities."""
    heads: int
    scale: float

    @classmethod
    def of(
        cls, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float
    ) -> _Heads:
        """From tensors (texts, heads, length, width) and a mask as `_added` makes it."""
        from torch.nn.functional import pad

        _, heads, length, _ = query.shape
        more = -length % _WHOLE
        key, value = (pad(one, (0, 0, 0, more)) if more else one for one in (key, value))
        if more:
            mask = query.new_zeros(1, 1, 1, length) if mask is None else mask
            mask = pad(mask, (0, more), value=_never(mask.dtype))
        query, key, value = (one.reshape(-1, *one.shape[2:]).contiguous() for one in (query, key, value))
        return cls(query, key, value, mask, heads, scale)

    def parts(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Heads that are computed together, and an array (some, length, places) that is free for them."""
        length, places = self.query.shape[1], self.key.shape[1]
        room = max(1, _TOGETHER // (length * places))
        # Whole texts, or equal shares of one.
        size = room - room % self.heads or max(n for n in range(1, room + 1) if self.heads % n == 0)
        free = self.query.new_empty(min(size, len(self.query)), length, places)
        for begin in range(0, len(self.query), size):
            end = min(begin + size, len(self.query))
            yield slice(begin, end), free[: end - begin]

    def looked_up(self, kept: torch.Tensor | None = None) -> torch.Tensor:
        """What each token finds, (h, length, width); its weights (h, length, places) go into `kept`."""
        import torch

        out = torch.empty_like(self.query)
        with torch.autocast("cpu", enabled=False):
            for some, free in self.parts():
                weights = self.weights(some, free, free if kept is None else kept[some])
                torch.bmm(weights, self.value[some], out=out[some])
        return out

    def weights(self, some: slice, free: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Of each token to each place, into `out`, which may be the free array itself."""
        import torch

        among = free if self.mask is None else self._added_to(some)
        beta = 0 if self.mask is None else 1
        keys = self.key[some].transpose(-1, -2)
        torch.baddbmm(among, self.query[some], keys, beta=beta, alpha=self.scale, out=free)
        return torch._softmax(free, -1, False, out=out)

    def _added_to(self, some: slice) -> torch.Tensor:
        """The part of the mask that is added to the similarities of these heads, (some or 1, length or 1, places)."""
        assert self.mask is not None  # the caller has looked
        texts, first = slice(some.start // self.heads, -(-some.stop // self.heads)), some.start % self.heads
        mask = self.mask if len(self.mask) == 1 else self.mask[texts]
        count = min(self.heads, some.stop - some.start)
        mask = mask if mask.shape[1] == 1 else mask[:, first : first + count]
        return mask.expand(texts.stop - texts.start, count, -1, -1).flatten(0, 1)


@cache
def _step() -> Any:
    import torch

    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, query: Any, key: Any, value: Any, mask: Any, scale: float) -> Any:
            whole = _Heads.of(query, key, value, mask, scale)
            length, places = query.shape[2], whole.key.shape[1]
            kept = query.new_empty(len(whole.query), length, places) if length <= _KEPT_TO else None
            out = whole.looked_up(kept)
            ctx.save_for_backward(whole.query, whole.key, whole.value, whole.mask, kept)
            ctx.shape, ctx.scale = query.shape, scale
            return out.view(query.shape)

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            query, key, value, mask, kept = ctx.saved_tensors
            texts, heads, length, width = ctx.shape
            with torch.autocast("cpu", enabled=False):
                whole = _Heads(query, key, value, mask, heads, ctx.scale)
                gradient = gradients[0].reshape(whole.query.shape)
                to_query, to_key, to_value = (torch.empty_like(one) for one in (whole.query, whole.key, whole.value))
                change = None
                for some, free in whole.parts():
                    weights = whole.weights(some, free, free) if kept is None else kept[some]
                    change = torch.empty_like(weights) if change is None or len(change) != len(weights) else change
                    given = gradient[some]
                    torch.bmm(weights.transpose(-1, -2), given, out=to_value[some])
                    torch.bmm(given, whole.value[some].transpose(-1, -2), out=change)
                    softmax_back(change, weights, -1, weights.dtype, grad_input=change)
                    scaled(to_query[some], change, whole.key[some], beta=0, alpha=ctx.scale, out=to_query[some])
                    turned = change.transpose(-1, -2)
                    scaled(to_key[some], turned, whole.query[some], beta=0, alpha=ctx.scale, out=to_key[some])
            found = (one.view(texts, heads, -1, width)[:, :, :length] for one in (to_query, to_key, to_value))
            return *found, None, None

    scaled, softmax_back = torch.baddbmm, torch.ops.aten._softmax_backward_data.out
    return Attention
