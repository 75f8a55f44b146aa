"""What takes the steps of a training: whole copies of the model, or a model whose parts lie in several processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from fieldtune.training.checkpoint import State
from fieldtune.training.devices.passes import Passes
from fieldtune.training.devices.world import World, current

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from fieldtune.encoding import Encoder
    from fieldtune.training.losses import Objective
    from fieldtune.training.recipe import Recipe


class Stepper(Protocol):
    """All processes call each method at the same time, in the same order."""

    encoder: Encoder
    """What the texts of a step go through; evaluation and saving take the session's plain encoder."""
    optimizer: Any
    """With the groups whose rate is set."""
    passes: Passes
    norm: float
    """Length of the last step's gradient before it was shortened; 0 where that step was left out on purpose, to find
    the scale at which gradients fit into 16 bits."""

    def start(self, whole: State) -> None:
        """Give every process the weights and the state that the first one has read."""

    def begin(self, *, last: bool) -> None:
        """Before the gradient of a batch, the `last` one of its step or not."""

    def pull(self, term: torch.Tensor) -> None:
        """Add the gradient of a term that looks at the weights alone."""

    def update(self, longest: float) -> None:
        """Bring the gradients together, shorten them to the length `longest`, change the weights."""

    def collect(self, whole: State, step: int) -> None:
        """Put the trained weights into the plain encoder of the first process, and what a checkpoint needs into
        `whole`."""


def make_stepper(encoder: Encoder, recipe: Recipe, objective: Objective, work: Path) -> Stepper:
    """The one that the settings ask for; `work` is the folder of the training's state."""
    from fieldtune.training.devices.replicated import Replicated

    world, settings = current(), recipe.settings
    if world is not None and settings.deepspeed:
        from fieldtune.training.devices.deep import Deep

        return Deep(encoder, recipe, world, work)
    if world is not None and settings.fsdp:
        from fieldtune.training.devices.sharded import Sharded

        return Sharded(encoder, recipe, objective, world)
    return Replicated(encoder, recipe, objective, world)


def spread_weights(encoder: Encoder, module: torch.nn.Module | None, world: World) -> None:
    """Give every process the first one's weights: of the model, and those of the loss itself."""
    import torch

    parts = [encoder.model.state_dict(), {} if module is None else module.state_dict()]
    with torch.no_grad():
        for part in parts:
            for weight in part.values():
                if weight.is_floating_point():  # numbers in 4 bits are the base's, and not trained
                    whole = world.spread(weight.to(world.device).contiguous())
                    if whole.data_ptr() != weight.data_ptr():
                        weight.copy_(whole)


def spread_random(whole: State, world: World, seed: int) -> None:
    """Let every process draw its own dropout: as before the checkpoint, or from the seed."""
    import torch

    states = world.hear() if world.rank else list(whole.others)
    if not world.rank:
        world.tell(states)
        return
    if len(states) == world.size - 1:
        _set_random(states[world.rank - 1], world)
    else:
        torch.manual_seed(seed + 1_000_003 * world.rank)


def collect_random(whole: State, world: World) -> None:
    """Put the random states of the other processes into `whole`."""
    import torch

    gpu = torch.cuda.get_rng_state(world.device) if world.device.type == "cuda" else torch.zeros(0, dtype=torch.uint8)
    whole.others[:] = world.gathered((torch.get_rng_state(), gpu))[1:]


def _set_random(state: tuple[torch.Tensor, torch.Tensor], world: World) -> None:
    import torch

    torch.set_rng_state(state[0])
    if len(state[1]) and world.device.type == "cuda":
        torch.cuda.set_rng_state(state[1], world.device)


def sum_gradients(weights: Iterable[torch.nn.Parameter], world: World, *, mean: bool = False) -> None:
    """Replace each gradient by the sum, or mean, over the processes; a weight without any in all of them keeps none."""
    import torch
    from torch import distributed

    every = list(weights)
    if not every:
        return
    # A process whose texts are few may lack gradients that others have; one that nobody has must stay away, or the
    # optimizer would let the weight decay.
    there = torch.tensor([weight.grad is not None for weight in every], dtype=torch.uint8, device=world.device)
    distributed.all_reduce(there, distributed.ReduceOp.MAX)
    learnt = [weight for weight, one in zip(every, there.tolist(), strict=True) if one]
    bucket: list[torch.nn.Parameter] = []
    size = 0
    for number, weight in enumerate(learnt, 1):
        bucket.append(weight)
        size += weight.numel()
        if size >= _BUCKET or number == len(learnt):
            _sum_bucket(bucket, world.size if mean else 1)
            bucket, size = [], 0


_BUCKET = 25_000_000  # numbers summed at once: few enough to be held twice, enough to fill a connection


def _sum_bucket(weights: list[torch.nn.Parameter], parts: int) -> None:
    import torch
    from torch import distributed

    gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= parts
    begin = 0
    for weight, gradient in zip(weights, gradients, strict=True):
        gradient.copy_(flat[begin : begin + weight.numel()].view_as(gradient))
        weight.grad = gradient
        begin += weight.numel()
