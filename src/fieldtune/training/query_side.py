"""Training of a layer on query vectors, with every vector of the base computed once and fixed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.console import Progress
from fieldtune.encoding import QueryAdapter, top_k
from fieldtune.errors import ModelError
from fieldtune.training.batches import make_batch, plan
from fieldtune.training.checkpoint import Progressed
from fieldtune.training.development import ndcg_at_10
from fieldtune.training.loop import Recipe, schedule
from fieldtune.training.losses import in_batch_loss
from fieldtune.training.pairs import Pairs

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]
_LOG_EVERY = 50  # steps; they are short


@dataclass(frozen=True, slots=True)
class FixedDevelopment:
    """The dev split as vectors, ranked whole: that costs one matrix product."""

    queries: Floats
    """(n, dim) of the base."""
    passages: Floats
    """(m, dim), may be memory-mapped."""
    qrels: Sequence[dict[int, int]]
    """Per query: passage row -> grade."""
    relevance_threshold: int

    def score(self, adapter: QueryAdapter) -> float:
        """Mean nDCG@10."""
        _, ranked = top_k(adapter.apply(self.queries), self.passages, 10)
        return float(ndcg_at_10(ranked, self.qrels, self.relevance_threshold).mean())


def fit_query_adapter(
    queries: Floats, passages: Floats, pairs: Pairs, recipe: Recipe, development: FixedDevelopment | None
) -> tuple[QueryAdapter, Progressed]:
    """The adapter that does best on dev, and the account of its training.

    `queries` and `passages` are the base's unit vectors of the texts in `pairs`, (n, dim) and (m, dim). Begins with no
    change, which is also what wins when nothing does better on dev. The same seed gives the same adapter, so a killed
    training is simply done again: it takes seconds. Raises ModelError when the loss is no longer a number.
    """
    import torch

    settings = recipe.settings
    steps = plan(pairs, np.zeros(len(passages), np.int64)[pairs.positive], settings.batch_size, settings.epochs, recipe.seed)
    if not steps:
        raise ModelError("there is nothing to train on", "give train labels with vectors for queries and passages")
    weights = _begin(queries.shape[1], settings.query.hidden, recipe.seed)
    optimizer = torch.optim.AdamW(list(weights.values()), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    evaluate_at = {round(len(steps) * i / settings.evaluations) for i in range(1, settings.evaluations + 1)}
    state, best = Progressed(), _adapter(weights)
    if development is not None:
        state.base_score = state.best_score = development.score(best)
        state.log.append({"step": 0, "dev_ndcg@10": state.base_score})
    with Progress("training the query layer", len(steps), unit="steps") as progress:
        for rows in steps:
            if settings.patience and state.misses >= settings.patience:
                break
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * schedule(state.step, len(steps), settings.warmup)
            batch = make_batch(pairs, rows, settings.hard_negatives, recipe.seed, state.step)
            loss = in_batch_loss(
                _changed(weights, torch.from_numpy(np.array(queries[batch.queries], np.float32))),
                torch.from_numpy(np.array(passages[batch.passages], np.float32)),
                torch.from_numpy(batch.labels),
                torch.from_numpy(batch.masked),
                scale=recipe.scale,
                dimensions=recipe.dimensions,
            )
            if not math.isfinite(loss.item()):
                raise ModelError(
                    f"the loss is {loss.item()} at step {state.step + 1} of {len(steps)}",
                    "lower training.learning_rate, and look for damaged vectors",
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(weights.values(), settings.max_grad_norm)
            optimizer.step()
            state.step += 1
            progress.advance(1, f"loss {loss.item():.4f}")
            if state.step % _LOG_EVERY == 0 or state.step == len(steps):
                row = {"step": state.step, "loss": round(loss.item(), 5), "rate": optimizer.param_groups[0]["lr"]}
                state.log.append(row)
            if state.step in evaluate_at:
                best = _better(_adapter(weights), best, state, development)
    return best, state


def _better(
    now: QueryAdapter, best: QueryAdapter, state: Progressed, development: FixedDevelopment | None
) -> QueryAdapter:
    if development is None:  # nothing to choose by: the last one is the result
        state.best_step = state.step
        return now
    score = development.score(now)
    state.log.append({"step": state.step, "dev_ndcg@10": score})
    if score <= state.best_score:
        state.misses += 1
        return best
    state.best_score, state.best_step, state.misses = score, state.step, 0
    return now


def _begin(dimension: int, hidden: int, seed: int) -> dict[str, torch.Tensor]:
    """Weights that change nothing yet, and from which each can learn."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    weights = {"outer": torch.zeros(dimension, hidden or dimension), "outer_bias": torch.zeros(dimension)}
    if hidden:
        weights["inner"] = torch.randn(hidden, dimension, generator=draw)  # unit vectors: each unit sees about N(0, 1)
        weights["inner_bias"] = torch.zeros(hidden)
    return {name: weight.requires_grad_() for name, weight in weights.items()}


def _changed(weights: dict[str, torch.Tensor], vectors: torch.Tensor) -> torch.Tensor:
    from torch.nn.functional import linear, relu

    seen = vectors if "inner" not in weights else relu(linear(vectors, weights["inner"], weights["inner_bias"]))
    return vectors + linear(seen, weights["outer"], weights["outer_bias"])


def _adapter(weights: dict[str, Any]) -> QueryAdapter:
    return QueryAdapter(**{name: weight.detach().numpy().copy() for name, weight in weights.items()})
