"""The training loop: token ids in, gradient steps, evaluation on dev, the best weights kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.console import Progress
from fieldtune.disk import room_to_write
from fieldtune.encoding import Encoder
from fieldtune.errors import ModelError
from fieldtune.stopping import PutOff
from fieldtune.training.batches import Batch, batches_of_step, plan
from fieldtune.training.checkpoint import (
    Progressed,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    save_weights,
)
from fieldtune.training.development import Development
from fieldtune.training.devices.orders import Collect, Fit, Step, leading, tell
from fieldtune.training.devices.world import current, together
from fieldtune.training.losses.choice import draws_scored, terms
from fieldtune.training.modes import enter_training
from fieldtune.training.optimizer import set_rate
from fieldtune.training.pairs import Pairs
from fieldtune.training.recipe import Recipe
from fieldtune.training.reports import counted
from fieldtune.training.safety import collapsed
from fieldtune.training.session import Session, open_session, texts_cut
from fieldtune.training.step import add_gradient
from fieldtune.workspace import write_jsonl

if TYPE_CHECKING:
    import torch

_LOG_EVERY = 10  # steps


@dataclass(frozen=True, slots=True)
class Measured:
    """What an evaluation on dev found."""

    scores: NDArray[np.float64]
    """The measure of each query."""
    vectors: NDArray[np.float32]
    """(n, dim) of the passages, to see whether they are all alike."""
    more: Mapping[str, float] = field(default_factory=dict)
    """For the log."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What else takes part in the steps."""

    penalty: Callable[[], torch.Tensor] | None = None
    """A term that is added to the loss once a step, such as the distance to the initial weights."""
    report: Callable[[Mapping[str, Any]], None] | None = None
    """Called with every row of the log."""
    restored: Callable[[Mapping[str, Any]], None] | None = None
    """Called with the rows of a checkpoint that the training goes on from."""
    gradient: Callable[[Session, Batch, float, int], float] | None = None
    """Adds a batch's gradient times its weight at a step, and returns the loss, in place of the recipe's own loss."""
    measured: Callable[[Encoder, Development], Measured] | None = None
    """Measures dev in place of a search by dense vectors."""


def of_one(hooks: Hooks, before: int, *, first: bool, **names: int) -> Hooks:
    """The hooks of one of several trainings, whose reports are to be one log; see `reports.counted`."""
    report = counted(hooks.report, before, first=first, **names)
    return replace(hooks, report=report, restored=counted(hooks.restored, before, first=first, **names))


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

    `work` is a folder for checkpoints, `key` names base model, data and settings: a checkpoint under another key is put
    aside. Raises ModelError when the loss is no longer a number, memory does not suffice, or the disk is full; the last
    good checkpoint stays.
    """
    settings = recipe.settings
    size = settings.batch_size * settings.accumulate
    hooks = hooks or Hooks()
    session = open_session(encoder, pairs, recipe, work)
    steps = plan(pairs, session.passages.lengths[pairs.positive], size, settings.epochs, recipe.seed)
    if not steps:
        raise ModelError("there is nothing to train on", "the dataset stage left no pairs; look at its result")
    checkpoint, best = work / "checkpoint.pt", work / "best.pt"
    whole = session.state()
    state, fits = load_checkpoint(checkpoint, key, whole)
    state.notes += [said for said in (fits, *texts_cut(session)) if said and said not in state.notes]
    state.trainable = sum(weight.numel() for weight in encoder.model.parameters() if weight.requires_grad)
    if hooks.restored is not None:
        for row in state.log:
            hooks.restored(row)
    times = 1 if development is None else settings.evaluations  # with nothing to choose by, the end alone counts
    evaluate_at = {round(len(steps) * i / times) for i in range(1, times + 1)}
    began, saved = time.monotonic() - state.seconds, time.monotonic()
    losses: list[float] = []
    if state.step == 0 and development is not None:
        found = _measured(encoder, development, hooks)
        state.base_score = float(found.scores.mean())
        _log(state, hooks, _said(development, found))
    order = Fit(pairs, replace(recipe, fixed=None), session.objective.fixed, str(work))
    # Of several processes, which all hear the signal, none can finish a step without the others.
    stop = PutOff(idle=current() is not None)
    with leading(order), Progress("training", len(steps), unit="steps") as progress, stop:
        with together():
            session.stepper.start(whole)
        progress.resume(state.step)
        while state.step < len(steps) and not (settings.patience and state.misses >= settings.patience):
            tell(Step(state.step, len(steps)))
            with together():
                rate = set_rate(session.stepper.optimizer, settings, state.step, len(steps))
                loss, penalty = _step(session, steps[state.step], state.step, hooks)
            if not math.isfinite(loss):
                raise ModelError(
                    f"the loss is {loss} at step {state.step + 1} of {len(steps)}",
                    "lower training.learning_rate, or set training.precision=fp32",
                )
            if not math.isfinite(session.stepper.norm):  # the weights are no numbers from here on
                raise ModelError(
                    f"the gradient is {session.stepper.norm} at step {state.step + 1} of {len(steps)}, though the loss "
                    f"is a number ({loss:.4f})",
                    "lower training.learning_rate, or set training.precision=fp32; the checkpoint before it is kept",
                )
            state.step += 1
            state.idle += loss == penalty  # nothing but the pull towards the weights of the start
            losses.append(loss)
            progress.advance(1, f"loss {np.mean(losses[-20:]):.4f}, rate {rate:.1e}")
            if state.step % _LOG_EVERY == 0 or state.step == len(steps):
                _log(state, hooks, {"loss": round(loss, 5), "rate": rate})
            due = stop.heard or time.monotonic() - saved > settings.checkpoint_seconds
            if not due and state.step not in evaluate_at:
                continue
            tell(Collect(state.step))
            with room_to_write(work, "the checkpoint"):
                with together():
                    session.stepper.collect(whole, state.step)
                if state.step in evaluate_at:
                    _evaluate(encoder, development, state, best, hooks)
                state.seconds = time.monotonic() - began
                save_checkpoint(checkpoint, key, state, whole)
                write_jsonl(work / "log.jsonl", state.log)
                saved = time.monotonic()
            stop.heed()
    load_weights(best, encoder.model)
    encoder.model.eval()
    return state


def _step(session: Session, rows: NDArray[np.int64], number: int, hooks: Hooks) -> tuple[float, float]:
    """One optimizer step over `rows` of the pairs, in batches of the size that was set.

    Returns the mean loss, and how much of it is the penalty of the hooks.
    """
    import torch

    settings, recipe = session.recipe.settings, session.recipe
    stepper = session.stepper
    enter_training(stepper.encoder.model, settings)
    scored = settings.scored_passages if draws_scored(recipe.loss, recipe.uses_scores) else 0
    batches = batches_of_step(session.pairs, rows, settings, recipe.seed, number, scored=scored)
    plain = hooks.gradient is None
    shares = np.array([terms(recipe.loss, batch) if plain else len(batch) for batch in batches], np.float64)
    shares = shares / max(1.0, shares.sum())
    total = 0.0
    try:
        for place, (batch, share) in enumerate(zip(batches, shares, strict=True), 1):
            stepper.begin(last=place == len(batches))
            total += float(share) * (hooks.gradient or _gradient)(session, batch, float(share), number)
    except torch.cuda.OutOfMemoryError:
        raise ModelError(
            f"the GPU's memory does not hold a batch of {settings.batch_size} queries with their passages",
            "set training.gradient_cache=true, training.gradient_checkpointing=true, or a smaller training.batch_size",
        ) from None
    penalty = 0.0
    if hooks.penalty is not None:
        term = hooks.penalty()
        stepper.pull(term)
        penalty = term.item()
    stepper.update(settings.max_grad_norm)
    return total + penalty, penalty


def _gradient(session: Session, batch: Batch, weight: float, number: int) -> float:
    return add_gradient(
        session.stepper.encoder,
        batch,
        session.queries,
        session.passages,
        session.objective,
        weight=weight,
        cached=session.cached,
        scaler=session.scaler,
        passes=session.stepper.passes,
    )


def _measured(encoder: Encoder, development: Development, hooks: Hooks) -> Measured:
    if hooks.measured is not None:
        return hooks.measured(encoder, development)
    return Measured(*development.measured(encoder))


def _evaluate(encoder: Encoder, development: Development | None, state: Progressed, best: Path, hooks: Hooks) -> None:
    encoder.model.eval()
    if development is None:  # nothing to choose by: the last weights are the result
        state.best_step = state.step
        save_weights(best, encoder.model)
        return
    found = _measured(encoder, development, hooks)
    score = float(found.scores.mean())
    _log(state, hooks, _said(development, found))
    if collapsed(found.vectors):
        state.collapsed_at = state.collapsed_at or state.step
    if score > state.best_score:
        state.best_score, state.best_step, state.misses = score, state.step, 0
        save_weights(best, encoder.model)
    else:
        state.misses += 1


def _said(development: Development, found: Measured) -> dict[str, float]:
    """What the log keeps of a measurement on dev."""
    error = round(development.error(found.scores), 5)
    return {f"dev_{development.name}": float(found.scores.mean()), "dev_error": error, **found.more}


def _log(state: Progressed, hooks: Hooks, values: dict[str, float]) -> None:
    row = {"step": state.step, **values}
    state.log.append(row)
    if hooks.report is not None:
        hooks.report(row)
