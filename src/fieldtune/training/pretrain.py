"""Continued pre-training on the corpus alone: no query, no label, nothing of dev and test but the passages."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.config import Training
from fieldtune.console import Progress
from fieldtune.disk import room_to_write
from fieldtune.encoding import Encoder
from fieldtune.encoding.token_files import FOLDER
from fieldtune.encoding.tokens import budgeted
from fieldtune.errors import ModelError
from fieldtune.stopping import PutOff
from fieldtune.training.checkpoint import State, load_checkpoint, save_checkpoint
from fieldtune.training.masked import masked_task
from fieldtune.training.modes import enter_training
from fieldtune.training.reports import Report
from fieldtune.training.restoring import restoring_task
from fieldtune.training.step import scaled, told_norm
from fieldtune.training.tokens_to_find import Task

if TYPE_CHECKING:
    import torch

SHARES = {"mlm": 0.3, "tsdae": 0.6}
"""Of the tokens: masked (more than BERT's 15% is better for encoders of today, arXiv:2202.08005), deleted
(arXiv:2104.06979, table 6)."""
_BUDGET = {"cpu": 2_048, "cuda": 65_536}  # padded tokens per pass
_HELD, _MOST_HELD = 0.05, 200  # passages that are not trained on but measured
_WARMUP = 0.1
_FRESH = 20.0  # times the encoder's rate: a head that starts from nothing must be of use before the encoder has moved
_LOG_EVERY = 10


@dataclass(frozen=True, slots=True)
class Pretrained:
    """What pre-training did."""

    kind: str
    passages: int
    steps: int
    before: float
    after: float
    """Loss per token on the held-out passages; before it, a fresh head knows nothing yet."""
    fresh: bool
    """Whether the head was made for this and not part of the base model."""
    log: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()
    """Of a checkpoint that was not used."""

    @property
    def note(self) -> str:
        what = {"mlm": "guessing masked tokens", "tsdae": "restoring passages of which most tokens were deleted"}
        head = " (most of it the fresh head's or decoder's learning)" if self.fresh else ""
        return (
            f"Pre-training on {self.passages:,} passages by {what[self.kind]}, {self.steps:,} steps, no query seen: "
            f"loss per token on held-out passages {self.before:.3f} before, {self.after:.3f} after{head}."
        )


def pretrain(
    encoder: Encoder,
    folder: Path,
    passages: Sequence[str],
    settings: Training,
    seed: int,
    work: Path,
    key: str,
    report: Report | None = None,
) -> Pretrained:
    """Train the encoder's model in place on passages alone; a killed run goes on where it was.

    `folder` is where the base model's first module lies, for its head; `work` keeps the checkpoint and the token ids
    (`forget_ids` removes these), `key` names model and texts. `report` is told each row of the log, those of a
    checkpoint first. Weights that do not require a gradient stay. Raises ModelError when there is nothing to train on,
    mlm has no mask token, or the loss or its gradient is no longer a number.
    """
    import torch

    assert encoder.tokens is not None  # the training stage has checked
    distinct = list(dict.fromkeys(passages))
    order = np.random.default_rng((seed, 21)).permutation(len(distinct))
    held = np.sort(order[: min(_MOST_HELD, math.ceil(_HELD * len(distinct)))])
    limit = settings.passage_tokens
    store = encoder.tokens.store(distinct, encoder.prompts["passage"], limit, folder=work / FOLDER)
    steps = _plan(np.setdiff1d(order, held), store.lengths, settings, seed)
    if not steps:
        raise ModelError("there are too few passages to pre-train on", "set training.pretrain = none")
    torch.manual_seed(seed)
    share = SHARES[settings.pretrain] if settings.pretrain_share == "auto" else settings.pretrain_share
    mlm = settings.pretrain == "mlm"
    task = masked_task(encoder, folder, store, share) if mlm else restoring_task(encoder, store, share)
    modules = task.modules
    optimizer = torch.optim.AdamW(_groups(task), lr=settings.pretrain_rate, weight_decay=settings.weight_decay)
    # Small gradients would be rounded to nothing in fp16.
    scaler = torch.amp.GradScaler(encoder.device.split(":")[0]) if encoder.precision == "fp16" else None
    budget = _BUDGET["cuda" if encoder.device.startswith("cuda") else "cpu"]

    def measured() -> float:
        modules.eval()
        return _held_loss(task, held, budgeted(store.lengths[held], budget), seed)

    path, whole = work / "checkpoint.pt", State(modules, optimizer, None, scaler, encoder.device)
    state, fits = load_checkpoint(path, key, whole)
    state.notes += [fits] if fits else []
    if not state.step:
        state.base_score = measured()
    for row in state.log:
        _tell(report, row)
    saved = time.monotonic()
    began = saved - state.seconds  # what is put aside is told apart by how long it took
    enter_training(modules, settings)
    with Progress(f"pre-training ({settings.pretrain})", len(steps), unit="steps") as progress, PutOff() as stop:
        progress.resume(state.step)
        while state.step < len(steps):
            rows = steps[state.step]
            for group in optimizer.param_groups:
                group["lr"] = group["share"] * settings.pretrain_rate * _schedule(state.step, len(steps))
            rng = np.random.default_rng((seed, 22, state.step))
            optimizer.zero_grad(set_to_none=True)
            try:
                value = _gradient(task, [rows[part] for part in budgeted(store.lengths[rows], budget)], rng, scaler)
            except torch.cuda.OutOfMemoryError:
                raise ModelError(
                    f"the GPU's memory does not hold a pre-training step of {settings.pretrain_batch_size} passages",
                    "set training.gradient_checkpointing=true, or a smaller training.pretrain_batch_size or "
                    "training.passage_tokens",
                ) from None
            if not math.isfinite(value):
                raise ModelError(
                    f"the loss of pre-training is {value} at step {state.step + 1} of {len(steps)}",
                    "lower training.pretrain_rate, or set training.precision=fp32",
                )
            norm = _update(optimizer, modules, settings.max_grad_norm, scaler)
            if not math.isfinite(norm):  # the weights are no numbers from here on
                raise ModelError(
                    f"the gradient of pre-training is {norm} at step {state.step + 1} of {len(steps)}, though the loss "
                    f"is a number ({value:.4f})",
                    "lower training.pretrain_rate, or set training.precision=fp32; the checkpoint before it is kept",
                )
            state.step += 1
            progress.advance(1, f"loss {value:.4f}")
            if state.step % _LOG_EVERY == 0 or state.step == len(steps):
                state.log.append({"pretrain_step": state.step, "pretrain_loss": round(value, 5)})
                _tell(report, state.log[-1])
            due = time.monotonic() - saved > settings.checkpoint_seconds and state.step < len(steps)
            if due or stop.heard:
                state.seconds = time.monotonic() - began
                with room_to_write(work, "the checkpoint"):
                    save_checkpoint(path, key, state, whole)
                saved = time.monotonic()
                stop.heed()
    if state.best_score < 0:  # the end was not reached before
        state.best_score = measured()
        state.seconds = time.monotonic() - began
        with room_to_write(work, "the checkpoint"):
            save_checkpoint(path, key, state, whole)
    modules.eval()
    return Pretrained(
        settings.pretrain, len(distinct) - len(held), len(steps), state.base_score, state.best_score, task.fresh,
        tuple(state.log), tuple(state.notes),
    )  # fmt: skip


def _tell(report: Report | None, row: Mapping[str, Any]) -> None:
    if report is not None:
        report({"step": row["pretrain_step"], "pretrain_loss": row["pretrain_loss"]})


def _groups(task: Task) -> list[dict[str, Any]]:
    """The encoder's weights, and those that the head has alone, at a higher rate where they are fresh."""
    encoder = {id(weight) for weight in task.encoder.parameters()}
    own: list[torch.nn.Parameter] = []
    head: list[torch.nn.Parameter] = []
    for weight in task.modules.parameters():  # a tied weight comes once
        if weight.requires_grad:
            (own if id(weight) in encoder else head).append(weight)
    return [{"params": own, "share": 1.0}, {"params": head, "share": _FRESH if task.fresh else 1.0}]


def _gradient(
    task: Task,
    parts: Sequence[NDArray[np.int64]],
    rng: np.random.Generator,
    scaler: torch.amp.GradScaler | None = None,
) -> float:
    """Add up the gradient of one step over passes of like length, each weighing as much as it has passages."""
    count, total = sum(map(len, parts)), 0.0
    for part in parts:
        value, _ = task.loss(part, rng)
        value = value * (len(part) / count)
        scaled(value, scaler).backward()  # type: ignore[no-untyped-call]
        total += float(value.detach())
    return total


def _update(
    optimizer: torch.optim.Optimizer, modules: torch.nn.Module, longest: float, scaler: torch.amp.GradScaler | None
) -> float:
    """One step; returns the gradient's norm."""
    import torch

    if scaler is not None:
        scaler.unscale_(optimizer)
    norm = float(torch.nn.utils.clip_grad_norm_(modules.parameters(), longest))
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    return told_norm(norm, scaler)


def _schedule(step: int, steps: int) -> float:
    """Share of the peak rate: a linear rise, a linear fall."""
    rise = max(1, round(_WARMUP * steps))
    return min((step + 1) / rise, (steps - step) / max(1, steps - rise))


def _plan(
    rows: NDArray[np.int64], lengths: NDArray[np.int64], settings: Training, seed: int
) -> list[NDArray[np.int64]]:
    """The passages of every step; each epoch is a fresh shuffle, a fraction of one takes its first steps."""
    steps: list[NDArray[np.int64]] = []
    rows = rows[lengths[rows] > 3]  # beginning, end and one token: nothing to be found
    size = settings.pretrain_batch_size
    for epoch in range(math.ceil(settings.pretrain_epochs)):
        shuffled = np.random.default_rng((seed, 23, epoch)).permutation(rows)
        batches = [shuffled[begin : begin + size] for begin in range(0, len(shuffled), size)]
        share = min(1.0, settings.pretrain_epochs - epoch)
        steps += batches[: max(1, round(len(batches) * share))]
    return steps


def _held_loss(task: Task, held: NDArray[np.int64], parts: Sequence[NDArray[np.int64]], seed: int) -> float:
    """Mean loss per token to be found on the held-out passages, the same tokens each time."""
    import torch

    rng, total, count = np.random.default_rng((seed, 24)), 0.0, 0
    with torch.no_grad():
        for part in parts:
            value, found = task.loss(held[part], rng)
            total += float(value) * found
            count += found
    return total / max(1, count)
