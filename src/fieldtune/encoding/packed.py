"""Texts end to end in one row, without padding, where a kernel keeps their attention apart.

The kernel is PyTorch's `varlen_attn`, which runs on NVIDIA GPUs from compute capability 8.0 in 16 bits; elsewhere, and
with models whose attention is not plain (a mask of their own, dropout, layers computed a second time), the texts are
padded as before. Nothing is taken on trust: the first texts of a model go through it both ways, and only where the
vectors agree is it used further on. https://docs.pytorch.org/docs/stable/nn.attention.varlen.html
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_TRIED, _LEAST = 8, 0.999
"""Texts that go both ways, and the cosine between their vectors."""

Kernel = Callable[..., "torch.Tensor"]


class CannotPackError(Exception):
    """A call of attention that says something of other texts, or that the kernel has no way for."""


def vectors(model: Any, ids: torch.Tensor, mask: torch.Tensor, **route: Any) -> torch.Tensor:
    """The model's vectors (n, dimension) of padded token ids and their mask, both (n, longest) and on the CPU."""
    kernel = _kernel(model)
    if kernel is None or len(ids) == 1 or bool(mask.all()):
        return _padded(model, ids, mask, route)
    known = _known()
    if model not in known:
        known[model] = _first_position(model, ids[:_TRIED], mask[:_TRIED], route, kernel)
    first = known[model]
    if first is not None:
        try:
            return _packed(model, ids, mask, route, kernel, first)
        except CannotPackError as reason:
            log.info("texts go through the model with padding: %s", reason)
            known[model] = None
    return _padded(model, ids, mask, route)


def _padded(model: Any, ids: torch.Tensor, mask: torch.Tensor, route: Mapping[str, Any]) -> torch.Tensor:
    features = {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device)}
    found: torch.Tensor = model(features, **route)["sentence_embedding"]
    return found


def _packed(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, route: Mapping[str, Any], kernel: Kernel, first: int
) -> torch.Tensor:
    """`first` is the number of the first place in a text, which is not 0 in the family of RoBERTa."""
    import torch

    kept = mask.bool()
    lengths = kept.sum(1)
    starts = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
    places = (torch.arange(ids.shape[1]) + first).expand_as(ids)[kept][None]
    to = model.device
    where = kept.flatten().nonzero().squeeze(1).to(to)

    def padded_again(_module: Any, _given: Any, features: dict[str, Any]) -> dict[str, Any]:
        flat = features["token_embeddings"][0]
        rows = flat.new_zeros(kept.numel(), flat.shape[-1]).index_copy(0, where, flat)
        again = {"token_embeddings": rows.view(*ids.shape, -1), "input_ids": ids.to(to), "attention_mask": mask.to(to)}
        return features | again

    # The modules behind the transformer (pooling and what follows) see what they would without packing; a hook, and not
    # calls of one module after the other, for the model as a whole may be what gathers weights from other devices.
    hook = model[0].register_forward_hook(padded_again)
    try:
        features = {"input_ids": ids[kept][None].to(to), "position_ids": places.to(to)}
        with _mode()(starts.to(to), int(starts[-1]), int(lengths.max()), kernel) as apart:
            found: torch.Tensor = model(features, **route)["sentence_embedding"]
        if not apart.calls:
            raise CannotPackError("its attention is not PyTorch's own")
        return found
    finally:
        hook.remove()


def _first_position(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, route: Mapping[str, Any], kernel: Kernel
) -> int | None:
    """With which number of the first place packed and padded texts have the same vectors; None: with neither."""
    import torch

    padding = getattr(getattr(model[0], "config", None), "pad_token_id", None) or 0
    agreed: dict[int, float] = {}
    with torch.no_grad():
        right = _padded(model, ids, mask, route).float()
        for first in {0, padding + 1}:
            try:
                found = _packed(model, ids, mask, route, kernel, first).float()
            except (CannotPackError, RuntimeError, TypeError, ValueError, IndexError) as reason:
                log.info("texts cannot go through the model without padding: %s", reason)
                return None
            agreed[first] = float(torch.nn.functional.cosine_similarity(found, right).min())
    best = max(agreed, key=agreed.__getitem__)
    if agreed[best] < _LEAST:
        log.info("texts go through the model with padding: without it a vector has a cosine of %.4f", agreed[best])
        return None
    log.info("texts go through the model end to end, without padding")
    return best


@cache
def _known() -> WeakKeyDictionary[Any, int | None]:
    """Of each model: the number of the first place, or None where texts have to be padded."""
    return WeakKeyDictionary()


def _kernel(model: Any) -> Kernel | None:
    """What computes attention of texts end to end for this model, here and now; None where nothing does."""
    if model.device.type != "cuda" or getattr(model.transformers_model, "is_activation_checkpointing", False):
        return None  # layers computed a second time would not know which texts lie where
    if any(hasattr(one, "ds_id") or hasattr(one, "placements") for one in model.parameters()):
        return None  # weights lie on several devices, which must all make as many passes: a trial on one would hang
    return _on_gpu(model.device.index or 0)


@cache
def _on_gpu(index: int) -> Kernel | None:
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
def _mode() -> Any:
    """The class, made when torch is there.

    Within it, attention of one row of tokens is of the texts that begin at `starts` (n + 1,), each by itself.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    attention = torch.nn.functional.scaled_dot_product_attention

    class Apart(TorchFunctionMode):
        def __init__(self, starts: torch.Tensor, tokens: int, longest: int, kernel: Kernel) -> None:
            super().__init__()
            self.starts, self.tokens, self.longest, self.kernel = starts, tokens, longest, kernel
            self.calls = 0

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func is not attention:
                return func(*args, **kwargs)
            return self.of_each(*args, **kwargs)

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
