"""How close the nearest training query comes to one of the test set."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.evaluation.alike import Asked, Terms, is_copy, likeness

_CANDIDATES = 16  # neighbours by shared rare words of which the nearest is then found exactly
_COMMON = 1_000  # a word in more queries than this, and in more than a tenth of them, proposes no candidates
_ROWS = 256
_ENOUGH = 30  # queries whose mean says something of the direction that all vectors of a model share


@dataclass(frozen=True, slots=True)
class Nearest:
    """The nearest of the other side for each item of this side."""

    index: NDArray[np.int64]
    """Position on the other side, -1 where nothing is shared: `(n,)`."""
    similarity: NDArray[np.float64]
    """0 to 1: `(n,)`."""
    copy: NDArray[np.bool_]
    """Whether it is a near-copy: `(n,)`."""


def nearest_words(a: Sequence[Asked], b: Sequence[Asked], weights: Mapping[str, float], threshold: float) -> Nearest:
    """For each of `a` the most alike (`likeness`) of `b`, near-copies (`is_copy`) before others; of equals the first.

    Candidates are those that share the most weight in words that are not common, by an inverted index.
    """
    index, similarity, copy = np.full(len(a), -1, np.int64), np.zeros(len(a)), np.zeros(len(a), np.bool_)
    for row, candidates in _candidates([one.terms for one in a], [one.terms for one in b], weights):
        scored = [
            (is_copy(a[row], b[column], weights, threshold), likeness(a[row], b[column], weights), -column)
            for column in candidates
        ]
        same, best, column = max(scored, default=(False, 0.0, 1))
        if best > 0:
            index[row], similarity[row], copy[row] = -column, best, same
    return Nearest(index, similarity, copy)


def _candidates(a: Sequence[Terms], b: Sequence[Terms], weights: Mapping[str, float]) -> Iterable[tuple[int, Any]]:
    from scipy.sparse import csr_matrix

    counts = Counter(term for terms in b for term in terms)
    limit = max(_COMMON, len(b) // 10)
    columns = {term: n for n, term in enumerate(sorted(term for term, count in counts.items() if count <= limit))}
    if not columns:
        return

    def matrix(sets: Sequence[Terms], *, weighed: bool) -> Any:
        rows = [sorted(columns[term] for term in terms if term in columns) for terms in sets]
        names = list(columns)
        flat = [column for row in rows for column in row]
        values = [weights[names[column]] for column in flat] if weighed else np.ones(len(flat))
        ends = np.cumsum([0, *map(len, rows)])
        return csr_matrix((np.asarray(values, np.float64), flat, ends), shape=(len(sets), len(columns)))

    total_a = np.array([math.fsum(weights[term] for term in terms) for terms in a])
    total_b = np.array([math.fsum(weights[term] for term in terms) for terms in b])
    there = matrix(b, weighed=False).T.tocsr()
    here = matrix(a, weighed=True)
    for start in range(0, len(a), _ROWS):
        block = here[start : start + _ROWS] @ there
        for offset in range(block.shape[0]):
            begin, end = block.indptr[offset], block.indptr[offset + 1]
            found, shared = block.indices[begin:end], block.data[begin:end]
            score = shared / (total_a[start + offset] + total_b[found] - shared)
            order = np.lexsort((found, -np.round(score, 9)))[:_CANDIDATES]
            yield start + offset, found[order].tolist()


def nearest_vectors(a: NDArray[np.float32], b: NDArray[np.float32], threshold: float) -> Nearest:
    """For each row of `a` `(n, dim)` the row of `b` `(m, dim)` with the largest inner product; unit vectors.

    It is a near-copy where the cosine reaches the threshold after the mean of all vectors is taken off: models such as
    e5 put any two texts at 0.8 and more, and only what is left tells them apart (Mu and Viswanath,
    "All-but-the-Top", 2018). A few vectors have no mean worth taking off.
    """
    index, similarity = np.full(len(a), -1, np.int64), np.zeros(len(a))
    copy = np.zeros(len(a), np.bool_)
    if len(b) == 0 or len(a) == 0:
        return Nearest(index, similarity, copy)
    mean = (a.sum(axis=0) + b.sum(axis=0)) / (len(a) + len(b))
    if len(a) + len(b) < _ENOUGH:
        mean = np.zeros_like(mean)
    for start in range(0, len(a), _ROWS):
        block = np.asarray(a[start : start + _ROWS])
        scores = block @ b.T
        best = scores.argmax(axis=1)
        index[start : start + _ROWS] = best
        similarity[start : start + _ROWS] = scores.max(axis=1)
        one, other = block - mean, b[best] - mean
        length = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        copy[start : start + _ROWS] = (one * other).sum(axis=1) >= threshold * np.maximum(length, 1e-6)
    return Nearest(index, similarity, copy & (similarity >= threshold))
