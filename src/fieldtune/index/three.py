"""Search by the three scores of one encoder: dense and sparse find candidates, token vectors and sums order them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.m3 import M3Vectors, by_sum
from fieldtune.index.columns import Mask
from fieldtune.index.dense import Dense
from fieldtune.index.signals import Signals
from fieldtune.lexical import best_of

MODES = ("sparse", "dense-sparse", "multi", "m3", "m3-words")
"""Learned word weights alone; with dense; candidates of both by token vectors; by all three; and with BM25 too."""
MEMBERS = {"sparse": (1,), "dense-sparse": (0, 1), "multi": (2,), "m3": (0, 1, 2), "m3-words": (0, 1, 2)}
"""Which of dense, sparse and multi-vector the sum of a mode has."""
Rows = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """What dense or sparse search found for one query, with its scores."""

    rows: Rows
    """(c,) ascending."""
    scores: Floats
    """(3, c) dense, sparse and multi-vector; the last is 0 where it was not wanted."""
    near_ranks: Mapping[int, int]
    sparse_ranks: Mapping[int, int]
    sparse: Floats
    """(passages,)"""

    def ranked(self, weights: Sequence[float], k: int) -> tuple[Rows, Floats]:
        """Rows and sums of the k best by the weighted sum."""
        rows, sums = by_sum(self.rows[None], self.scores[:, None], weights, k)
        there = rows[0] >= 0
        return rows[0][there], sums[0][there]

    def parts(self, row: int, scores: Sequence[float], mode: str) -> dict[str, float]:
        """Why a passage was found, of what the mode looks at."""
        known: dict[str, float | int | None] = {"sparse": scores[1], "sparse_rank": self.sparse_ranks.get(row)}
        if mode != "sparse":
            known = {"dense": scores[0], "dense_rank": self.near_ranks.get(row)} | known
        if 2 in MEMBERS[mode]:
            known["multi"] = scores[2]
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Three:
    """The files of all three kinds of an index."""

    dense: Dense
    signals: Signals

    def candidates(
        self, queries: M3Vectors, query: int, vector: NDArray[np.float32], near: Rows, depth: int, mask: Mask | None,
        *, mode: str,
    ) -> Candidates:  # fmt: skip
        """What is among the first `depth` of dense search (`near`, best first) or of sparse; `vector` as the index is
        cut. With mode sparse, what shares a word alone."""
        sparse = self.signals.sparse(queries, query)
        if mask is not None:
            sparse = np.where(mask, sparse, 0.0)
        by_words = best_of(sparse, depth)
        near = near[near >= 0][:depth]
        rows = by_words if mode == "sparse" else np.concatenate([near, by_words])
        rows = np.unique(rows).astype(np.int64)
        return Candidates(
            rows,
            self.scores(queries, query, vector, rows, sparse, multi=2 in MEMBERS[mode]),
            {row: rank for rank, row in enumerate(near.tolist(), 1)},
            {row: rank for rank, row in enumerate(by_words.tolist(), 1)},
            sparse,
        )

    def scores(
        self, queries: M3Vectors, query: int, vector: NDArray[np.float32], rows: Rows, sparse: Floats, *, multi: bool
    ) -> Floats:
        """(3, len(rows))"""
        many = self.signals.multi(queries, query, rows) if multi else np.zeros(len(rows))
        return np.stack([self.dense.scores(vector, rows), sparse[rows], many])


def weights_of(meta: Mapping[str, Any], mode: str) -> list[float]:
    """Of dense, sparse and multi-vector in the sum of a mode."""
    members = MEMBERS[mode]
    if len(members) == 1:
        return [float(place in members) for place in range(3)]
    chosen: list[float] = meta["m3"]["weights"]["m3" if mode == "m3-words" else mode]
    return chosen
