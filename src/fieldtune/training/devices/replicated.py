"""A whole copy of the model in each process, their gradients summed by hand once a step; alone, the only copy.

DistributedDataParallel counts on one forward and one backward pass a step and averages over processes. Here a step is
many passes of like length, not as many in each process, and what is to be added up is a sum: one all-reduce after the
last pass is both simpler and exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldtune.training.checkpoint import State
from fieldtune.training.devices.passes import ALONE, Passes
from fieldtune.training.devices.stepper import collect_random, spread_random, spread_weights, sum_gradients
from fieldtune.training.devices.world import World
from fieldtune.training.optimizer import make_optimizer
from fieldtune.training.step import told_norm

if TYPE_CHECKING:
    import torch

    from fieldtune.encoding import Encoder
    from fieldtune.training.losses import Objective
    from fieldtune.training.recipe import Recipe


class Replicated:
    """See Stepper."""

    def __init__(self, encoder: Encoder, recipe: Recipe, objective: Objective, world: World | None) -> None:
        import torch

        self.encoder = encoder
        self.passes = ALONE if world is None else Passes(world.rank, world.size)
        self.scaler = torch.amp.GradScaler("cuda") if encoder.precision == "fp16" else None
        self.norm = 0.0
        self._world, self._seed = world, recipe.seed
        self._own = [] if objective.module is None else list(objective.module.parameters())
        self.optimizer = make_optimizer(encoder.model, recipe.settings, self._own)

    def start(self, whole: State) -> None:
        world = self._world
        self.optimizer.zero_grad(set_to_none=True)
        if world is None:
            return
        spread_weights(self.encoder, whole.module, world)
        if world.rank == 0:
            state = self.optimizer.state_dict()
            # What is told comes up on the device it was on: of the first GPU, and the others are to have their own.
            state["state"] = {
                number: {name: value.cpu() for name, value in one.items()} for number, one in state["state"].items()
            }
            world.tell((state, self.scaler.state_dict() if self.scaler else {}))
        else:
            of_optimizer, of_scaler = world.hear()
            self.optimizer.load_state_dict(of_optimizer)
            if self.scaler is not None:
                self.scaler.load_state_dict(of_scaler)
        spread_random(whole, world, self._seed)

    def begin(self, *, last: bool) -> None:
        """Nothing to do: gradients add up in their places."""

    def pull(self, term: torch.Tensor) -> None:
        if self.passes.rank == 0:  # once in the sum
            (term if self.scaler is None else self.scaler.scale(term)).backward()  # type: ignore[no-untyped-call]

    def update(self, longest: float) -> None:
        import torch

        every = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        if self._world is not None:
            own = {id(weight) for weight in self._own}
            sum_gradients([weight for weight in every if id(weight) not in own], self._world)
            sum_gradients(self._own, self._world, mean=True)  # the whole loss' gradient in each process
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        self.norm = float(torch.nn.utils.clip_grad_norm_(every, longest))
        if self.scaler is not None:
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.norm = told_norm(self.norm, self.scaler)
        else:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def collect(self, whole: State, step: int) -> None:
        if self._world is not None:
            collect_random(whole, self._world)
