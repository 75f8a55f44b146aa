"""Topics of a corpus: spherical k-means on unit vectors (Dhillon and Modha 2001), seeded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

_SAMPLE = 20_000
"""Vectors that the centres are learnt from; all are assigned."""
_ROUNDS = 15
_BLOCK = 8_192


def topic_count(passages: int) -> int:
    """A topic for some ten passages in a small corpus, some hundred in a large one; at most 256."""
    return int(np.clip(round(np.sqrt(passages / 2)), 1, 256))


def cluster(vectors: Vectors, count: int, seed: int) -> tuple[NDArray[np.int64], Vectors]:
    """The topic of each vector, (n,), and the topics' unit centres, (count, dimension)."""
    random = np.random.default_rng(seed)
    rows = np.sort(random.choice(len(vectors), min(_SAMPLE, len(vectors)), replace=False))
    sample = np.asarray(vectors[rows], np.float32)
    centres = _spread(sample, min(count, len(sample)), random)
    before = None
    for _ in range(_ROUNDS):
        labels = _nearest(sample, centres)
        if before is not None and np.array_equal(labels, before):
            break
        before = labels
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, sample)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        # A topic that lost all its members keeps its centre and may win some back.
        centres = np.where(length > 0, sums / np.maximum(length, 1e-12), centres).astype(np.float32)
    return _nearest(vectors, centres), centres


def _spread(sample: Vectors, count: int, random: np.random.Generator) -> Vectors:
    """First centres far from each other (k-means++, Arthur and Vassilvitskii 2007)."""
    chosen = [int(random.integers(len(sample)))]
    distance = np.maximum(0, 1 - sample @ sample[chosen[0]])
    for _ in range(count - 1):
        weight = distance.astype(np.float64)
        total = weight.sum()
        row = int(random.choice(len(sample), p=weight / total)) if total > 0 else int(random.integers(len(sample)))
        chosen.append(row)
        distance = np.minimum(distance, np.maximum(0, 1 - sample @ sample[row]))
    return sample[chosen].copy()


def _nearest(vectors: Vectors, centres: Vectors) -> NDArray[np.int64]:
    parts = [
        np.argmax(np.asarray(vectors[begin : begin + _BLOCK]) @ centres.T, axis=1)
        for begin in range(0, len(vectors), _BLOCK)
    ]
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)
