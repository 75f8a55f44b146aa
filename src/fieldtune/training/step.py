"""One gradient: forward, loss, backward, through a cache of the vectors where memory is short."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding import Encoder
from fieldtune.encoding.tokens import TokenStore
from fieldtune.training.batches import Batch
from fieldtune.training.forward import embed_part, embed_rows, sub_batches
from fieldtune.training.losses import Objective, Targets, to_targets

if TYPE_CHECKING:
    import torch


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
) -> float:
    """Add `weight` times the gradient of the batch's loss to the parameters' gradients; returns the loss, unweighted.

    With `cached` the activations of one sub-batch are in memory at a time: vectors first without a graph, then the
    loss's gradient for each vector, then each sub-batch once more with that gradient put in (GradCache,
    arXiv:2101.06983, section 3). The result is that of the direct way, dropout included.
    """
    device = encoder.model.device
    guide = (None, None) if objective.fixed is None else objective.fixed.rows(batch.queries, batch.passages, device)
    targets = to_targets(batch, device, guide)
    if cached:
        return _through_cache(encoder, batch, (queries, passages), objective, targets, weight, scaler)
    left, right = embed_rows(encoder, queries, batch.queries), embed_rows(encoder, passages, batch.passages)
    loss = objective.loss(left, right, targets)
    scaled(loss * weight, scaler).backward()  # type: ignore[no-untyped-call]
    return loss.item()


def _through_cache(
    encoder: Encoder,
    batch: Batch,
    stores: tuple[TokenStore, TokenStore],
    objective: Objective,
    targets: Targets,
    weight: float,
    scaler: torch.amp.GradScaler | None,
) -> float:
    import torch

    sides = (batch.queries, batch.passages)
    parts = [sub_batches(encoder, store, rows, cached=True) for store, rows in zip(stores, sides, strict=True)]
    states: list[list[RandomState]] = []
    leaves = []
    for store, rows, places in zip(stores, sides, parts, strict=True):
        leaf = torch.zeros(len(rows), encoder.dimension, device=encoder.model.device)
        states.append([])
        with torch.no_grad():
            for part in places:
                states[-1].append(RandomState(encoder.device))
                leaf[torch.from_numpy(part)] = embed_part(encoder, store, rows[part])
        leaves.append(leaf.requires_grad_())
    loss = objective.loss(leaves[0], leaves[1], targets)
    scaled(loss * weight, scaler).backward()  # type: ignore[no-untyped-call]
    for store, rows, places, leaf, before in zip(stores, sides, parts, leaves, states, strict=True):
        if leaf.grad is None:  # the loss does not depend on this side
            continue
        for part, state in zip(places, before, strict=True):
            with state.again():
                _again(encoder, store, rows[part], leaf.grad[torch.from_numpy(part)])
    return loss.item()


def _again(encoder: Encoder, store: TokenStore, rows: NDArray[np.int64], gradient: torch.Tensor) -> None:
    embed_part(encoder, store, rows).backward(gradient)  # type: ignore[no-untyped-call]


def scaled(loss: torch.Tensor, scaler: torch.amp.GradScaler | None) -> torch.Tensor:
    """The loss at the size that its gradients have in 16 bits."""
    return loss if scaler is None else scaler.scale(loss)


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
