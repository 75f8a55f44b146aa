"""What the steps of one training share, made once: token ids, loss, optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fieldtune.encoding import Encoder
from fieldtune.encoding.tokens import TokenStore
from fieldtune.training.losses import Objective, make_objective
from fieldtune.training.modes import set_up
from fieldtune.training.optimizer import make_optimizer
from fieldtune.training.pairs import Pairs
from fieldtune.training.recipe import Recipe

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Session:
    encoder: Encoder
    pairs: Pairs
    recipe: Recipe
    queries: TokenStore
    passages: TokenStore
    objective: Objective
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None
    """For fp16, whose small gradients would be rounded to nothing."""

    def parameters(self) -> list[torch.nn.Parameter]:
        """All that is trained, the loss's own included."""
        return [weight for group in self.optimizer.param_groups for weight in group["params"]]


def open_session(encoder: Encoder, pairs: Pairs, recipe: Recipe) -> Session:
    """Seed, freeze and tokenise; the encoder's model is set up for training, its weights are not changed."""
    import torch

    model, settings, tokens = encoder.model, recipe.settings, encoder.tokens
    assert tokens is not None  # the training stage has checked
    torch.manual_seed(recipe.seed)
    set_up(model, settings)
    fixed = None if recipe.fixed is None else recipe.fixed(pairs)
    objective = make_objective(recipe, fixed, encoder.dimension, model.device)
    extra = [] if objective.module is None else list(objective.module.parameters())
    return Session(
        encoder,
        pairs,
        recipe,
        tokens.store(pairs.queries, encoder.prompts["query"], settings.query_tokens),
        tokens.store(pairs.passages, encoder.prompts["passage"], settings.passage_tokens),
        objective,
        make_optimizer(model, settings, extra),
        torch.amp.GradScaler("cuda") if encoder.precision == "fp16" else None,
    )


def texts_cut(session: Session) -> list[str]:
    """What of the texts is longer than training reads."""
    assert session.encoder.tokens is not None
    notes = []
    for side, store in (("query", session.queries), ("passage", session.passages)):
        limit = getattr(session.recipe.settings, f"{side}_tokens") or session.encoder.tokens.limit
        full = int((store.lengths >= limit).sum())
        if full:
            notes.append(
                f"{full:,} of {len(store):,} {side} texts fill the {limit} tokens that training reads of them; the "
                f"rest was cut off (training.{side}_tokens, model.max_tokens)."
            )
    return notes
