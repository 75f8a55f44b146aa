"""What the steps of one training share, made once: token ids, loss, optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldtune.encoding import Encoder
from fieldtune.encoding.token_files import FOLDER
from fieldtune.encoding.tokens import TokenStore
from fieldtune.training.checkpoint import State
from fieldtune.training.devices.replicated import Replicated
from fieldtune.training.devices.stepper import Stepper, make_stepper
from fieldtune.training.devices.world import current
from fieldtune.training.losses import Objective, make_objective
from fieldtune.training.modes import set_up
from fieldtune.training.pairs import Pairs
from fieldtune.training.recipe import Recipe
from fieldtune.types import Side

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Session:
    encoder: Encoder
    """Whole, for evaluation and saving; the stepper's may be in parts."""
    pairs: Pairs
    recipe: Recipe
    queries: TokenStore
    passages: TokenStore
    objective: Objective
    stepper: Stepper

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """For fp16, whose small gradients would be rounded to nothing; DeepSpeed has its own."""
        return self.stepper.scaler if isinstance(self.stepper, Replicated) else None

    @property
    def cached(self) -> bool:
        """Whether gradients go through a cache of the vectors; a model in parts lets each pass go back at once."""
        return self.recipe.cached or self.stepper.passes.equal

    def state(self) -> State:
        """What a checkpoint holds beside progress; the weights are the plain encoder's."""
        held: Any = self.stepper.optimizer if isinstance(self.stepper, Replicated) else self.stepper
        return State(self.encoder.model, held, self.objective.module, self.scaler, self.encoder.device)


def open_session(encoder: Encoder, pairs: Pairs, recipe: Recipe, work: Path) -> Session:
    """Seed, freeze and tokenise; the encoder's model is set up for training, its weights are not changed.

    `work` is the folder of the training's state, with the token ids of long texts in it unless the recipe says where
    several trainings share them. The processes of one training map the file that the first one has written.
    """
    import torch

    model, settings, tokens = encoder.model, recipe.settings, encoder.tokens
    assert tokens is not None  # the training stage has checked
    torch.manual_seed(recipe.seed)
    set_up(model, settings)
    fixed = None if recipe.fixed is None else recipe.fixed(pairs)
    objective = make_objective(recipe, fixed, encoder.dimension, model.device)
    world = current()
    kept = (recipe.states or work) / FOLDER
    # On another machine, whose disk is not the first one's, nobody would remove the file.
    elsewhere = world is not None and world.rank > 0 and not kept.is_dir()
    folder = None if elsewhere else kept
    return Session(
        encoder,
        pairs,
        recipe,
        tokens.store(pairs.queries, encoder.prompts["query"], settings.query_tokens, folder=folder),
        tokens.store(pairs.passages, encoder.prompts["passage"], settings.passage_tokens, folder=folder),
        objective,
        make_stepper(encoder, recipe, objective, work),
    )


def texts_cut(session: Session) -> list[str]:
    """What of the texts is longer than training reads."""
    settings, tokens = session.recipe.settings, session.encoder.tokens
    assert tokens is not None
    notes: list[str] = []
    sides: tuple[tuple[Side, list[str], TokenStore], ...] = (
        ("query", session.pairs.queries, session.queries),
        ("passage", session.pairs.passages, session.passages),
    )
    for side, texts, store in sides:
        limit = getattr(settings, f"{side}_tokens") or tokens.limit
        full = np.flatnonzero(store.lengths >= limit)  # of these alone it is not known whether they were cut
        notes += said_of_cut(session.encoder, side, [texts[row] for row in full], len(texts), limit)
    return notes


def said_of_cut(encoder: Encoder, side: Side, texts: Sequence[str], count: int, limit: int = 0) -> list[str]:
    """How many of `count` texts are cut, `texts` being those that may be; no `limit`: at that of the model."""
    assert encoder.tokens is not None
    cut = encoder.tokens.longer(texts, encoder.prompts[side], limit)
    if not cut:
        return []
    settings = f"training.{side}_tokens, model.max_tokens" if limit else "model.max_tokens"
    return [
        f"{cut:,} of {count:,} {side} texts are longer than the {limit or encoder.tokens.limit} tokens that training "
        f"reads of them; the rest was cut off ({settings})."
    ]
