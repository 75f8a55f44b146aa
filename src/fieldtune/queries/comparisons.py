"""Pairs of passages that a question can be asked across: neighbours in topic, yet different passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fieldtune.corpus.shingling import jaccard, shingles
from fieldtune.queries.clusters import Vectors
from fieldtune.queries.sampling import document_of
from fieldtune.types import Passage

_LOOKED_AT = 12
_NEAREST = 0.4
"""How far a pair must lie above the corpus's mean similarity on the way to 1: less is no common topic."""
_SAME = 0.4
"""Shared shingles from which two passages say the same, and cannot be compared."""


def find_pairs(
    passages: Mapping[str, Passage], vectors: Vectors, chosen: Sequence[str], eligible: Sequence[str], count: int
) -> list[tuple[str, str]]:
    """Up to `count` pairs, each of a chosen passage (in their order) and its nearest fitting neighbour.

    `vectors` are the unit vectors of all passages in their order. A neighbour from another document goes before one
    from the same; pieces of one section and near-duplicates make no pair, and no passage stands in more than two.
    """
    row = {key: place for place, key in enumerate(passages)}
    others = list(eligible)
    matrix = np.asarray(vectors)[[row[key] for key in others]]
    used: dict[str, int] = {}
    found: list[tuple[str, str]] = []
    for key in chosen:
        if len(found) >= count:
            break
        if used.get(key, 0) > 1:
            continue
        scores = matrix @ np.asarray(vectors[row[key]])
        least = float(scores.mean()) + _NEAREST * (1 - float(scores.mean()))
        near = np.argpartition(-scores, min(_LOOKED_AT, len(scores) - 1))[: _LOOKED_AT + 1]
        ranked = [others[place] for place in near[np.argsort(-scores[near], kind="stable")] if scores[place] >= least]
        fitting = [other for other in ranked if used.get(other, 0) < 2 and _comparable(passages[key], passages[other])]
        fitting = [other for other in fitting if other != key and (other, key) not in found]
        if fitting:
            best = min(fitting, key=lambda other: document_of(passages[other]) == document_of(passages[key]))
            found.append((key, best))
            for one in (key, best):
                used[one] = used.get(one, 0) + 1
    return found


def _comparable(one: Passage, other: Passage) -> bool:
    if document_of(one) == document_of(other) and one.title == other.title and one.title:
        return False  # pieces of one section
    return jaccard(shingles(one.text), shingles(other.text)) < _SAME
