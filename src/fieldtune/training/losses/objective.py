"""The loss that a recipe asks for, as one function of a batch's vectors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fieldtune.training.fixed import FixedVectors
from fieldtune.training.losses.choice import TAUGHT
from fieldtune.training.losses.distillation import kl, margin_mse, vectors
from fieldtune.training.losses.in_batch import gte, guided, mnrl, symmetric
from fieldtune.training.losses.matryoshka import at_dimensions
from fieldtune.training.losses.pairwise import contrastive, online_contrastive, triplet
from fieldtune.training.losses.scored import cosent, cosine
from fieldtune.training.recipe import Recipe

if TYPE_CHECKING:
    import torch

    from fieldtune.training.losses.targets import Loss, Targets


@dataclass(frozen=True, slots=True)
class Objective:
    """What is minimised, and what of it is learned beside the model."""

    loss: Loss
    fixed: FixedVectors | None = None
    """Vectors of a guide or teacher that the targets need."""
    module: torch.nn.Module | None = None
    """Parameters of the loss itself; they are trained, kept in checkpoints, and not part of the result."""


def make_objective(recipe: Recipe, fixed: FixedVectors | None, dimension: int, device: torch.device) -> Objective:
    """The recipe's loss at its dimensions. `dimension` is the student's, `fixed` the guide's or teacher's vectors."""
    at_all = partial(
        at_dimensions,
        dimensions=recipe.dimensions,
        weights=recipe.weights,
        similarity=recipe.settings.similarity,
    )
    share = recipe.settings.contrastive_share
    in_batch = partial(at_all, partial(mnrl, scale=recipe.scale))
    if recipe.loss == "vectors":
        # A teacher's vectors say nothing about what the first coordinates alone should be; the in-batch share does.
        module = _projection(recipe, fixed, dimension, device)
        follow = partial(vectors, projection=None if module is None else module.weight)
        return Objective(_mixed(follow, in_batch, share), fixed, module)
    chosen: Loss = partial(at_all, one_loss(recipe))
    if recipe.loss in TAUGHT:
        chosen = _where_taught(_mixed(chosen, in_batch, share), in_batch)
    return Objective(chosen, fixed)


def one_loss(recipe: Recipe) -> Loss:
    """The loss at one vector size, its settings bound."""
    settings, scale = recipe.settings, recipe.scale
    student, teacher = recipe.student_temperature, recipe.teacher_temperature
    losses: dict[str, Loss] = {
        "mnrl": partial(mnrl, scale=scale),
        "symmetric": partial(symmetric, scale=scale),
        "gte": partial(gte, scale=scale),
        "guided": partial(guided, scale=scale, margin=settings.guide_margin),
        "triplet": partial(triplet, margin=settings.margin),
        "contrastive": partial(contrastive, margin=settings.margin),
        "online_contrastive": partial(online_contrastive, margin=settings.margin),
        "cosine": partial(cosine, uses_scores=recipe.uses_scores, score_scale=recipe.score_scale),
        "cosent": partial(cosent, scale=scale, uses_scores=recipe.uses_scores),
        "margin_mse": partial(margin_mse, student_temperature=student, teacher_temperature=teacher),
        "kl": partial(kl, student_temperature=student, teacher_temperature=teacher),
    }
    return losses[recipe.loss]


def _where_taught(taught: Loss, in_batch: Loss) -> Loss:
    """The mean over the queries of the one loss, or, of those whose passages have no scores, of the other.

    General rows that are replayed have none, nor do queries that a teacher gave no answer on.
    """

    def loss(queries: torch.Tensor, passages: torch.Tensor, targets: Targets) -> torch.Tensor:
        some = targets.taught()
        count, scored = len(some), int(some.sum())
        if scored == count:
            return taught(queries, passages, targets)
        rest = in_batch(queries[~some], passages, targets.of(~some))
        if not scored:
            return rest
        share = scored / count
        return share * taught(queries[some], passages, targets.of(some)) + (1 - share) * rest

    return loss


def _mixed(first: Loss, second: Loss, share: float) -> Loss:
    if not share:
        return first
    return lambda queries, passages, targets: (
        (1 - share) * first(queries, passages, targets) + share * second(queries, passages, targets)
    )


def _projection(
    recipe: Recipe, fixed: FixedVectors | None, dimension: int, device: torch.device
) -> torch.nn.Linear | None:
    """A learned map from the student's space to the teacher's, if the settings want one."""
    import torch

    if recipe.settings.projection != "learned" or fixed is None:
        return None
    generator = torch.Generator().manual_seed(recipe.seed)
    linear = torch.nn.Linear(dimension, fixed.dimension, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(linear.weight.shape, generator=generator) / dimension**0.5)
    return linear.to(device)
