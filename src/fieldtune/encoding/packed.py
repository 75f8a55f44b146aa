"""Texts end to end in one row, without padding, where a kernel keeps their attention apart.

The kernel is PyTorch's `varlen_attn`, which runs on NVIDIA GPUs from compute capability 8.0 in 16 bits; elsewhere, and
with models whose attention is not plain (a mask of their own, dropout, layers computed a second time), the texts are
padded as before. Nothing is taken on trust: the first texts of a model go through it both ways, and only where the
vectors agree is it used further on. https://docs.pytorch.org/docs/stable/nn.attention.varlen.html
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from fieldtune.encoding.apart import CannotPackError, Kernel, kernel_of_gpu, mode

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

State = tuple[bool, "torch.dtype", "torch.dtype | None"]
"""Of a model: whether any of it is in training, the format of its weights, and the one that they are cast to."""

_LOCK = Lock()
_TRIED, _LEAST = 8, 0.999
"""Texts that go both ways, and the cosine between their vectors."""


def vectors(model: Any, ids: torch.Tensor, mask: torch.Tensor, **route: Any) -> torch.Tensor:
    """The model's vectors (n, dimension) of padded token ids and their mask, both (n, longest) and on the CPU."""
    if len(ids) == 1 or bool(mask.all()):
        return _padded(model, ids, mask, route)
    kernel = _kernel(model)
    if kernel is None:
        return _padded(model, ids, mask, route)
    known, state = _known().setdefault(model, {}), _state(model)
    if state not in known:
        known[state] = _first_place(model, ids[:_TRIED], mask[:_TRIED], route, kernel)
    first = known[state]
    if first is not None:
        try:
            return _packed(model, ids, mask, route, kernel, first)
        except CannotPackError as reason:
            log.info("texts go through the model with padding: %s", reason)
            known[state] = None
    return _padded(model, ids, mask, route)


def _state(model: Any) -> State:
    """What else decides whether texts can go through a model end to end: a pass with dropout or in 32 bits cannot."""
    import torch

    kind = model.device.type
    cast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    # Some of its modules may be in training by themselves: the inputs of low-rank changes have a dropout of their own.
    return any(one.training for one in _plain(model).modules()), model.dtype, cast


def _plain(model: Any) -> Any:
    """The model within DeepSpeed's engine, which has its attributes, but neither its modules by number nor its mode."""
    return getattr(model, "module", model)


def _padded(model: Any, ids: torch.Tensor, mask: torch.Tensor, route: Mapping[str, Any]) -> torch.Tensor:
    features = {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device)}
    found: torch.Tensor = model(features, **route)["sentence_embedding"]
    return found


def _packed(
    model: Any,
    ids: torch.Tensor,
    mask: torch.Tensor,
    route: Mapping[str, Any],
    kernel: Kernel,
    first: int,
    *,
    careful: bool = False,
) -> torch.Tensor:
    """`first` is the number of the first place in a text, which is not 0 in the family of RoBERTa."""
    import torch

    transformer = _plain(model)[0]
    if first and first + ids.shape[1] > (getattr(transformer.config, "max_position_embeddings", None) or 0):
        raise CannotPackError("a text is longer than its table of places")

    kept = mask.bool()
    lengths = kept.sum(1)
    starts = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
    places = (torch.arange(ids.shape[1]) + first).expand_as(ids)[kept][None]
    to = model.device
    where = kept.flatten().nonzero().squeeze(1).to(to)

    def padded_again(features: dict[str, Any]) -> dict[str, Any]:
        flat = features["token_embeddings"][0]
        rows = flat.new_zeros(kept.numel(), flat.shape[-1]).index_copy(0, where, flat)
        again = {"token_embeddings": rows.view(*ids.shape, -1), "input_ids": ids.to(to), "attention_mask": mask.to(to)}
        return features | again

    _let_put_back(transformer)
    behind = _BEHIND.set(padded_again)
    try:
        features = {"input_ids": ids[kept][None].to(to), "position_ids": places.to(to)}
        with mode()(starts.to(to), int(starts[-1]), int(lengths.max()), kernel, careful) as apart:
            found: torch.Tensor = model(features, **route)["sentence_embedding"]
        if not apart.calls:
            raise CannotPackError("its attention is not PyTorch's own")
        return found
    finally:
        _BEHIND.reset(behind)


_BEHIND: ContextVar[Callable[[dict[str, Any]], dict[str, Any]] | None] = ContextVar("_BEHIND", default=None)
"""What the transformer's output goes through in this thread's pass, so that the modules behind it see it padded."""


def _let_put_back(transformer: Any) -> None:
    """Hook what is in _BEHIND in between the transformer and the modules behind it, in passes of any thread.

    A hook, and not calls of one module after the other, for the model as a whole may be what looks after weights and
    number formats; one for good, for one that came and went with a pass would be met by passes of other threads.
    """
    with _LOCK:
        if _put_back not in transformer._forward_hooks.values():  # a copy of a model has its hooks
            transformer.register_forward_hook(_put_back)


def _put_back(_transformer: Any, _given: Any, features: dict[str, Any]) -> dict[str, Any] | None:
    behind = _BEHIND.get()
    return None if behind is None else behind(features)


def _first_place(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, route: Mapping[str, Any], kernel: Kernel
) -> int | None:
    """With which number of the first place packed and padded texts have the same vectors; None: with none."""
    import torch

    # What dropout draws here must not be missing from the passes that follow, which are gone through again from the
    # same random state where gradients are cached.
    device = model.device
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else [], enabled=_state(model)[0]):
        right = _padded(model, ids, mask, route).float()
        for first in _likely_places(model.transformers_model):
            try:
                found = _packed(model, ids, mask, route, kernel, first, careful=True).float()
                agreed = float(torch.nn.functional.cosine_similarity(found, right).min())
            except Exception as reason:  # code of the model's folder, say, that was not written for such input
                log.info("texts cannot go through the model without padding: %s: %s", type(reason).__name__, reason)
                continue
            if agreed >= _LEAST:  # what is no number is not
                log.info("texts go through the model end to end, without padding")
                return first
            log.info("texts cannot go through the model without padding: a vector has a cosine of %.4f", agreed)
    return None


def _likely_places(transformer: torch.nn.Module) -> list[int]:
    """Numbers that the first place in a text may have, the likelier one first.

    Places are counted from 0, but from after the padding's number in the family of RoBERTa: its table of places has a
    row for padding, as a table of words has. In short texts places may count for so little that a wrong one agrees.
    """
    import torch

    tables = [one for one in transformer.modules() if isinstance(one, torch.nn.Embedding)]
    rows = [one.padding_idx for one in tables if one.padding_idx is not None]
    after = rows[-1] + 1 if rows else 1
    return [after, 0] if len(rows) > 1 else [0, after]


@cache
def _known() -> WeakKeyDictionary[Any, dict[State, int | None]]:
    """Of each model and its states: the number of the first place, or None where texts have to be padded."""
    return WeakKeyDictionary()


def _kernel(model: Any) -> Kernel | None:
    """What computes attention of texts end to end for this model, here and now; None where nothing does."""
    if model.device.type != "cuda" or getattr(model.transformers_model, "is_activation_checkpointing", False):
        return None  # layers computed a second time would not know which texts lie where
    if any(hasattr(one, "ds_id") or hasattr(one, "placements") for one in model.parameters()):
        return None  # weights lie on several devices, which must all make as many passes: a trial on one would hang
    return kernel_of_gpu(model.device.index or 0)
