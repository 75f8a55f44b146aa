"""The whole state of a training run on disk, replaced atomically: SIGKILL costs a minute and changes nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune.workspace import atomic_file

if TYPE_CHECKING:
    import torch
    from torch.nn import Module


@dataclass(slots=True)
class Progressed:
    """Where a training run stands; everything but the weights."""

    step: int = 0
    best_step: int = 0
    best_score: float = -1.0
    base_score: float = -1.0
    misses: int = 0
    """Evaluations since the best one."""
    seconds: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)
    """One row per logged step: step, loss, learning rate; and per evaluation: step, dev nDCG@10."""


def trained(model: Module) -> dict[str, torch.Tensor]:
    """The weights that training changes; frozen ones are where they came from."""
    changing = {name for name, weight in model.named_parameters() if weight.requires_grad}
    return {name: weight for name, weight in model.state_dict().items() if name in changing}


def save_checkpoint(
    path: Path, key: str, progressed: Progressed, model: Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write weights, optimizer state, random state and progress under `key`, which names what is being trained."""
    import torch

    state = {
        "key": key,
        "progressed": asdict(progressed),
        "model": trained(model),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    with atomic_file(path, "wb") as stream:
        torch.save(state, stream)


def load_checkpoint(path: Path, key: str, model: Module, optimizer: torch.optim.Optimizer) -> Progressed | None:
    """Put a checkpoint back into model and optimizer; None if there is none, or it is of another run."""
    import torch

    if not path.exists():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["key"] != key:
        return None
    model.load_state_dict(state["model"], strict=False)
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    if state["cuda_random"]:
        torch.cuda.set_rng_state_all(state["cuda_random"])
    return Progressed(**state["progressed"])


def save_weights(path: Path, model: Module) -> None:
    """The best weights so far, atomically."""
    import torch

    with atomic_file(path, "wb") as stream:
        torch.save(trained(model), stream)


def load_weights(path: Path, model: Module) -> None:
    import torch

    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=False)
