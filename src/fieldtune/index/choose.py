"""What search does when it is not told: vectors, words or both, whichever found most for the dev queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.index.choose_three import as_trained, choose_three
from fieldtune.index.dense import Dense
from fieldtune.index.dev import Dev
from fieldtune.index.signals import Given
from fieldtune.index.three import Three
from fieldtune.lexical import BM25
from fieldtune.measures import MAIN, Judgements, measure

HALF = 0.5
"""The share of vectors in a hybrid that no dev query could choose."""


@dataclass(frozen=True, slots=True)
class Choice:
    mode: str
    weight: float
    """Of the vectors' scores in a hybrid; the rest is BM25's."""
    record: dict[str, Any]
    """For meta.json: queries, measure and its mean of each mode."""
    note: str
    three: Mapping[str, Any] = field(default_factory=dict)
    """For meta.json: weights of sums of three scores, and where they come from; empty without them."""


def choose(
    dense: Dense,
    words: BM25,
    dev: Dev | None,
    vectors: NDArray[np.float32] | None,
    depth: int,
    three: Three | None = None,
    given: Given | None = None,
) -> Choice:
    """Choose the weights of sums, and the mode, by nDCG@10 on dev; of equals the one that takes least to compute.

    `vectors` are dev's, cut as the index is. Without dev, dense search, both halves of a hybrid alike, and the weights
    of the three scores that the model was trained with.
    """
    if dev is None or vectors is None or not dev.texts:
        said = "without dev queries search is dense, and a hybrid weighs vectors and words alike"
        return Choice("dense", HALF, {}, said, {} if given is None else as_trained(given))
    from fieldtune.evaluation.fusion import best_weight
    from fieldtune.evaluation.rankings import Ranking

    def ranking(found: tuple[NDArray[np.float32], NDArray[np.int64]]) -> Ranking:
        return Ranking(queries, ids, found[1], found[0], "derived")

    queries, ids = dev.texts, tuple(map(str, range(len(dense))))
    within = min(depth, len(dense))
    near, lexical = ranking(dense.best(vectors, within)), ranking(words.top_k(dev.texts, within))
    means = {name: _mean(one.rows, dev.judged) for name, one in (("dense", near), ("words", lexical))}
    weight, mean = best_weight(near, lexical, dev.judged, MAIN)
    means["hybrid"] = round(mean, 4)
    plain, chosen = _best(means), dict[str, Any]()
    note = f" (hybrid: {weight:.2f} of the vectors' score and {1 - weight:.2f} of BM25's)"
    if three is not None and given is not None:
        more, chosen, said = choose_three(three, given, dev, vectors, lexical, ids)
        means |= more
        note += said
    mode = _best(means)
    said = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
    note = f"search is {mode} unless told otherwise: nDCG@10 on {len(queries):,} dev queries is {said}{note}"
    record = {"queries": len(queries), "measure": MAIN, **means}
    return Choice(mode, weight, record, note, chosen and {**chosen, "plain": plain})


def _best(means: Mapping[str, float]) -> str:
    """The mode that found most, of equals the first: they stand in the order of what they take."""
    return max(means, key=lambda name: means[name])


def _mean(rows: NDArray[np.int64], judged: Judgements) -> float:
    return round(float(np.nanmean(measure([MAIN], rows, judged)[MAIN])), 4)
