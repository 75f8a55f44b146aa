"""The processes of one training: who they are, and what they tell each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from fieldtune.errors import ConfigError, ModelError

if TYPE_CHECKING:
    import torch

# The others wait this long while the first process reads documents, mines, evaluates. One that has died is noticed at
# once, by its closed connection.
_PATIENCE = timedelta(days=14)
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_LOST = ("connection", "broken pipe", "nccl", "socket", "peer", "timed out", "tcpstore")


@dataclass(slots=True)
class World:
    """This process among the others; rank 0 leads."""

    rank: int
    size: int
    device: torch.device
    control: Any
    """The group for words; numbers of a step go through the default group, by NCCL on GPUs, else gloo."""
    broken: bool = False
    """Whether this process left a step half-way: the others wait in the middle of it and cannot be told anything."""

    def tell(self, order: object) -> None:
        """Send the others a picklable object; by the first process alone."""
        self._passed(order)

    def hear(self) -> Any:
        """Wait for what the first process tells."""
        return self._passed(None)

    def _passed(self, order: object) -> Any:
        import torch
        from torch import distributed

        with noticing_loss():
            box = [order]
            distributed.broadcast_object_list(box, src=0, group=self.control, device=torch.device("cpu"))
        return box[0]

    def gathered(self, value: object) -> list[Any]:
        """Everyone's value, in the order of ranks, for the first process; empty elsewhere."""
        from torch import distributed

        found: list[Any] | None = [None] * self.size if self.rank == 0 else None
        distributed.gather_object(value, found, dst=0, group=self.control)
        return found or []

    def spread(self, tensor: torch.Tensor) -> torch.Tensor:
        """Overwrite a tensor on this process' device with the first process' own."""
        from torch import distributed

        distributed.broadcast(tensor, src=0)
        return tensor

    @contextmanager
    def together(self) -> Iterator[None]:
        """Around what all processes do at the same time: an error in it cannot be told to the others."""
        try:
            with noticing_loss():
                yield
        except BaseException:
            self.broken = True
            raise


_joined: World | None = None


def current() -> World | None:
    """The processes this one belongs to; None for one that was started alone."""
    return _joined


def together() -> AbstractContextManager[None]:
    """As World.together; nothing for a process that was started alone."""
    return nullcontext() if _joined is None else _joined.together()


def is_launched() -> bool:
    """Whether torchrun, or a launcher that sets the same variables, started this process."""
    return all(os.environ.get(name) for name in _VARIABLES)


def join() -> World | None:
    """Meet the other processes, if a launcher started several, and take the GPU of this one's local rank.

    Raises ConfigError when there are more processes on this machine than GPUs.
    """
    global _joined
    if _joined is not None or not is_launched():
        return _joined
    import torch
    from torch import distributed

    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local = int(os.environ.get("LOCAL_RANK", rank))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        there = torch.cuda.device_count()
        if local >= there:
            raise ConfigError(
                f"process {local + 1} of this machine has no GPU: there are {there}",
                f"start as many processes as there are GPUs: torchrun --nproc-per-node {there}",
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    with noticing_loss():
        distributed.init_process_group(backend_for(device), device_id=device if device.type == "cuda" else None)
        control = distributed.new_group(backend="gloo", timeout=_PATIENCE)
    _joined = World(rank, size, device, control)
    return _joined


def backend_for(device: torch.device) -> str:
    return "nccl" if device.type == "cuda" else "gloo"


@contextmanager
def noticing_loss() -> Iterator[None]:
    """Turn a broken connection into a ModelError: the process at its other end has said itself why it ended."""
    try:
        yield
    except RuntimeError as error:  # gloo raises nothing narrower
        text = str(error).strip().lower()
        if not any(word in text for word in _LOST):
            raise
        raise ModelError(
            "another process of this training has ended",
            "its own message says why; the same command goes on from the last checkpoint",
        ) from error
