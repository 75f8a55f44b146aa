"""Batches of pairs: shuffled, of like length, every passage once, the plan fixed by the seed alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldtune.config import Training
from fieldtune.training.pairs import Pairs

# Batches that are sorted by length together: enough to take most of the padding away, few enough to keep batches mixed.
_BUCKET = 16
_BUCKETS = 4  # at least so many, that a pair meets others in each epoch where there are few batches too


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
    """(b, p): known positives of the query other than its label, and near-duplicates; they are left out of its loss."""
    own: NDArray[np.int64]
    """(b, 1 + drawn) columns of the query's own passages, its label first; -1 where fewer were there to draw."""
    scores: NDArray[np.float32]
    """(b, 1 + drawn) the scores of these in the training rows, NaN where there is none."""

    def __len__(self) -> int:
        return len(self.queries)


def plan(pairs: Pairs, lengths: NDArray[np.int64], size: int, epochs: float, seed: int) -> list[NDArray[np.int64]]:
    """The pairs of every step of the training, decided at once.

    `lengths` holds the tokens of each pair's positive. Each epoch is a fresh shuffle of all pairs, those of like length
    side by side. A fraction of an epoch takes its first steps.
    """
    steps: list[NDArray[np.int64]] = []
    for epoch in range(math.ceil(epochs)):
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(len(pairs)).astype(np.int64)
        sizes = _sizes(len(order), size, rng)
        batches: list[NDArray[np.int64]] = []
        together = max(1, min(_BUCKET, len(sizes) // _BUCKETS))
        for begin in range(0, len(sizes), together):
            ends = np.cumsum(sizes[begin : begin + together])
            bucket, order = order[: ends[-1]], order[ends[-1] :]
            batches += np.split(bucket[np.argsort(lengths[bucket], kind="stable")], ends[:-1])
        rng.shuffle(batches)
        share = min(1.0, epochs - epoch)
        steps += batches[: max(1, round(len(batches) * share))]
    return steps


def _sizes(count: int, size: int, rng: np.random.Generator) -> list[int]:
    """Of the batches of one epoch, `count` pairs in all.

    Pairs that are left over make a batch of their own. Where they are fewer than half of one, too few to be each
    other's negatives, the other batches take them in; and where these would grow by more than a quarter, which memory
    may not allow, all are made equal with one batch more.
    """
    whole, rest = divmod(count, size)
    if rest and (not whole or rest >= size // 2):
        sizes = [size] * whole
        sizes.insert(int(rng.integers(whole + 1)), rest)  # anywhere, not always of the longest
        return sizes
    number = whole if 4 * rest <= whole * size else whole + 1
    return [(count + place) // number for place in reversed(range(number))]


def draw(
    pairs: Pairs, rows: NDArray[np.int64], count: int, seed: int, step: int, *, scored: int = 0
) -> NDArray[np.int64]:
    """Passages of each pair's own, (b, 1 + k): its positive, then drawn ones, -1 where there are fewer.

    Drawn are `count` hard negatives, or, where `scored` is not 0 and positive and others have scores, so many of those
    others, whatever they are.
    """
    rng = np.random.default_rng((seed, step, 1))
    own = np.full((len(rows), 1 + max(count, scored)), -1, np.int64)
    own[:, 0] = pairs.positive[rows]
    for place, (query, positive) in enumerate(zip(pairs.query[rows], pairs.positive[rows], strict=True)):
        candidates, most = pairs.negatives[query], count
        if scored and pairs.taught(int(query), int(positive)):
            candidates = np.array([row for row in pairs.scores[query] if row != positive], np.int64)
            most = scored
        if most and len(candidates):
            drawn = rng.choice(candidates, min(most, len(candidates)), replace=False)
            own[place, 1 : 1 + len(drawn)] = drawn
    return own


def lay_out(pairs: Pairs, rows: NDArray[np.int64], own: NDArray[np.int64]) -> Batch:
    """Put the distinct passages of `own` (b, k) side by side and say what each query knows of them."""
    queries = pairs.query[rows]
    passages, places = np.unique(own, return_inverse=True)
    places = places.reshape(own.shape).astype(np.int64)
    if passages[0] < 0:
        passages, places = passages[1:], places - 1
    labels = places[:, 0].copy()
    masked = np.zeros((len(rows), len(passages)), np.bool_)
    scores = np.full(own.shape, np.nan, np.float32)
    for i, query in enumerate(queries):
        masked[i] = pairs.never_wrong(int(query), passages)
        masked[i, labels[i]] = False
        if given := pairs.scores[query]:
            scores[i] = [given.get(int(row), np.nan) for row in own[i]]
    return Batch(queries, passages, labels, masked, places, scores)


def make_batch(pairs: Pairs, rows: NDArray[np.int64], count: int, seed: int, step: int, *, scored: int = 0) -> Batch:
    """`draw` and `lay_out` at once."""
    return lay_out(pairs, rows, draw(pairs, rows, count, seed, step, scored=scored))


def batches_of_step(
    pairs: Pairs, rows: NDArray[np.int64], settings: Training, seed: int, step: int, *, scored: int = 0
) -> list[Batch]:
    """What one step adds up: batches of the size that was set, as equal as can be, over `rows` of the pairs."""
    own = draw(pairs, rows, settings.hard_negatives, seed, step, scored=scored)
    number = min(settings.accumulate, math.ceil(len(rows) / settings.batch_size))
    parts = zip(np.array_split(rows, number), np.array_split(own, number), strict=True)
    return [lay_out(pairs, some, theirs) for some, theirs in parts]
