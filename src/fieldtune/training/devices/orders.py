"""What the first process tells the others to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fieldtune.config import Config, Model, Training
from fieldtune.training.devices.world import current
from fieldtune.training.fixed import FixedVectors
from fieldtune.training.pairs import Pairs
from fieldtune.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Job:
    """Load the base model and make it ready, as `tune` does."""

    model: Model
    training: Training
    seed: int


@dataclass(frozen=True, slots=True)
class Fit:
    """Take part in one training of the model of the last job; its weights are sent."""

    pairs: Pairs
    recipe: Recipe
    fixed: FixedVectors | None
    work: str
    """The folder of the training's state."""


@dataclass(frozen=True, slots=True)
class Step:
    """Step `number`, counted from 0, of `total`."""

    number: int
    total: int


@dataclass(frozen=True, slots=True)
class Collect:
    """Bring the parts of weights and state together in the first process, after this many steps."""

    step: int


@dataclass(frozen=True, slots=True)
class Done:
    """This training is over."""


@dataclass(frozen=True, slots=True)
class End:
    """The command is over, with this exit status."""

    status: int


Order = Job | Fit | Step | Collect | Done | End


def tell(order: Order) -> None:
    """Tell the others, if there are any."""
    world = current()
    if world is not None:
        world.tell(order)


def assign(config: Config) -> None:
    """Let the others load and prepare the config's model."""
    tell(Job(config.model, config.training, config.seed))


@contextmanager
def leading(order: Fit) -> Iterator[None]:
    """One training that the others take part in: they are let go at its end, however it ends."""
    tell(order)
    world = current()
    try:
        yield
    finally:
        if world is not None and not world.broken:
            world.tell(Done())
