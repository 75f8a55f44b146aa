"""What makes the training loop train three kinds of vectors: another gradient, another measure on dev."""

from __future__ import annotations

import math
from dataclasses import replace

from fieldtune.encoding import Encoder
from fieldtune.training.batches import Batch
from fieldtune.training.development import Development
from fieldtune.training.loop import Hooks, Measured
from fieldtune.training.m3.development import dev_loss, dev_scores
from fieldtune.training.m3.fitting import Fitted, heads_in
from fieldtune.training.m3.gradient import add_m3_gradient
from fieldtune.training.m3.objective import make_m3_objective
from fieldtune.training.recipe import Recipe
from fieldtune.training.session import Session


def with_m3(hooks: Hooks, fitted: Fitted, recipe: Recipe) -> Hooks:
    """The hooks of a training of the layers in `fitted` and, as far as it is not frozen, the encoder around them."""
    objective, heads = make_m3_objective(recipe), fitted.heads

    def gradient(session: Session, batch: Batch, weight: float, step: int) -> float:
        # Of the session's recipe: a later one of several rounds has its own step to begin self-distillation at.
        return add_m3_gradient(
            session.stepper.encoder,
            heads_in(session.stepper.encoder.model) or heads,
            batch,
            session.queries,
            session.passages,
            make_m3_objective(session.recipe),
            step,
            weight=weight,
            cached=session.cached,
            scaler=session.scaler,
            passes=session.stepper.passes,
        )

    def measured(encoder: Encoder, development: Development) -> Measured:
        encoder.model.eval()
        scores, vectors = dev_scores(encoder, heads, development, objective)
        # Always the whole loss, so that it can be compared along a training whose own changes on the way.
        step = recipe.settings.m3.self_distillation_from
        loss = dev_loss(encoder, heads, development, objective, recipe.settings.batch_size, step)
        return Measured(scores, vectors, {} if math.isnan(loss) else {"dev_loss": round(loss, 5)})

    return replace(hooks, gradient=gradient, measured=measured)
