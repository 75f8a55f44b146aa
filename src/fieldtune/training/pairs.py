"""Training rows as numbered texts, so that equal texts are equal numbers when batches are made."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fieldtune.types import Example


@dataclass(frozen=True, slots=True)
class Pairs:
    """Every (query, positive) pair, with texts replaced by row numbers so that equal texts are equal numbers."""

    queries: list[str]
    passages: list[str]
    query: NDArray[np.int64]
    """(pairs,) row in `queries`."""
    positive: NDArray[np.int64]
    """(pairs,) row in `passages`."""
    negatives: list[NDArray[np.int64]]
    """Per query: rows of its hard negatives, best first."""
    known: list[frozenset[int]]
    """Per query: rows that must never count as wrong for it."""
    scores: list[dict[int, float]]
    """Per query: passage row -> its score, a teacher's or given; empty where the rows have none."""
    alike: list[tuple[NDArray[np.int64], ...]] = field(default_factory=list)
    """Per query: for each of its positives the rows of near-duplicates, arrays that queries share; empty where nobody
    has looked. Unlike those in `known` they may be a hard negative of the query, where a person has judged so."""

    def __len__(self) -> int:
        return len(self.query)

    def digest(self) -> str:
        """A fingerprint of all of it: rows that were left out, for whatever reason, change it."""
        found = hashlib.sha256()
        for texts in (self.queries, self.passages):
            for text in texts:
                found.update(text.encode("utf-8", "surrogatepass") + b"\0")
            found.update(b"\1")
        found.update(self.query.tobytes() + self.positive.tobytes())
        for rows, known, scores in zip(self.negatives, self.known, self.scores, strict=True):
            found.update(repr((rows.tolist(), sorted(known), sorted(scores.items()))).encode())
        return found.hexdigest()[:16]

    def taught(self, query: int, positive: int) -> bool:
        """Whether the positive and another passage of the query have scores."""
        return positive in self.scores[query] and len(self.scores[query]) > 1

    def never_wrong(self, query: int, passages: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the passages must not count as wrong for the query: known ones, and near-duplicates of them."""
        out = np.isin(passages, np.fromiter(self.known[query], np.int64))
        parts = self.alike[query] if self.alike else ()
        if parts:
            near = np.logical_or.reduce([np.isin(passages, part) for part in parts])
            out |= near & ~np.isin(passages, self.negatives[query])
        return out


def make_pairs(examples: Sequence[Example]) -> Pairs:
    """Number the texts; rows with the same query text share what is known of it.

    Scores count only in rows that have one for each passage.
    """
    queries: dict[str, int] = {}
    passages: dict[str, int] = {}
    pairs: dict[tuple[int, int], None] = {}
    known: dict[int, set[int]] = {}
    negatives: dict[int, dict[int, None]] = {}
    scores: dict[int, dict[int, float]] = {}
    for example in examples:
        query = queries.setdefault(example.query, len(queries))
        positives = [passages.setdefault(text, len(passages)) for text in example.pos]
        for positive in positives:
            pairs[query, positive] = None
        known.setdefault(query, set()).update(positives)
        known[query].update(passages.setdefault(text, len(passages)) for text in example.known)
        for text in example.neg:
            negatives.setdefault(query, {})[passages.setdefault(text, len(passages))] = None
        if len(example.pos_scores) == len(example.pos) and len(example.neg_scores) == len(example.neg):
            scored = zip((*example.pos, *example.neg), (*example.pos_scores, *example.neg_scores), strict=True)
            scores.setdefault(query, {}).update((passages[text], score) for text, score in scored)
    rows = np.array(list(pairs), np.int64).reshape(-1, 2)
    return Pairs(
        queries=list(queries),
        passages=list(passages),
        query=rows[:, 0],
        positive=rows[:, 1],
        negatives=[
            np.array([row for row in negatives.get(query, ()) if row not in known[query]], np.int64)
            for query in range(len(queries))
        ],
        known=[frozenset(known[query]) for query in range(len(queries))],
        scores=[scores.get(query, {}) for query in range(len(queries))],
    )
