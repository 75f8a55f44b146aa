"""One gradient: forward, loss, backward, through a cache of the vectors where memory is short."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding import Encoder
from fieldtune.encoding.tokens import TokenStore
from fieldtune.training.batches import Batch
from fieldtune.training.devices.passes import ALONE, Passes
from fieldtune.training.forward import embed_part, embed_rows, sub_batches
from fieldtune.training.losses import Objective, Targets, to_targets

if TYPE_CHECKING:
    import torch


_LEAST = 1.0  # a scale below which gradients do not overflow: they are no numbers


@dataclass(frozen=True, slots=True)
class _Side:
    """The queries or the passages of a batch."""

    store: TokenStore
    rows: NDArray[np.int64]
    shares: list[NDArray[np.int64]]
    """Places in `rows` of each process' part."""
    mine: NDArray[np.int64]
    """Rows of this process' part."""

    @classmethod
    def of(cls, store: TokenStore, rows: NDArray[np.int64], passes: Passes) -> _Side:
        shares = passes.shares(store.lengths[rows])
        return cls(store, rows, shares, rows[shares[passes.rank]])


def add_gradient(
    encoder: Encoder,
    batch: Batch,
    queries: TokenStore,
    passages: TokenStore,
    objective: Objective,
    *,
    weight: float = 1.0,
    cached: bool = False,
    scaler: torch.amp.GradScaler | None = None,
    passes: Passes = ALONE,
) -> float:
    """Add `weight` times the gradient of the batch's loss to the parameters' gradients; returns the loss, unweighted.

    With `cached` the activations of one sub-batch are in memory at a time: vectors first without a graph, then the
    loss's gradient for each vector, then each sub-batch once more with that gradient put in (GradCache,
    arXiv:2101.06983, section 3). The result is that of the direct way, dropout included. Of several processes each adds
    what its own texts contribute: the gradient is the sum over them, the loss the same in all.
    """
    device = encoder.model.device
    guide = (None, None) if objective.fixed is None else objective.fixed.rows(batch.queries, batch.passages, device)
    targets = to_targets(batch, device, guide)
    sides = [_Side.of(queries, batch.queries, passes), _Side.of(passages, batch.passages, passes)]
    if cached:
        return _through_cache(encoder, sides, objective, targets, weight, scaler, passes)
    own = [embed_rows(encoder, side.store, side.mine) for side in sides]
    if passes.size == 1:
        loss = objective.loss(own[0], own[1], targets)
        scaled(loss * weight, scaler).backward()  # type: ignore[no-untyped-call]
        return loss.item()
    leaves = [passes.whole(part.detach(), side.shares).requires_grad_() for part, side in zip(own, sides, strict=True)]
    loss = objective.loss(leaves[0], leaves[1], targets)
    scaled(loss * weight, scaler).backward()  # type: ignore[no-untyped-call]
    found = [
        (part, leaf.grad[torch_rows(side.shares[passes.rank])])
        for part, leaf, side in zip(own, leaves, sides, strict=True)
        if part.requires_grad and leaf.grad is not None
    ]
    if found:
        passes.backward([part for part, _ in found], [gradient for _, gradient in found], True)
    return loss.item()


def _through_cache(
    encoder: Encoder,
    sides: list[_Side],
    objective: Objective,
    targets: Targets,
    weight: float,
    scaler: torch.amp.GradScaler | None,
    passes: Passes,
) -> float:
    import torch

    leaves, parts, states = [], [], []
    for side in sides:
        places, idle = own_parts(encoder, side.store, side.rows, side.shares, passes)
        own = torch.zeros(len(side.mine), encoder.dimension, device=encoder.model.device)
        before = []
        with torch.no_grad():
            for part in places:
                before.append(RandomState(encoder.device))
                own[torch.from_numpy(part)] = embed_part(encoder, side.store, side.mine[part])
            for rows in idle:
                embed_part(encoder, side.store, rows)
        leaves.append(passes.whole(own, side.shares).requires_grad_())
        parts.append((places, idle))
        states.append(before)
    loss = objective.loss(leaves[0], leaves[1], targets)
    scaled(loss * weight, scaler).backward()  # type: ignore[no-untyped-call]
    again: list[tuple[TokenStore, NDArray[np.int64], RandomState | None, torch.Tensor]] = []
    for side, (places, idle), before, leaf in zip(sides, parts, states, leaves, strict=True):
        if leaf.grad is None:  # the loss does not depend on this side
            continue
        own = leaf.grad[torch_rows(side.shares[passes.rank])]
        for part, state in zip(places, before, strict=True):
            again.append((side.store, side.mine[part], state, own[torch.from_numpy(part)]))
        again += [(side.store, rows, None, leaf.grad.new_zeros(len(rows), leaf.shape[1])) for rows in idle]
    for number, (store, rows, drawn, gradient) in enumerate(again, 1):
        with nullcontext() if drawn is None else drawn.again():
            passes.backward([embed_part(encoder, store, rows)], [gradient], number == len(again))
    return loss.item()


def own_parts(
    encoder: Encoder, store: TokenStore, rows: NDArray[np.int64], shares: list[NDArray[np.int64]], passes: Passes
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """Places in this process' rows that go through the model together, and the rows of each pass without use."""
    cut = [sub_batches(encoder, store, rows[share], cached=True) for share in shares]
    shortest = rows[[int(np.argmin(store.lengths[rows]))]]
    return cut[passes.rank], [shortest] * passes.idle([len(parts) for parts in cut])


def torch_rows(places: NDArray[np.int64]) -> torch.Tensor:
    import torch

    return torch.from_numpy(places)


def scaled(loss: torch.Tensor, scaler: torch.amp.GradScaler | None) -> torch.Tensor:
    """The loss at the size that its gradients have in 16 bits."""
    return loss if scaler is None else scaler.scale(loss)


def told_norm(norm: float, scaler: torch.amp.GradScaler | None) -> float:
    """The norm of a gradient after its step; 0 where it overflowed 16 bits and the step was left out for it: the next
    ones are computed at a smaller scale."""
    overflowed = scaler is not None and not math.isfinite(norm) and scaler.get_scale() >= _LEAST
    return 0.0 if overflowed else norm


class RandomState:
    """The random state of the moment it is made in, to draw the same dropout once more."""

    def __init__(self, device: str) -> None:
        import torch

        self._device = device
        self._processor = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state(device) if device.startswith("cuda") else None

    @contextmanager
    def again(self) -> Iterator[None]:
        import torch

        with torch.random.fork_rng([self._device] if self._cuda is not None else []):
            torch.set_rng_state(self._processor)
            if self._cuda is not None:
                torch.cuda.set_rng_state(self._cuda, self._device)
            yield
