"""A teacher that needs no second model: what BM25 and the base model make of a passage, put together.

Where words find what the base model misses (numbers, statutes, drug names), a model that follows the ranking of both
learns it from every training query, without a label more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fieldtune.console import Progress
from fieldtune.dataset.candidates import Candidates
from fieldtune.dataset.known import Known

NAME = "fused"
"""The value of teacher.model that asks for it."""


def fused_scores(
    known: Known,
    wanted: Sequence[Sequence[int]],
    candidates: Candidates,
    query_vectors: NDArray[np.float32],
    passage_vectors: NDArray[np.float32],
    *,
    word_share: float,
    block: int = 1_024,
) -> list[list[float]]:
    """The score of each wanted corpus row of each query, in the same order.

    Either part is scaled by the query's own `candidates`, the best fused ones: BM25 by its highest score there, the
    cosine by the range from their lowest to their highest; so 0 to 1 is the range of the candidates, and a passage
    beyond them can lie a little outside. The sum is (1 - word_share) of the cosine and word_share of BM25. A labelled
    positive counts no less than the best other row of its query: a label knows more than a ranking.
    """
    from fieldtune.lexical import BM25

    words = BM25(known.texts)
    out: list[list[float]] = []
    with Progress("scoring with BM25 and the base model", len(wanted), unit="queries") as progress:
        for begin in range(0, len(wanted), block):
            end = min(begin + block, len(wanted))
            for query, ranked in enumerate(candidates(begin, end).rows, begin):
                rows = np.asarray(wanted[query], np.int64)
                near = ranked[ranked >= 0]
                together = np.concatenate([rows, near])
                vector = np.asarray(query_vectors[query], np.float32)
                cosines = np.asarray(passage_vectors[together], np.float32) @ vector
                counted = words.scores(known.queries[query])
                low, high = _range(cosines[len(rows) :] if len(near) else cosines)
                dense = (cosines[: len(rows)] - low) / (high - low or 1.0)
                most = float(counted[near].max(initial=0.0)) or 1.0
                scores = (1 - word_share) * dense + word_share * counted[rows] / most
                out.append([round(float(score), 5) for score in scores])
            progress.advance(end - begin)
    return out


def labels_first(positives: Sequence[float], negatives: Sequence[float]) -> tuple[float, ...]:
    """The scores of labelled passages, none below the best of the others."""
    least = max(negatives, default=-np.inf)
    return tuple(float(max(score, least)) for score in positives)


def _range(values: NDArray[np.float32]) -> tuple[float, float]:
    return float(values.min()), float(values.max())
