"""One gradient of the loss on three scores, directly or through a cache of what the texts gave."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding import Encoder
from fieldtune.encoding.m3 import Signals, joined, signals_of
from fieldtune.encoding.tokens import TokenStore
from fieldtune.training.batches import Batch
from fieldtune.training.forward import attention_for, sub_batches
from fieldtune.training.losses.targets import to_targets
from fieldtune.training.m3.objective import M3Objective
from fieldtune.training.step import RandomState, scaled

if TYPE_CHECKING:
    import torch
    from torch.nn import ModuleDict

_PARTS = ("dense", "weights", "vectors")


def add_m3_gradient(
    encoder: Encoder,
    heads: ModuleDict,
    batch: Batch,
    queries: TokenStore,
    passages: TokenStore,
    objective: M3Objective,
    step: int,
    *,
    weight: float = 1.0,
    cached: bool = False,
    scaler: torch.amp.GradScaler | None = None,
) -> float:
    """Add `weight` times the gradient of the batch's loss to the parameters' gradients; returns the loss, unweighted.

    With `cached` the activations of one sub-batch are in memory at a time (GradCache, arXiv:2101.06983): dense vectors,
    token weights and token vectors of all texts first without a graph, then the loss's gradient for each of them, then
    each sub-batch once more with that gradient put in. Texts of different lengths lie end to end, so sub-batches need
    no common length. The result is that of the direct way, dropout included.
    """
    targets = to_targets(batch, encoder.model.device)
    sides = ((queries, batch.queries), (passages, batch.passages))
    if not cached:
        left, right = (direct_signals(encoder, heads, store, rows) for store, rows in sides)
        loss = objective.loss(left, right, targets, step)
        if loss.requires_grad:
            scaled(loss * weight, scaler).backward()  # type: ignore[no-untyped-call]
        return loss.item()
    kept = [_without_graph(encoder, heads, store, rows) for store, rows in sides]
    leaves = [
        replace(whole, **{name: getattr(whole, name).requires_grad_() for name in _PARTS}) for whole, _, _ in kept
    ]
    loss = objective.loss(leaves[0], leaves[1], targets, step)
    scaled(loss * weight, scaler).backward()  # type: ignore[no-untyped-call]
    for (store, rows), leaf, (_, parts, states) in zip(sides, leaves, kept, strict=True):
        gradients = replace(leaf, **{name: _gradient(getattr(leaf, name)) for name in _PARTS})
        for part, state in zip(parts, states, strict=True):
            with state.again():
                _again(encoder, heads, store, rows[part], gradients.take(_moved(part, encoder)))
    return loss.item()


def _batch_signals(encoder: Encoder, heads: ModuleDict, store: TokenStore, rows: NDArray[np.int64]) -> Signals:
    """Of one sub-batch, with the attention kernel that training takes."""
    with attention_for(encoder, int(store.lengths[rows].max())):
        return signals_of(encoder, heads, store, rows)


def direct_signals(encoder: Encoder, heads: ModuleDict, store: TokenStore, rows: NDArray[np.int64]) -> Signals:
    """Of the rows in order, sub-batches of like length going through the model together."""
    parts = sub_batches(encoder, store, rows, cached=False)
    return _in_order([_batch_signals(encoder, heads, store, rows[part]) for part in parts], parts, encoder)


def _without_graph(
    encoder: Encoder, heads: ModuleDict, store: TokenStore, rows: NDArray[np.int64]
) -> tuple[Signals, list[NDArray[np.int64]], list[RandomState]]:
    import torch

    parts = sub_batches(encoder, store, rows, cached=True)
    found, states = [], []
    with torch.no_grad():
        for part in parts:
            states.append(RandomState(encoder.device))
            found.append(_batch_signals(encoder, heads, store, rows[part]))
    return _in_order(found, parts, encoder), parts, states


def _again(encoder: Encoder, heads: ModuleDict, store: TokenStore, rows: NDArray[np.int64], gradients: Signals) -> None:
    import torch

    found = _batch_signals(encoder, heads, store, rows)
    learnt = [name for name in _PARTS if getattr(found, name).requires_grad]
    if learnt:
        torch.autograd.backward(
            [getattr(found, name) for name in learnt], [getattr(gradients, name) for name in learnt]
        )


def _in_order(found: list[Signals], parts: list[NDArray[np.int64]], encoder: Encoder) -> Signals:
    return joined(found).take(_moved(np.argsort(np.concatenate(parts)), encoder))


def _gradient(leaf: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def _moved(rows: NDArray[np.int64], encoder: Encoder) -> torch.Tensor:
    import torch

    return torch.from_numpy(rows).to(encoder.model.device)
