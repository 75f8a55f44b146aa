"""The training loop: token ids in, gradient steps, evaluation on dev, the best weights kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fieldtune.console import Progress
from fieldtune.encoding import Encoder
from fieldtune.encoding.tokens import TokenStore
from fieldtune.errors import ModelError
from fieldtune.training.batches import draw, lay_out, plan
from fieldtune.training.checkpoint import (
    Progressed,
    State,
    load_checkpoint,
    load_weights,
    room_to_write,
    save_checkpoint,
    save_weights,
)
from fieldtune.training.development import Development
from fieldtune.training.losses import Objective, make_objective
from fieldtune.training.losses.choice import SCORED, terms
from fieldtune.training.modes import enter_training, set_up
from fieldtune.training.optimizer import make_optimizer, set_rate
from fieldtune.training.pairs import Pairs
from fieldtune.training.recipe import Recipe
from fieldtune.training.safety import collapsed
from fieldtune.training.step import add_gradient
from fieldtune.workspace import write_jsonl

if TYPE_CHECKING:
    import torch

_LOG_EVERY = 10  # steps


@dataclass(frozen=True, slots=True)
class Hooks:
    """What else takes part in the steps."""

    penalty: Callable[[], torch.Tensor] | None = None
    """A term that is added to the loss once a step, such as the distance to the initial weights."""
    report: Callable[[dict[str, float]], None] | None = None
    """Called with every row of the log."""


@dataclass(slots=True)
class _Training:
    """What a step needs, made once."""

    encoder: Encoder
    pairs: Pairs
    recipe: Recipe
    queries: TokenStore
    passages: TokenStore
    objective: Objective
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None
    hooks: Hooks = field(default_factory=Hooks)

    def parameters(self) -> list[torch.nn.Parameter]:
        return [weight for group in self.optimizer.param_groups for weight in group["params"]]


def train(
    encoder: Encoder,
    pairs: Pairs,
    recipe: Recipe,
    development: Development | None,
    work: Path,
    key: str,
    hooks: Hooks | None = None,
) -> Progressed:
    """Tune the encoder's model in place and leave the best weights in it; a killed run goes on where it was.

    `work` is a folder for checkpoints, `key` names base model, data and settings: a checkpoint under another key is not
    used. Raises ModelError when the loss is no longer a number, memory does not suffice, or the disk is full; the last
    good checkpoint stays.
    """
    settings = recipe.settings
    size = settings.batch_size * settings.accumulate
    made = _prepare(encoder, pairs, recipe, hooks or Hooks())
    steps = plan(pairs, made.passages.lengths[pairs.positive], size, settings.epochs, recipe.seed)
    if not steps:
        raise ModelError("there is nothing to train on", "the dataset stage left no pairs; look at its result")
    checkpoint, best = work / "checkpoint.pt", work / "best.pt"
    whole = State(encoder.model, made.optimizer, made.objective.module, made.scaler)
    state, note = load_checkpoint(checkpoint, key, whole)
    if note:
        state.notes.append(note)
    evaluate_at = {round(len(steps) * i / settings.evaluations) for i in range(1, settings.evaluations + 1)}
    began, saved = time.monotonic() - state.seconds, time.monotonic()
    losses: list[float] = []
    if state.step == 0 and development is not None:
        state.base_score = float(development.score(encoder).mean())
        _log(state, made.hooks, {f"dev_{development.name}": state.base_score})
    with Progress("training", len(steps), unit="steps") as progress:
        progress.resume(state.step)
        while state.step < len(steps) and not (settings.patience and state.misses >= settings.patience):
            rate = set_rate(made.optimizer, settings, state.step, len(steps))
            loss = _step(made, steps[state.step], state.step)
            if not math.isfinite(loss):
                raise ModelError(
                    f"the loss is {loss} at step {state.step + 1} of {len(steps)}",
                    "lower training.learning_rate, or set training.precision=fp32",
                )
            state.step += 1
            losses.append(loss)
            progress.advance(1, f"loss {np.mean(losses[-20:]):.4f}, rate {rate:.1e}")
            if state.step % _LOG_EVERY == 0 or state.step == len(steps):
                _log(state, made.hooks, {"loss": round(loss, 5), "rate": rate})
            with room_to_write(work, "the checkpoint"):
                if state.step in evaluate_at:
                    _evaluate(encoder, development, state, best, made.hooks)
                state.seconds = time.monotonic() - began
                if state.step in evaluate_at or time.monotonic() - saved > settings.checkpoint_seconds:
                    save_checkpoint(checkpoint, key, state, whole)
                    write_jsonl(work / "log.jsonl", state.log)
                    saved = time.monotonic()
    load_weights(best, encoder.model)
    encoder.model.eval()
    return state


def _prepare(encoder: Encoder, pairs: Pairs, recipe: Recipe, hooks: Hooks) -> _Training:
    import torch

    model, settings, tokens = encoder.model, recipe.settings, encoder.tokens
    assert tokens is not None  # the training stage has checked
    torch.manual_seed(recipe.seed)
    set_up(model, settings)
    fixed = None if recipe.fixed is None else recipe.fixed(pairs)
    objective = make_objective(recipe, fixed, encoder.dimension, model.device)
    extra = [] if objective.module is None else list(objective.module.parameters())
    return _Training(
        encoder,
        pairs,
        recipe,
        tokens.store(pairs.queries, encoder.prompts["query"], settings.query_tokens),
        tokens.store(pairs.passages, encoder.prompts["passage"], settings.passage_tokens),
        objective,
        make_optimizer(model, settings, extra),
        torch.amp.GradScaler("cuda") if encoder.precision == "fp16" else None,
        hooks,
    )


def _step(made: _Training, rows: np.ndarray, number: int) -> float:  # type: ignore[type-arg]
    """One optimizer step over `rows` of the pairs, in batches of the size that was set; returns the mean loss."""
    import torch

    settings, recipe = made.recipe.settings, made.recipe
    enter_training(made.encoder.model, settings)
    made.optimizer.zero_grad(set_to_none=True)
    scored = recipe.loss in SCORED
    count = settings.scored_passages if scored else settings.hard_negatives
    own = draw(made.pairs, rows, count, recipe.seed, number, scored=scored)
    places = [slice(begin, begin + settings.batch_size) for begin in range(0, len(rows), settings.batch_size)]
    batches = [lay_out(made.pairs, rows[place], own[place]) for place in places]
    shares = np.array([terms(recipe.loss, batch) for batch in batches], np.float64)
    shares = shares / max(1.0, shares.sum())
    total = 0.0
    try:
        for batch, share in zip(batches, shares, strict=True):
            total += float(share) * add_gradient(
                made.encoder,
                batch,
                made.queries,
                made.passages,
                made.objective,
                weight=float(share),
                cached=recipe.cached,
                scaler=made.scaler,
            )
    except torch.cuda.OutOfMemoryError:
        raise ModelError(
            f"the GPU's memory does not hold a batch of {settings.batch_size} queries with their passages",
            "set training.gradient_cache=true, training.gradient_checkpointing=true, or a smaller training.batch_size",
        ) from None
    if made.hooks.penalty is not None:
        term = made.hooks.penalty()
        (term if made.scaler is None else made.scaler.scale(term)).backward()  # type: ignore[no-untyped-call]
        total += term.item()
    if made.scaler is not None:
        made.scaler.unscale_(made.optimizer)
    torch.nn.utils.clip_grad_norm_(made.parameters(), settings.max_grad_norm)
    if made.scaler is not None:
        made.scaler.step(made.optimizer)
        made.scaler.update()
    else:
        made.optimizer.step()
    return total


def _evaluate(encoder: Encoder, development: Development | None, state: Progressed, best: Path, hooks: Hooks) -> None:
    encoder.model.eval()
    if development is None:  # nothing to choose by: the last weights are the result
        state.best_step = state.step
        save_weights(best, encoder.model)
        return
    scores, vectors = development.measured(encoder)
    score = float(scores.mean())
    _log(state, hooks, {f"dev_{development.name}": score})
    if collapsed(vectors):
        state.collapsed_at = state.collapsed_at or state.step
    if score > state.best_score:
        state.best_score, state.best_step, state.misses = score, state.step, 0
        save_weights(best, encoder.model)
    else:
        state.misses += 1


def _log(state: Progressed, hooks: Hooks, values: dict[str, float]) -> None:
    row = {"step": state.step, **values}
    state.log.append(row)
    if hooks.report is not None:
        hooks.report(row)
