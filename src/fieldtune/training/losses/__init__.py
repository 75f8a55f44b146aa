"""Training losses: plain functions of a batch's vectors and targets."""

from fieldtune.training.losses.matryoshka import at_dimensions, matryoshka_dimensions
from fieldtune.training.losses.objective import Objective, make_objective
from fieldtune.training.losses.targets import Targets, to_targets

__all__ = ["Objective", "Targets", "at_dimensions", "make_objective", "matryoshka_dimensions", "to_targets"]
