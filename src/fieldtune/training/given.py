"""A query adapter for vectors that were given as files: of a closed model that only its maker can train."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fieldtune.beir import RetrievalData
from fieldtune.config import Config
from fieldtune.dataset.candidates import candidates_from
from fieldtune.dataset.known import known_rows
from fieldtune.dataset.mining import mine, nothing_mined
from fieldtune.dataset.teacher import NONE
from fieldtune.encoding import GivenVectors, QueryAdapter
from fieldtune.errors import ConfigError, ModelError
from fieldtune.measures import canonical
from fieldtune.training.checkpoint import Progressed
from fieldtune.training.decide import said_of_unmet, said_of_weights, sizes_trained
from fieldtune.training.development import Development, dev_queries, without_dev
from fieldtune.training.losses.choice import choose, shape_of
from fieldtune.training.methods import require_method
from fieldtune.training.near import with_near
from fieldtune.training.pairs import Pairs, make_pairs
from fieldtune.training.query_side import fit_query_adapter
from fieldtune.training.recipe import Recipe
from fieldtune.training.reports import Report
from fieldtune.training.safety import collapsed, require_change, require_learning
from fieldtune.training.scale import fitting_scale
from fieldtune.types import Example

_LOSSES = ("mnrl", "symmetric", "gte")  # those that need neither a teacher nor another model


def fit_on_given(
    config: Config, data: RetrievalData, queries: GivenVectors, passages: GivenVectors, report: Report | None = None
) -> tuple[QueryAdapter, Progressed, list[str]]:
    """Mine negatives with the vectors, train on the train split, choose on dev; says what was done in sentences.

    `report` is told every row of the log. Every query with a label in train or dev and every passage must have a
    vector; InputError names one that has none. Raises ConfigError for a loss that needs more than labels, or labels of
    which it learns nothing, and for settings that this does not honour; ModelError when training breaks down or changes
    nothing.
    """
    settings = config.training
    _require(config, queries.dimension)
    loss = "mnrl" if settings.loss in ("auto", "cached") else settings.loss
    if loss not in _LOSSES:
        raise ConfigError(
            f"training.loss={loss} does not go with vectors from files", f"set one of: {', '.join(_LOSSES)}"
        )
    corpus = passages.of(list(data.passages))
    pairs = _mined(config, data, queries, corpus)
    choose(loss, shape_of(pairs, NONE, settings=settings))
    asked = queries.of(pairs.queries)
    place = {key: row for row, key in enumerate(data.passages)}
    shown = corpus[[place[key] for key in pairs.passages]]
    scale = fitting_scale(asked, corpus, config.seed)[0] if settings.scale == "auto" else settings.scale
    development = _development(config, data, place)
    score: Callable[[QueryAdapter], float] | None = None
    if development is not None:
        before = queries.of(development.queries)

        def score(adapter: QueryAdapter) -> float:
            return float(development.of_vectors(adapter.apply(before), corpus).mean())

    dimensions, weights = sizes_trained(settings, queries.dimension)
    recipe = Recipe(settings, scale, dimensions, config.seed, loss=loss, weights=weights)
    name = development.label if development else ""
    adapter, state = fit_query_adapter(asked, shown, pairs, recipe, score, name, report)
    said = [f"pairs: {len(pairs):,}", f"steps: {state.step:,}", f"loss scale: {scale:g}"]
    said += [*said_of_weights(settings, queries.dimension), *said_of_unmet(settings, dimensions, pairs)]
    if development is None:
        said += without_dev(data)
    else:
        said.append(f"dev {name}: {state.base_score:.4f} before, {state.best_score:.4f} after")
        if state.best_score <= state.base_score:
            said.append("No gain on dev: search without the adapter. A lower training.learning_rate may help.")
    said += _checked(adapter, state, recipe, asked)
    return adapter, state, said


def _checked(adapter: QueryAdapter, state: Progressed, recipe: Recipe, asked: NDArray[np.float32]) -> list[str]:
    """What went wrong without stopping the training, by the unit vectors of its queries.

    Raises ModelError for an adapter that gives no numbers, that learned nothing, or that changes nothing.
    """
    with np.errstate(all="ignore"):
        after = adapter.apply(asked)
    if not np.allclose(np.linalg.norm(after, axis=1), 1, atol=1e-3):  # what overflowed has no length
        raise ModelError("the adapter gives vectors that are no numbers", "lower training.learning_rate")
    require_learning(state, recipe.settings, recipe.loss)
    require_change(asked, after)
    if collapsed(after) and not collapsed(asked):
        return [
            "The adapter has collapsed: all queries get the same vector. Search without it; lower "
            "training.learning_rate, or raise training.batch_size."
        ]
    if state.collapsed_at:
        return [
            f"At step {state.collapsed_at:,} all queries got the same vector; the kept weights are of step "
            f"{state.best_step:,}. Lower training.learning_rate."
        ]
    return []


def _require(config: Config, full: int) -> None:
    settings = config.training
    own = settings.model_copy(update={"method": "query"})
    require_method(config.model_copy(update={"training": own}), "cpu")
    if settings.replay:
        raise ConfigError(
            "training.replay does not go with vectors from files: there are none of its texts",
            "leave it out, or add the rows' texts and labels to the data and their vectors to the files",
        )
    if config.teacher.model:
        raise ConfigError(
            f"teacher.model={config.teacher.model} does not go with vectors from files: no loss that trains on them "
            "learns from scores",
            "leave it out; training.method=query with a model of your own can learn from a teacher",
        )
    if config.negatives.check:
        raise ConfigError(
            f"negatives.check={config.negatives.check} does not go with vectors from files: candidates are judged by "
            "their vectors alone",
            "leave it out; lower negatives.max_share_of_positive, or raise negatives.skip_first, to skip more of the "
            "likely answers",
        )
    if settings.m3.train != "none":
        raise ConfigError("training.m3 needs a model's tokens, not vectors from files", "set training.m3.train=none")
    sizes = () if settings.matryoshka == "auto" else settings.matryoshka
    for name, asked in (("matryoshka", max(sizes, default=0)), ("dev_dimension", settings.dev_dimension)):
        if asked > full:
            raise ConfigError(
                f"training.{name} asks for {asked} dimensions, the vectors have {full}", f"use sizes up to {full}"
            )


def _mined(config: Config, data: RetrievalData, queries: GivenVectors, corpus: NDArray[np.float32]) -> Pairs:
    """The train split with hard negatives; texts are replaced by their ids."""
    known = known_rows(data, {})
    mined = nothing_mined(known)
    if config.negatives.per_query:
        asked = queries.of(list(known.query_ids))
        source, depth = config.negatives.candidates, config.negatives.depth
        ranked = candidates_from(source, known.queries, known.texts, asked, corpus, depth)
        mined = mine(known, ranked, asked, corpus, config.negatives)

    def ids(rows: list[int]) -> tuple[str, ...]:
        return tuple(known.passage_ids[row] for row in rows)

    pairs = make_pairs([
        Example(query, ids(list(known.positives[n])), ids(mined.negatives[n]), known=ids(mined.alike[n]))
        for n, query in enumerate(known.query_ids)
    ])  # fmt: skip
    texts = [data.passages[passage].content for passage in pairs.passages]
    return with_near(pairs, texts, config.negatives.near_duplicate, config.seed)[0]


def _development(config: Config, data: RetrievalData, place: dict[str, int]) -> Development | None:
    """The dev split over the whole corpus, with ids for texts."""
    settings = config.training
    chosen = dev_queries(data, settings.dev_queries, config.seed)
    if not chosen:
        return None
    return Development(
        queries=chosen,
        passages=list(place),
        qrels=[{place[key]: grade for key, grade in data.qrels["dev"][query].items()} for query in chosen],
        relevance_threshold=data.relevance_threshold,
        whole=True,
        measure=canonical(settings.dev_measure),
        dimension=settings.dev_dimension,
    )
