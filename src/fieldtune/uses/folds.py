"""Who must stay together when examples are divided for cross-validation, and the division."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fieldtune.corpus.near import near_duplicate_groups

Ints = NDArray[np.int64]
NEAR = 0.8
"""Jaccard similarity of word 3-shingles from which two texts count as near-equal."""


def units_of(texts: Sequence[str], groups: Sequence[str], seed: int) -> Ints:
    """The unit of each text, from 0 in order of appearance: (n,).

    Texts of one group ("" is none), equal but for case, width and white space, or near-equal, directly or by a chain,
    are one unit: with one of them in training, finding the other again would prove nothing.
    """
    root = list(range(len(texts)))

    def find(row: int) -> int:
        while root[row] != row:
            root[row] = root[root[row]]
            row = root[row]
        return row

    together: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for row, (text, group) in enumerate(zip(texts, groups, strict=True)):
        together["text", folded(text)].append(row)
        if group:
            together["group", group].append(row)
    for members in (*together.values(), *near_duplicate_groups(texts, NEAR, seed)):
        for row in members[1:]:
            one, other = sorted((find(members[0]), find(row)))
            root[other] = one
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(find(row), len(numbers)) for row in range(len(texts))], np.int64)


def divide(labels: Ints, units: Ints, folds: int, seed: int) -> Ints:
    """The fold of each example (n,): units stay whole, and each class is spread as evenly as they allow."""
    rng = np.random.default_rng(seed)
    classes = int(labels.max()) + 1
    held = np.zeros((int(units.max()) + 1, classes), np.int64)
    np.add.at(held, (units, labels), 1)
    sizes = held.sum(axis=0)
    # Large and lopsided units first, while there is room to even them out; equal ones in random order.
    shuffled = rng.permutation(len(held))
    order = shuffled[np.argsort(-held[shuffled].max(axis=1), kind="stable")]
    inside = np.zeros((folds, classes))
    place = np.zeros(len(held), np.int64)
    for unit in order:
        # The fold that has least of what the unit brings, measured in shares of each class.
        load = (inside / sizes) @ held[unit]
        best = int(np.lexsort((inside.sum(axis=1), load))[0])
        inside[best] += held[unit]
        place[unit] = best
    return place[units]


def folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
