"""Dev as all three scores together see it, and the loss there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding import Encoder
from fieldtune.encoding.m3 import M3Vectors, encode_m3, find, three_scores
from fieldtune.measures import measure as measures_of
from fieldtune.measures import parse
from fieldtune.training.batches import lay_out
from fieldtune.training.development import Development
from fieldtune.training.losses.targets import to_targets
from fieldtune.training.m3.gradient import direct_signals
from fieldtune.training.m3.objective import M3Objective
from fieldtune.training.pairs import Pairs

if TYPE_CHECKING:
    from torch.nn import ModuleDict

_DEPTH = 50  # of dense and of sparse search, whose candidates all three scores then rank


def dev_scores(
    encoder: Encoder, heads: ModuleDict, development: Development, objective: M3Objective
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """The measure of each dev query by the weighted sum of its scores, and the passages' dense vectors."""
    queries = encode_m3(encoder, heads, development.queries, "query")
    passages = encode_m3(encoder, heads, development.passages, "passage")
    depth = max(_DEPTH, parse(development.measure)[1] or max(1, *map(len, development.qrels)))
    ranked = ranked_by_sum(queries, passages, objective.settings.weights, depth)
    found = measures_of([development.measure], ranked, development.qrels, development.relevance_threshold)
    return found[development.measure], passages.dense


def ranked_by_sum(
    queries: M3Vectors, passages: M3Vectors, weights: tuple[float, float, float], depth: int
) -> NDArray[np.int64]:
    """(n, c) the candidates of dense and sparse search, best sum of scores first, -1 behind the last."""
    rows = find(queries, passages, depth)
    sums = np.tensordot(np.array(weights), three_scores(queries, passages, rows).astype(np.float64), 1)
    order = np.argsort(-np.where(rows >= 0, np.round(sums, 6), -np.inf), axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1)


def dev_loss(
    encoder: Encoder, heads: ModuleDict, development: Development, objective: M3Objective, size: int, step: int
) -> float:
    """The contrastive loss of dev queries in batches of `size`, each with its first relevant passage; no gradient.

    Other relevant passages are not counted as wrong. Dev queries have no hard negatives: the others' passages are the
    wrong ones here, whatever `in_batch` says of training. NaN where no query has a relevant passage in the sample.
    """
    import torch

    pairs = _dev_pairs(development)
    if not len(pairs) or encoder.tokens is None:
        return float("nan")
    settings = objective.settings.model_copy(update={"in_batch": True})
    objective = replace(objective, settings=settings, taught=False)
    stores = (
        encoder.tokens.store(pairs.queries, encoder.prompts["query"]),
        encoder.tokens.store([pairs.passages[row] for row in pairs.positive], encoder.prompts["passage"]),
    )
    place = {int(row): n for n, row in enumerate(pairs.positive)}
    total = 0.0
    with torch.inference_mode():
        for begin in range(0, len(pairs), size):
            rows = np.arange(begin, min(begin + size, len(pairs)))
            batch = lay_out(pairs, rows, pairs.positive[rows][:, None])
            left, right = batch.queries, np.array([place[int(row)] for row in batch.passages], np.int64)
            found = [direct_signals(encoder, heads, *side) for side in zip(stores, (left, right), strict=True)]
            targets = to_targets(batch, encoder.model.device)
            total += len(rows) * objective.loss(found[0], found[1], targets, step).item()
    return total / len(pairs)


def _dev_pairs(development: Development) -> Pairs:
    relevant = [
        sorted(row for row, grade in grades.items() if grade >= development.relevance_threshold)
        for grades in development.qrels
    ]
    asked = [query for query, rows in enumerate(relevant) if rows]
    count = len(asked)
    return Pairs(
        [development.queries[query] for query in asked],
        development.passages,
        np.arange(count),
        np.array([relevant[query][0] for query in asked], np.int64),
        [np.zeros(0, np.int64)] * count,
        [frozenset(relevant[query]) for query in asked],
        [{} for _ in range(count)],
    )
