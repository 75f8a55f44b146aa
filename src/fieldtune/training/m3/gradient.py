"""One gradient of the loss on three scores, directly or through a cache of what the texts gave."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding import Encoder
from fieldtune.encoding.m3 import Signals, joined, signals_of, token_counts, token_size
from fieldtune.encoding.tokens import TokenStore
from fieldtune.training.batches import Batch
from fieldtune.training.devices.passes import ALONE, Passes
from fieldtune.training.forward import sub_batches
from fieldtune.training.losses.targets import to_targets
from fieldtune.training.m3.objective import M3Objective
from fieldtune.training.processor import fast_passes
from fieldtune.training.step import RandomState, own_parts, scaled

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
    passes: Passes = ALONE,
) -> float:
    """Add `weight` times the gradient of the batch's loss to the parameters' gradients; returns the loss, unweighted.

    With `cached` the activations of one sub-batch are in memory at a time (GradCache, arXiv:2101.06983): dense vectors,
    token weights and token vectors of all texts first without a graph, then the loss's gradient for each of them, then
    each sub-batch once more with that gradient put in. Texts of different lengths lie end to end, so sub-batches need
    no common length. The result is that of the direct way, dropout included. Of several processes each adds what its
    own texts contribute.
    """
    import torch

    targets = to_targets(batch, encoder.model.device)
    sides = [
        (store, rows, passes.shares(store.lengths[rows]))
        for store, rows in ((queries, batch.queries), (passages, batch.passages))
    ]
    if not cached and passes.size == 1:
        left, right = (direct_signals(encoder, heads, store, rows) for store, rows, _ in sides)
        loss = objective.loss(left, right, targets, step)
        if loss.requires_grad:
            scaled(loss * weight, scaler).backward()  # type: ignore[no-untyped-call]
        return loss.item()
    # Of several processes each sees the loss of the whole batch (see devices.passes): what it has to know of the
    # others' texts are their signals, not their graphs.
    kept = [
        _without_graph(encoder, heads, store, rows, shares, passes)
        if cached
        else _with_graph(encoder, heads, store, rows[shares[passes.rank]])
        for store, rows, shares in sides
    ]
    leaves = [
        _as_leaves(_whole(encoder, store, rows, shares, side.own, passes))
        for (store, rows, shares), side in zip(sides, kept, strict=True)
    ]
    loss = objective.loss(leaves[0], leaves[1], targets, step)
    if not loss.requires_grad:
        return loss.item()
    scaled(loss * weight, scaler).backward()  # type: ignore[no-untyped-call]
    again: list[_Again] = []
    for (store, rows, shares), leaf, side in zip(sides, leaves, kept, strict=True):
        gradients = replace(leaf, **{name: _gradient(getattr(leaf, name)) for name in _PARTS})
        own = gradients.take(_moved(shares[passes.rank], encoder))
        again += side.again(store, rows[shares[passes.rank]], own, encoder)
    for number, one in enumerate(again, 1):
        with nullcontext() if one.state is None else one.state.again():
            found = one.found or _batch_signals(encoder, heads, one.store, one.rows)
            learnt = [name for name in _PARTS if getattr(found, name).requires_grad]
            if learnt:
                given = one.gradients
                passes.backward(
                    [getattr(found, name) for name in learnt],
                    [
                        torch.zeros_like(getattr(found, name)) if given is None else getattr(given, name)
                        for name in learnt
                    ],
                    number == len(again),
                )
    return loss.item()


@dataclass(frozen=True, slots=True)
class _Again:
    """What goes back through one pass."""

    store: TokenStore
    rows: NDArray[np.int64]
    state: RandomState | None
    gradients: Signals | None
    """None for a pass without use."""
    found: Signals | None = None
    """With its graph, where that was kept."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """What one side's texts of this process gave."""

    own: Signals
    parts: list[NDArray[np.int64]] | None = None
    """Places that went through the model together; None where the graph was kept."""
    states: tuple[RandomState, ...] = ()
    idle: tuple[NDArray[np.int64], ...] = ()

    def again(self, store: TokenStore, mine: NDArray[np.int64], gradients: Signals, encoder: Encoder) -> list[_Again]:
        if self.parts is None:
            return [_Again(store, mine, None, gradients, self.own)] if len(mine) else []
        real = [
            _Again(store, mine[part], state, gradients.take(_moved(part, encoder)))
            for part, state in zip(self.parts, self.states, strict=True)
        ]
        return real + [_Again(store, rows, None, None) for rows in self.idle]


def _batch_signals(encoder: Encoder, heads: ModuleDict, store: TokenStore, rows: NDArray[np.int64]) -> Signals:
    """Of one sub-batch, with the attention kernel that training takes."""
    with fast_passes(encoder):
        return signals_of(encoder, heads, store, rows)


def direct_signals(encoder: Encoder, heads: ModuleDict, store: TokenStore, rows: NDArray[np.int64]) -> Signals:
    """Of the rows in order, sub-batches of like length going through the model together."""
    parts = sub_batches(encoder, store, rows, cached=False)
    return _in_order([_batch_signals(encoder, heads, store, rows[part]) for part in parts], parts, encoder)


def _with_graph(encoder: Encoder, heads: ModuleDict, store: TokenStore, mine: NDArray[np.int64]) -> _Kept:
    return _Kept(direct_signals(encoder, heads, store, mine) if len(mine) else _nothing(encoder, heads))


def _without_graph(
    encoder: Encoder,
    heads: ModuleDict,
    store: TokenStore,
    rows: NDArray[np.int64],
    shares: list[NDArray[np.int64]],
    passes: Passes,
) -> _Kept:
    import torch

    mine = rows[shares[passes.rank]]
    parts, idle = own_parts(encoder, store, rows, shares, passes)
    found, states = [], []
    with torch.no_grad():
        for part in parts:
            states.append(RandomState(encoder.device))
            found.append(_batch_signals(encoder, heads, store, mine[part]))
        for extra in idle:
            _batch_signals(encoder, heads, store, extra)
    own = _in_order(found, parts, encoder) if found else _nothing(encoder, heads)
    return _Kept(own, parts, tuple(states), tuple(idle))


def _whole(
    encoder: Encoder,
    store: TokenStore,
    rows: NDArray[np.int64],
    shares: list[NDArray[np.int64]],
    own: Signals,
    passes: Passes,
) -> Signals:
    """The signals of the whole batch in its order, without graph; every process knows how many tokens each text has."""
    if passes.size == 1:
        return own
    texts = [len(share) for share in shares]
    tokens = [int(token_counts(encoder, store, rows[share]).sum()) for share in shares]
    sizes = {"dense": texts, "counts": texts, "weights": tokens, "vectors": tokens, "ids": tokens}
    parts = {name: passes.gathered(getattr(own, name).detach(), counts) for name, counts in sizes.items()}
    each = [Signals(**{name: parts[name][rank] for name in sizes}) for rank in range(passes.size)]
    return joined(each).take(_moved(np.argsort(np.concatenate(shares)), encoder))


def _as_leaves(whole: Signals) -> Signals:
    return replace(whole, **{name: getattr(whole, name).detach().requires_grad_() for name in _PARTS})


def _nothing(encoder: Encoder, heads: ModuleDict) -> Signals:
    """Of no text."""
    import torch

    device = encoder.model.device
    none = torch.zeros(0, dtype=torch.int64, device=device)
    width = token_size(heads)
    return Signals(
        torch.zeros(0, encoder.dimension, device=device),
        torch.zeros(0, device=device),
        torch.zeros(0, width, device=device),
        none,
        none,
    )


def _in_order(found: list[Signals], parts: list[NDArray[np.int64]], encoder: Encoder) -> Signals:
    return joined(found).take(_moved(np.argsort(np.concatenate(parts)), encoder))


def _gradient(leaf: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def _moved(rows: NDArray[np.int64], encoder: Encoder) -> torch.Tensor:
    import torch

    return torch.from_numpy(rows).to(encoder.model.device)
