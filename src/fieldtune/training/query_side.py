"""Training of a layer on query vectors, with every vector of the base computed once and fixed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.console import Progress
from fieldtune.encoding import Encoder, QueryAdapter, cached_vectors
from fieldtune.errors import ModelError
from fieldtune.training.adapting import Prepared
from fieldtune.training.batches import batches_of_step, plan
from fieldtune.training.checkpoint import Progressed
from fieldtune.training.development import Development
from fieldtune.training.loop import Hooks
from fieldtune.training.losses import make_objective, to_targets
from fieldtune.training.losses.choice import draws_scored, terms
from fieldtune.training.optimizer import set_rate
from fieldtune.training.pairs import Pairs
from fieldtune.training.recipe import Recipe
from fieldtune.training.safety import collapsed
from fieldtune.training.session import said_of_cut

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]
Report = Callable[[dict[str, float]], None]
_LOG_EVERY = 50  # steps; they are short
_LOOKED_AT = 200  # training queries, to see whether their vectors are all alike


def train_query_side(
    encoder: Encoder,
    prepared: Prepared,
    pairs: Pairs,
    recipe: Recipe,
    development: Development | None,
    vectors: Path,
    hooks: Hooks,
) -> Progressed:
    """Train a query adapter on the encoder's own vectors and leave it in `prepared`; the encoder stays as it is.

    The vectors are kept in the folder `vectors`: a killed run does not compute them again.
    """
    queries = cached_vectors(encoder, pairs.queries, "query", vectors, label="encoding training queries")
    passages = cached_vectors(encoder, pairs.passages, "passage", vectors, label="encoding training passages")
    score = None
    if development is not None:
        asked = cached_vectors(encoder, development.queries, "query", vectors, label="encoding dev queries")
        ranked = cached_vectors(encoder, development.passages, "passage", vectors, label="encoding dev passages")

        def score(adapter: QueryAdapter) -> float:
            return float(development.of_vectors(adapter.apply(asked), ranked).mean())

    adapter, state = fit_query_adapter(
        queries, passages, pairs, recipe, score, development.name if development else "", hooks.report
    )
    state.notes += said_of_cut(encoder, "query", pairs.queries, len(pairs.queries))
    state.notes += said_of_cut(encoder, "passage", pairs.passages, len(pairs.passages))
    weights = [adapter.outer, adapter.outer_bias, adapter.inner, adapter.inner_bias]
    prepared.query_adapter = adapter
    prepared.trainable = sum(weight.size for weight in weights if weight is not None)
    prepared.notes.append(
        f"Trained a layer on query vectors ({prepared.trainable:,} numbers) and nothing else: passages keep their "
        "vectors, an index of the base model stays valid."
    )
    return state


def fit_query_adapter(
    queries: Floats,
    passages: Floats,
    pairs: Pairs,
    recipe: Recipe,
    score: Callable[[QueryAdapter], float] | None,
    measured: str = "",
    report: Report | None = None,
) -> tuple[QueryAdapter, Progressed]:
    """The adapter that does best on dev, and the account of its training.

    `queries` (n, dim) and `passages` (m, dim) are the base's unit vectors of the texts in `pairs`; `score` measures an
    adapter on dev, `measured` names what with. The same seed gives the same adapter, so a killed training is simply
    done again: it takes seconds. Raises ModelError when the loss or its gradient is no longer a number.
    """
    import torch

    settings = recipe.settings
    size = settings.batch_size * settings.accumulate
    steps = plan(pairs, np.zeros(len(pairs), np.int64), size, settings.epochs, recipe.seed)
    if not steps:
        raise ModelError("there is nothing to train on", "give train labels with vectors for queries and passages")
    weights = _begin(queries.shape[1], settings.query.hidden, recipe.seed)
    device = torch.device("cpu")
    fixed = None if recipe.fixed is None else recipe.fixed(pairs)
    objective = make_objective(recipe, fixed, queries.shape[1], device)
    trained = [*weights.values(), *([] if objective.module is None else objective.module.parameters())]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    evaluate_at = {round(len(steps) * i / settings.evaluations) for i in range(1, settings.evaluations + 1)}
    scored = settings.scored_passages if draws_scored(recipe.loss, recipe.uses_scores) else 0
    state, best = Progressed(), _adapter(weights)
    some = queries[:_LOOKED_AT]

    def log(**values: float) -> None:
        row = {"step": state.step, **values}
        state.log.append(row)
        if report is not None:
            report(row)

    if score is not None:
        state.base_score = score(best)
        log(**{f"dev_{measured}": state.base_score})
    with Progress("training the query layer", len(steps), unit="steps") as progress:
        for rows in steps:
            if settings.patience and state.misses >= settings.patience:
                break
            rate = set_rate(optimizer, settings, state.step, len(steps))
            batches = batches_of_step(pairs, rows, settings, recipe.seed, state.step, scored=scored)
            shares = np.array([terms(recipe.loss, batch) for batch in batches], np.float64)
            shares = shares / max(1.0, shares.sum())
            optimizer.zero_grad(set_to_none=True)
            value = 0.0
            for batch, share in zip(batches, shares, strict=True):
                guide = (None, None) if fixed is None else fixed.rows(batch.queries, batch.passages, device)
                asked, shown = _rows(queries, batch.queries), _rows(passages, batch.passages)
                loss = objective.loss(_changed(weights, asked), shown, to_targets(batch, device, guide)) * float(share)
                loss.backward()  # type: ignore[no-untyped-call]
                value += loss.item()
            if not math.isfinite(value):
                raise ModelError(
                    f"the loss is {value} at step {state.step + 1} of {len(steps)}",
                    "lower training.learning_rate, and look for damaged vectors",
                )
            norm = float(torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm))
            if not math.isfinite(norm):  # the weights would be no numbers from here on
                raise ModelError(
                    f"the gradient is {norm} at step {state.step + 1} of {len(steps)}, though the loss is a number "
                    f"({value:.4f})",
                    "lower training.learning_rate or training.scale",
                )
            optimizer.step()
            state.step += 1
            state.idle += value == 0
            progress.advance(1, f"loss {value:.4f}")
            if state.step % _LOG_EVERY == 0 or state.step == len(steps):
                log(loss=round(value, 5), rate=rate)
            if state.step not in evaluate_at:
                continue
            now = _adapter(weights)
            if collapsed(now.apply(some)) and not collapsed(some):
                state.collapsed_at = state.collapsed_at or state.step
            reached = 0.0 if score is None else score(now)
            if score is not None:
                log(**{f"dev_{measured}": reached})
            if score is None or reached > state.best_score:  # without dev the last one is the result
                best, state.best_score, state.best_step, state.misses = now, reached, state.step, 0
            else:
                state.misses += 1
    return best, state


def _begin(dimension: int, hidden: int, seed: int) -> dict[str, torch.Tensor]:
    """Weights that change nothing yet, and from which each can learn."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    weights = {"outer": torch.zeros(dimension, hidden or dimension), "outer_bias": torch.zeros(dimension)}
    if hidden:
        weights["inner"] = torch.randn(hidden, dimension, generator=draw)  # of a unit vector each sees about N(0, 1)
        weights["inner_bias"] = torch.zeros(hidden)
    return {name: weight.requires_grad_() for name, weight in weights.items()}


def _changed(weights: dict[str, torch.Tensor], vectors: torch.Tensor) -> torch.Tensor:
    from torch.nn.functional import linear, relu

    seen = vectors if "inner" not in weights else relu(linear(vectors, weights["inner"], weights["inner_bias"]))
    return vectors + linear(seen, weights["outer"], weights["outer_bias"])


def _rows(vectors: Floats, rows: NDArray[np.int64]) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.array(vectors[rows], np.float32))


def _adapter(weights: dict[str, Any]) -> QueryAdapter:
    return QueryAdapter(**{name: weight.detach().numpy().copy() for name, weight in weights.items()})
