"""What a training run does, with nothing left to decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fieldtune.config import Training
from fieldtune.training.fixed import FixedVectors
from fieldtune.training.pairs import Pairs


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings of one training run, what "auto" stands for filled in."""

    settings: Training
    scale: float
    """Similarities are multiplied by this in the in-batch losses and in CoSENT."""
    dimensions: tuple[int, ...]
    seed: int
    loss: str = "mnrl"
    """One of losses.choice.LOSSES."""
    weights: tuple[float, ...] = ()
    """Of the loss at each of `dimensions`; empty: the same for all."""
    cached: bool = False
    """Whether gradients go through a cache of the vectors, so that memory does not grow with the batch."""
    student_temperature: float = 0.05
    teacher_temperature: float = 1.0
    score_scale: float = 1.0
    """What the scores of pairs are divided by for a loss that compares them with cosines."""
    uses_scores: bool = False
    """Whether the rows' scores are targets; else a positive is 1 and a negative 0."""
    fixed: Callable[[Pairs], FixedVectors] | None = None
    """Vectors of a guide or teacher for the texts of these pairs, for the losses that need them."""
    states: Path | None = None
    """The folder above those of several trainings' states, rounds or seeds; token ids are kept once for all."""
