"""Batches of pairs: shuffled, of like length, every passage once, the plan fixed by the seed alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldtune.training.pairs import Pairs

# Batches that are sorted by length together: enough to take most of the padding away, few enough to keep batches mixed.
_BUCKET = 16


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step sees."""

    queries: NDArray[np.int64]
    """(b,) rows of query texts."""
    passages: NDArray[np.int64]
    """(p,) distinct rows of passage texts: the positives and hard negatives of all b queries."""
    labels: NDArray[np.int64]
    """(b,) the column in `passages` that is the query's positive in this step."""
    masked: NDArray[np.bool_]
    """(b, p): known positives of the query other than its label; they are left out of its loss."""


def plan(pairs: Pairs, lengths: NDArray[np.int64], size: int, epochs: float, seed: int) -> list[NDArray[np.int64]]:
    """The pairs of every step of the training, decided at once.

    `lengths` holds the tokens of each pair's positive. Each epoch is a fresh shuffle in which pairs of like
    length meet; a last batch too small to give negatives is dropped. A fraction of an epoch takes its first steps.
    """
    steps: list[NDArray[np.int64]] = []
    for epoch in range(math.ceil(epochs)):
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(len(pairs)).astype(np.int64)
        batches = []
        for begin in range(0, len(order), size * _BUCKET):
            bucket = order[begin : begin + size * _BUCKET]
            bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
            batches += [bucket[i : i + size] for i in range(0, len(bucket), size)]
        batches = [batch for batch in batches if len(batch) >= min(size // 2, len(pairs))]
        rng.shuffle(batches)
        share = min(1.0, epochs - epoch)
        steps += batches[: max(1, round(len(batches) * share))]
    return steps


def make_batch(pairs: Pairs, rows: NDArray[np.int64], hard: int, seed: int, step: int) -> Batch:
    """Draw `hard` of each query's hard negatives and lay the distinct passages side by side."""
    rng = np.random.default_rng((seed, step, 1))
    queries, positives = pairs.query[rows], pairs.positive[rows]
    drawn = [positives]
    for query in queries:
        candidates = pairs.negatives[query]
        if hard and len(candidates):
            drawn.append(rng.choice(candidates, min(hard, len(candidates)), replace=False))
    passages, places = np.unique(np.concatenate(drawn), return_inverse=True)
    labels = places[: len(rows)].astype(np.int64)
    masked = np.zeros((len(rows), len(passages)), np.bool_)
    for i, query in enumerate(queries):
        known = np.fromiter(pairs.known[query], np.int64)
        masked[i, np.isin(passages, known)] = True
        masked[i, labels[i]] = False
    return Batch(queries, passages, labels, masked)
