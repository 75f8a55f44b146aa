"""What search does when it is not told: vectors, words or both, whichever found most for the dev queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.index.dense import Dense
from fieldtune.lexical import BM25
from fieldtune.measures import MAIN, Judgements, measure

HALF = 0.5
"""The share of vectors in a hybrid that no dev query could choose."""


@dataclass(frozen=True, slots=True)
class Dev:
    """Labelled queries that may choose settings: of the dev split, never of test."""

    texts: tuple[str, ...]
    vectors: NDArray[np.float32]
    """(n, the model's dimension), unit length."""
    judged: Judgements
    """Their qrels by row of the passages."""


@dataclass(frozen=True, slots=True)
class Choice:
    mode: str
    weight: float
    """Of the vectors' scores in a hybrid; the rest is BM25's."""
    record: dict[str, Any]
    """For meta.json: queries, measure and its mean of each mode."""
    note: str


def choose(dense: Dense, words: BM25, dev: Dev | None, vectors: NDArray[np.float32] | None, depth: int) -> Choice:
    """Choose the weight of the hybrid, and the mode, by nDCG@10 on dev; of equals dense, then words.

    `vectors` are dev's, cut as the index is. Without dev, dense search, and both halves of a hybrid alike.
    """
    if dev is None or vectors is None or not dev.texts:
        return Choice(
            "dense", HALF, {}, "without dev queries search is dense, and a hybrid weighs vectors and words alike"
        )
    from fieldtune.evaluation.fusion import best_weight
    from fieldtune.evaluation.rankings import Ranking

    def ranking(found: tuple[NDArray[np.float32], NDArray[np.int64]]) -> Ranking:
        return Ranking(queries, ids, found[1], found[0], "derived")

    queries, ids = dev.texts, tuple(map(str, range(len(dense))))
    depth = min(depth, len(dense))
    near, lexical = ranking(dense.best(vectors, depth)), ranking(words.top_k(dev.texts, depth))
    means = {name: _mean(one.rows, dev.judged) for name, one in (("dense", near), ("words", lexical))}
    weight, mean = best_weight(near, lexical, dev.judged, MAIN)
    means["hybrid"] = round(mean, 4)
    mode = max(means, key=lambda name: (means[name], name == "dense", name == "words"))
    said = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
    note = (
        f"search is {mode} unless told otherwise: nDCG@10 on {len(queries):,} dev queries is {said} (hybrid: "
        f"{weight:.2f} of the vectors' score and {1 - weight:.2f} of BM25's)"
    )
    return Choice(mode, weight, {"queries": len(queries), "measure": MAIN, **means}, note)


def _mean(rows: NDArray[np.int64], judged: Judgements) -> float:
    return round(float(np.nanmean(measure([MAIN], rows, judged)[MAIN])), 4)
