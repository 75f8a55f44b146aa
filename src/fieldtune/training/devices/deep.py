"""Steps by DeepSpeed: ZeRO stages 1 to 3 with what a DeepSpeed JSON says of them."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune.errors import ModelError
from fieldtune.training.checkpoint import State
from fieldtune.training.devices.deepspeed_file import deepspeed_settings
from fieldtune.training.devices.passes import Passes
from fieldtune.training.devices.stepper import collect_random, spread_random, spread_weights
from fieldtune.training.devices.world import World
from fieldtune.training.optimizer import make_optimizer

if TYPE_CHECKING:
    import torch

    from fieldtune.encoding import Encoder
    from fieldtune.training.recipe import Recipe


class Deep:
    """See Stepper. The plain encoder stays whole in the first process, for evaluation; DeepSpeed trains a twin.

    Its checkpoints are DeepSpeed's own, in the folder `work`, which all processes must see; each holds one process'
    part, so they need as many processes again.
    """

    def __init__(self, encoder: Encoder, recipe: Recipe, world: World, work: Path) -> None:
        self.encoder = self._plain = encoder
        self.passes = Passes(world.rank, world.size, True, self._backward)
        self._world, self._recipe, self._folder = world, recipe, work / "deepspeed"
        self._last, self._saved = False, {}  # type: tuple[bool, dict[str, Any]]
        self._engine: Any = None
        self.optimizer: Any = None
        self.norm = 0.0

    def start(self, whole: State) -> None:
        import deepspeed

        world, settings = self._world, self._recipe.settings
        config = deepspeed_settings(Path(settings.deepspeed), settings, self._plain.precision, world.size)
        spread_weights(self._plain, whole.module, world)
        model = copy.deepcopy(self._plain.model)
        if world.rank:
            self._plain.model.to("cpu")  # it serves the first process alone
        optimizer = make_optimizer(model, settings)
        optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
        self._engine, self.optimizer, _, _ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
        if config.get("bf16", {}).get("enabled") or config.get("fp16", {}).get("enabled"):
            self._set_weights()
        self._load()
        self.encoder = copy.copy(self._plain)
        self.encoder.model = self._engine
        spread_random(whole, world, self._recipe.seed)

    def begin(self, *, last: bool) -> None:
        self._last = last

    def pull(self, term: torch.Tensor) -> None:
        raise NotImplementedError("a term on whole weights; require_devices refuses the setting")

    def _backward(self, outputs: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor], last: bool) -> None:
        self._engine.set_gradient_accumulation_boundary(self._last and last)
        # DeepSpeed begins at a scalar, and takes the mean over processes of what is to be summed.
        parts = [(one.float() * gradient).sum() for one, gradient in zip(outputs, gradients, strict=True)]
        self._engine.backward(sum(parts[1:], parts[0]) * self._world.size, scale_wrt_gas=False)

    def update(self, longest: float) -> None:
        self._engine.step()  # shortens the gradient itself, as its settings say
        # In fp16 it leaves steps out to find a scale, and ends the training itself where there is none.
        found = 0.0 if self._engine.fp16_enabled() else self._engine.get_global_grad_norm()
        self.norm = 0.0 if found is None else float(found)

    def collect(self, whole: State, step: int) -> None:
        import torch
        from deepspeed.utils import safe_get_full_fp32_param

        plain = dict(self._plain.model.named_parameters())
        with torch.no_grad():
            for name, weight in self._engine.module.named_parameters():
                if weight.requires_grad:
                    full = safe_get_full_fp32_param(weight)
                    if self._world.rank == 0:
                        plain[name].copy_(full.view_as(plain[name]))
        tag = f"step-{step}"
        self._engine.save_checkpoint(str(self._folder), tag=tag, save_latest=False, exclude_frozen_parameters=True)
        if self._world.rank == 0:
            for other in self._folder.glob("step-*"):
                if other.name not in (tag, self._saved.get("tag")):  # the last one counts until this one is recorded
                    shutil.rmtree(other, ignore_errors=True)
        self._saved = {"tag": tag, "processes": self._world.size}
        collect_random(whole, self._world)

    def state_dict(self) -> dict[str, Any]:
        """Which of DeepSpeed's checkpoints holds the optimizer."""
        return self._saved

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """For the start. Raises ModelError for a checkpoint of more or fewer processes."""
        written = state.get("processes")
        if written != self._world.size:
            raise ModelError(
                f"the DeepSpeed checkpoint was written by {written} processes, there are {self._world.size}: each "
                "holds a part of the optimizer",
                f"start {written} processes, or remove the folder training/state of the run to begin anew",
            )
        self._saved = state

    def _set_weights(self) -> None:
        """What DeepSpeed keeps in 32 bits must not come from the 16 it computes in."""
        import torch
        from deepspeed.utils import safe_set_full_fp32_param

        plain = dict(self._plain.model.named_parameters())
        for name, weight in self._engine.module.named_parameters():
            if weight.requires_grad:
                value = plain[name].detach().to(self._world.device, torch.float32).flatten()
                if hasattr(weight, "ds_tensor"):  # parts of equal size, the last one filled up
                    whole = int(weight.ds_tensor.ds_numel) * self._world.size
                    value = torch.nn.functional.pad(value, (0, max(0, whole - len(value))))
                safe_set_full_fp32_param(weight, value)

    def _load(self) -> None:
        world = self._world
        if world.rank == 0:
            world.tell(self._saved)
        else:
            self._saved = world.hear()
        if not self._saved:
            return
        path, _ = self._engine.load_checkpoint(
            str(self._folder), tag=self._saved["tag"], load_lr_scheduler_states=False, load_module_strict=False
        )
        if path is None:
            raise ModelError(
                f"{self._folder / self._saved['tag']} is not there in process {world.rank + 1}",
                "the run's folder must lie where all processes see it",
            )
