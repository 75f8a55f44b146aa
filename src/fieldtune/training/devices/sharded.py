"""Weights, gradients and optimizer state cut up over the processes by PyTorch's own FSDP (fully_shard)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fieldtune.training.blocks import layers_of
from fieldtune.training.checkpoint import State
from fieldtune.training.devices.passes import Passes, plain_backward
from fieldtune.training.devices.stepper import collect_random, spread_random, spread_weights, sum_gradients
from fieldtune.training.devices.world import World
from fieldtune.training.m3.fitting import heads_in
from fieldtune.training.optimizer import make_optimizer

if TYPE_CHECKING:
    import torch

    from fieldtune.encoding import Encoder
    from fieldtune.training.losses import Objective
    from fieldtune.training.recipe import Recipe

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Sharded:
    """See Stepper. The plain encoder stays whole in the first process, for evaluation; its sharded twin is trained.

    Each pass brings a layer's weights together and lets them go again, so every process makes equally many passes, and
    each pass goes back at once, through the gradient cache.
    """

    def __init__(self, encoder: Encoder, recipe: Recipe, objective: Objective, world: World) -> None:
        self.encoder = self._plain = encoder
        self.passes = Passes(world.rank, world.size, True, self._backward)
        self._world, self._recipe = world, recipe
        self._own = [] if objective.module is None else list(objective.module.parameters())
        self._saved: dict[str, Any] = {}
        self.optimizer: Any = None
        self.norm = 0.0

    def start(self, whole: State) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        world = self._world
        spread_weights(self._plain, whole.module, world)
        model = copy.deepcopy(self._plain.model)
        if world.rank:
            self._plain.model.to("cpu")  # it serves the first process alone
        heads = heads_in(model)
        # The two small layers of M3 are used outside the model's own pass: they stay whole.
        outside = set() if heads is None else set(heads.parameters())
        mesh = init_device_mesh(world.device.type, (world.size,))
        for layer in layers_of(model.transformers_model)[1]:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh, ignored_params=outside)
        self.encoder = copy.copy(self._plain)
        self.encoder.model = model
        self.optimizer = make_optimizer(model, self._recipe.settings, self._own)
        self._load()
        spread_random(whole, world, self._recipe.seed)

    def begin(self, *, last: bool) -> None:
        """Nothing to do: gradients add up in their places."""

    def pull(self, term: torch.Tensor) -> None:
        raise NotImplementedError("a term on whole weights; require_devices refuses the setting")

    def _backward(self, outputs: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor], last: bool) -> None:
        # FSDP takes the mean over processes of what is to be summed.
        plain_backward(outputs, [gradient * self._world.size for gradient in gradients], last)

    def update(self, longest: float) -> None:
        import torch
        from torch.nn.utils import clip_grads_with_norm_, get_total_norm

        every = self._weights()
        cut = [weight for weight in every if _is_cut(weight)]
        own = {id(weight) for weight in self._own}
        kept = [weight for weight in every if not _is_cut(weight) and id(weight) not in own]
        sum_gradients(kept, self._world)
        for weight in kept:
            if weight.grad is not None:
                weight.grad /= self._world.size
        sum_gradients(self._own, self._world, mean=True)
        lengths = []
        for part in (cut, [*kept, *self._own]):
            found = [weight.grad for weight in part if weight.grad is not None]
            if found:
                length: Any = get_total_norm(found)
                lengths.append(length.full_tensor() if hasattr(length, "full_tensor") else length)
        total = torch.stack(lengths).norm()
        self.norm = float(total)
        for part in (cut, [*kept, *self._own]):
            clip_grads_with_norm_(part, longest, total)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def collect(self, whole: State, step: int) -> None:
        import torch

        plain = dict(self._plain.model.named_parameters())
        with torch.no_grad():
            for name, weight in self.encoder.model.named_parameters():
                if weight.requires_grad:
                    full = _full(weight)
                    if self._world.rank == 0:
                        plain[name].copy_(full)
        state: dict[int, dict[str, torch.Tensor]] = {}
        for number, weight in enumerate(self._weights()):
            found = self.optimizer.state.get(weight)
            if found:
                state[number] = {"step": found["step"].cpu()}
                for name in _MOMENTS:
                    moment = _full(found[name])
                    if self._world.rank == 0:
                        state[number][name] = moment.cpu()
        self._saved = {"state": state}
        collect_random(whole, self._world)

    def state_dict(self) -> dict[str, Any]:
        """Of the optimizer, whole, as it was collected last."""
        return self._saved

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of the optimizer, for the start."""
        self._saved = state

    def _load(self) -> None:
        """Cut the optimizer state that the first process has read."""
        import torch
        from torch.distributed.tensor import distribute_tensor

        world = self._world
        own = self._saved.get("state", {})
        if world.rank == 0:
            world.tell({number: float(one["step"]) for number, one in own.items()})
            steps = {number: float(one["step"]) for number, one in own.items()}
        else:
            steps = world.hear()
        for number, weight in enumerate(self._weights()):
            if number not in steps:
                continue
            state = self.optimizer.state[weight]
            state["step"] = torch.tensor(steps[number], dtype=torch.float32, device=world.device)
            for name in _MOMENTS:
                whole = torch.empty(weight.shape, dtype=weight.dtype, device=world.device)
                if world.rank == 0:
                    whole.copy_(own[number][name])
                world.spread(whole)
                cut: Any = weight
                state[name] = distribute_tensor(whole, cut.device_mesh, cut.placements) if _is_cut(weight) else whole
        self._saved = {}

    def _weights(self) -> list[torch.nn.Parameter]:
        return [weight for group in self.optimizer.param_groups for weight in group["params"]]


def _is_cut(weight: Any) -> bool:
    return hasattr(weight, "full_tensor")


def _full(tensor: Any) -> torch.Tensor:
    whole: torch.Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return whole.detach()
