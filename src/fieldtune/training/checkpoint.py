"""The whole state of a training run on disk, replaced atomically: SIGKILL costs a minute and changes nothing."""

from __future__ import annotations

import os
import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fieldtune.console import note
from fieldtune.errors import ModelError
from fieldtune.training.aside import bring_back, put_aside, said_of_other
from fieldtune.workspace import atomic_file

if TYPE_CHECKING:
    import torch
    from torch.nn import Module

_BROKEN = "The checkpoint {} is damaged ({}): it is kept until training ends, as {}."


@dataclass(slots=True)
class Progressed:
    """Where a training run stands; everything but the weights. The step is the sampler's position too: the plan of all
    steps follows from the seed."""

    step: int = 0
    best_step: int = 0
    best_score: float = -1.0
    """Of the dev measure, as is `base_score`."""
    base_score: float = -1.0
    misses: int = 0
    """Evaluations since the best one."""
    seconds: float = 0.0
    idle: int = 0
    """Steps whose loss was exactly 0."""
    collapsed_at: int = 0
    """The first evaluated step at which all vectors were alike; 0: none."""
    trainable: int = 0
    """Numbers that training may change, those of the loss itself not counted."""
    log: list[dict[str, Any]] = field(default_factory=list)
    """One row per logged step: step, loss, learning rate; and per evaluation: step, dev measure."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the user."""


class Holder(Protocol):
    """An optimizer, or what gathers the state of one that lies in several processes."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class State:
    """What changes while a run goes on, beside its progress and the random states."""

    model: Module
    optimizer: Holder
    module: Module | None = None
    """Parameters of the loss itself."""
    scaler: torch.amp.GradScaler | None = None
    device: str = "cpu"
    """The encoder's: of a GPU the random state is kept too."""
    others: list[Any] = field(default_factory=list)
    """Random states of the other processes, by rank; empty where there is one alone."""


def trained(model: Module) -> dict[str, torch.Tensor]:
    """The weights that training changes; frozen ones are where they came from."""
    changing = {name for name, weight in model.named_parameters() if weight.requires_grad}
    return {name: weight for name, weight in model.state_dict().items() if name in changing}


def save_checkpoint(path: Path, key: str, progressed: Progressed, whole: State) -> None:
    """Write weights, optimizer state, random states and progress under `key`, which names what is being trained."""
    import torch

    state = {
        "key": key,
        "progressed": asdict(progressed),
        "model": trained(whole.model),
        "optimizer": whole.optimizer.state_dict(),
        "module": {} if whole.module is None else whole.module.state_dict(),
        "scaler": {} if whole.scaler is None else whole.scaler.state_dict(),
        "random": torch.get_rng_state(),
        "others": whole.others,
        # Its own alone: a machine with fewer GPUs could not take back those of all.
        "cuda_random": [torch.cuda.get_rng_state(whole.device)] if whole.device.startswith("cuda") else [],
    }
    with atomic_file(path, "wb") as stream:
        torch.save(state, stream)


def load_checkpoint(path: Path, key: str, whole: State) -> tuple[Progressed, str]:
    """Put a checkpoint back into `whole`; a fresh progress if there is none that fits.

    The second value says so where there was one that does not fit, and so does a line on standard error, at once. That
    one is put aside, and comes back when `key` is its own again; a damaged one is renamed. Raises ModelError for one
    that is there and cannot be read.
    """
    import torch

    state, said = _read(path)
    if state is not None and state["key"] != key:
        place = put_aside(path.parent, state["key"], state["progressed"]["seconds"])
        said, state = said_of_other(state["key"], key, _step_of(state), place), None
    bring_back(path.parent, key, begun=state is not None)
    if state is None:
        state, broken = _read(path)
        said = said or broken
        state = state if state is not None and state["key"] == key else None
    if said:
        said += " Training begins anew." if state is None else f" Training goes on from step {_step_of(state):,}."
        note(said)
    if state is None:
        return Progressed(), said
    whole.model.load_state_dict(state["model"], strict=False)
    whole.optimizer.load_state_dict(state["optimizer"])
    if whole.module is not None:
        whole.module.load_state_dict(state["module"])
    if whole.scaler is not None:
        whole.scaler.load_state_dict(state["scaler"])
    whole.others[:] = state.get("others", [])
    torch.set_rng_state(state["random"])
    if state["cuda_random"] and whole.device.startswith("cuda"):
        torch.cuda.set_rng_state(_own(state["cuda_random"], whole.device), whole.device)
    return Progressed(**state["progressed"]), said


def _own(states: list[torch.Tensor], device: str) -> torch.Tensor:
    """The random state that is the device's: earlier versions kept those of all GPUs."""
    import torch

    place = torch.device(device).index
    place = torch.cuda.current_device() if place is None else place
    return states[place] if place < len(states) else states[0]


def _read(path: Path) -> tuple[dict[str, Any] | None, str]:
    """What a file holds; where that is damaged, the file is renamed, and the second value says so. Neither where there
    is none.

    Raises ModelError for a file that cannot be read now: hours of training may be in it.
    """
    import torch

    try:
        with path.open("rb") as stream:  # torch's own reader would call an error of the disk damage
            state: dict[str, Any] = torch.load(stream, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        raise ModelError(
            f"the checkpoint {path} cannot be read ({error.strerror or error})",
            "see to the disk and to who may read the file, and run the same command again: it goes on from there; "
            "without the file training begins anew",
        ) from error
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        place = path.with_name(f"{path.name}.damaged")
        os.replace(path, place)
        return None, _BROKEN.format(path, (str(error).strip().splitlines() or [type(error).__name__])[0], place.name)
    return state, ""


def _step_of(state: dict[str, Any]) -> int:
    step: int = state["progressed"]["step"]
    return step


def save_weights(path: Path, model: Module) -> None:
    """The best weights so far, atomically."""
    import torch

    with atomic_file(path, "wb") as stream:
        torch.save(trained(model), stream)


def load_weights(path: Path, model: Module) -> None:
    import torch

    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=False)
