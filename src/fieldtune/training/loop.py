"""The training loop: token ids in, gradient steps, evaluation on dev, the best weights kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fieldtune.config import Training
from fieldtune.console import Progress
from fieldtune.encoding.encoder import Encoder, embed
from fieldtune.encoding.precision import autocast
from fieldtune.encoding.tokens import TokenStore, budgeted
from fieldtune.errors import ModelError
from fieldtune.training.batches import Batch, make_batch, plan
from fieldtune.training.checkpoint import Progressed, load_checkpoint, load_weights, save_checkpoint, save_weights
from fieldtune.training.development import Development
from fieldtune.training.losses import in_batch_loss
from fieldtune.training.pairs import Pairs

if TYPE_CHECKING:
    import torch

# Padded tokens per forward pass. Small passes stay in a processor's cache: training MiniLM on passages of 36 tokens,
# 1,024 were 1.4 times as fast as 4,096; on passages of 250 tokens there was no difference.
_BUDGET = {"cpu": 1_024, "cuda": 131_072}
# The backward pass of the processor's fused attention kernel is slow on short texts: plain attention was 1.5 times as
# fast over the whole step at 36 tokens, and no longer faster at 250.
_FUSED_FROM = 128
_LOG_EVERY = 10  # steps


Watch = Callable[[Progressed, int], None]
"""Told after each evaluation where a run stands and how many steps it has; may raise to end it."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings of one training run with nothing left to decide."""

    settings: Training
    scale: float
    dimensions: tuple[int, ...]
    seed: int
    penalty: Callable[[], torch.Tensor] | None = None
    """Added to the loss of each step."""
    watch: Watch | None = None


def train(
    encoder: Encoder, pairs: Pairs, recipe: Recipe, development: Development | None, work: Path, key: str
) -> Progressed:
    """Tune the encoder's model in place and leave the best weights in it; a killed run goes on where it was.

    `work` is a folder for checkpoints, `key` names base model, data and settings: a checkpoint under another key is not
    used. Raises ModelError when the loss is no longer a number.
    """
    import torch

    model, settings = encoder.model, recipe.settings
    assert encoder.tokens is not None  # the caller has checked
    torch.manual_seed(recipe.seed)
    queries = encoder.tokens.store(pairs.queries, encoder.prompts["query"])
    passages = encoder.tokens.store(pairs.passages, encoder.prompts["passage"])
    steps = plan(pairs, passages.lengths[pairs.positive], settings.batch_size, settings.epochs, recipe.seed)
    if not steps:
        raise ModelError("there is nothing to train on", "the dataset stage left no pairs; look at its result")
    if freezes_embeddings(model, settings.freeze_embeddings):
        model.transformers_model.get_input_embeddings().requires_grad_(False)
    optimizer = _optimizer(model, settings)
    checkpoint, best = work / "checkpoint.pt", work / "best.pt"
    state = load_checkpoint(checkpoint, key, model, optimizer) or Progressed()
    evaluate_at = {round(len(steps) * i / settings.evaluations) for i in range(1, settings.evaluations + 1)}
    began, saved = time.monotonic() - state.seconds, time.monotonic()
    losses: list[float] = []
    if state.step == 0 and development is not None:
        state.base_score = float(development.score(encoder).mean())
        state.log.append({"step": 0, "dev_ndcg@10": state.base_score})
    with Progress("training", len(steps), unit="steps") as progress:
        progress.resume(state.step)
        while state.step < len(steps) and not (settings.patience and state.misses >= settings.patience):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * _schedule(state.step, len(steps), settings.warmup)
            batch = make_batch(pairs, steps[state.step], settings.hard_negatives, recipe.seed, state.step)
            loss = _step(encoder, batch, queries, passages, recipe, optimizer)
            if not math.isfinite(loss):
                raise ModelError(
                    f"the loss is {loss} at step {state.step + 1} of {len(steps)}",
                    "lower training.learning_rate, or set training.precision=fp32",
                )
            state.step += 1
            losses.append(loss)
            progress.advance(1, f"loss {np.mean(losses[-20:]):.4f}, rate {optimizer.param_groups[0]['lr']:.1e}")
            if state.step % _LOG_EVERY == 0 or state.step == len(steps):
                row = {"step": state.step, "loss": round(loss, 5), "rate": optimizer.param_groups[0]["lr"]}
                state.log.append(row)
            if state.step in evaluate_at:
                _evaluate(encoder, development, state, best)
                if recipe.watch is not None:
                    recipe.watch(state, len(steps))
            state.seconds = time.monotonic() - began
            if state.step in evaluate_at or time.monotonic() - saved > settings.checkpoint_seconds:
                save_checkpoint(checkpoint, key, state, model, optimizer)
                saved = time.monotonic()
    load_weights(best, model)
    model.eval()
    return state


def _step(
    encoder: Encoder,
    batch: Batch,
    queries: TokenStore,
    passages: TokenStore,
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
) -> float:
    import torch

    model = encoder.model
    model.train(recipe.settings.dropout)
    with autocast(encoder.precision, encoder.device):
        query_vectors = _embed_all(encoder, queries, batch.queries)
        passage_vectors = _embed_all(encoder, passages, batch.passages)
    loss = in_batch_loss(
        query_vectors,
        passage_vectors,
        torch.from_numpy(batch.labels).to(model.device),
        torch.from_numpy(batch.masked).to(model.device),
        scale=recipe.scale,
        dimensions=recipe.dimensions,
    )
    if recipe.penalty is not None:
        loss = loss + recipe.penalty()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.settings.max_grad_norm)
    optimizer.step()
    return loss.item()


def _embed_all(encoder: Encoder, store: TokenStore, rows: NDArray[np.int64]) -> torch.Tensor:
    """Embeddings of the rows in order, computed in sub-batches of like length to save padding."""
    import torch

    assert encoder.tokens is not None
    budget = _BUDGET["cuda" if encoder.device.startswith("cuda") else "cpu"]
    parts = budgeted(store.lengths[rows], budget)
    outputs = []
    for part in parts:  # longest first, so part[0] is the longest of its part
        with _attention(encoder.device, int(store.lengths[rows[part[0]]])):
            outputs.append(embed(encoder.model, store, rows[part], encoder.tokens.pad))
    output = torch.cat(outputs)
    back = np.empty(len(rows), np.int64)
    back[np.concatenate(parts)] = np.arange(len(rows))
    return output[torch.from_numpy(back).to(output.device)]


def _attention(device: str, tokens: int) -> AbstractContextManager[Any]:
    """The attention kernel that is fastest forward and backward for texts of this length."""
    if not device.startswith("cpu") or tokens >= _FUSED_FROM:
        return nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    kernel: AbstractContextManager[Any] = sdpa_kernel(SDPBackend.MATH)
    return kernel


def _evaluate(encoder: Encoder, development: Development | None, state: Progressed, best: Path) -> None:
    encoder.model.eval()
    if development is None:  # nothing to choose by: the last weights are the result
        state.best_step = state.step
        save_weights(best, encoder.model)
        return
    score = float(development.score(encoder).mean())
    state.log.append({"step": state.step, "dev_ndcg@10": score})
    if score > state.best_score:
        state.best_score, state.best_step, state.misses = score, state.step, 0
        save_weights(best, encoder.model)
    else:
        state.misses += 1


def freezes_embeddings(model: Any, setting: bool | Literal["auto"]) -> bool:
    """Whether the word vectors stay as they are. Of 250,000 words a batch holds a few hundred, yet the gradient and the
    optimizer state of all of them would be computed and kept at every step."""
    if setting != "auto":
        return setting
    words = sum(weight.numel() for weight in model.transformers_model.get_input_embeddings().parameters())
    return bool(3 * words > 2 * sum(weight.numel() for weight in model.parameters()))


def _optimizer(model: Any, settings: Training) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices alone."""
    import torch

    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def _schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the peak rate at a step: linear rise over `warmup` of the steps, linear fall to zero."""
    rise = max(1, round(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return max(0.0, (steps - step) / max(1, steps - rise))
