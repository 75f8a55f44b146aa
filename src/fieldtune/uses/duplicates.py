"""Pairs of texts that say the same, within one set or between two, and the groups they form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fieldtune.corpus.duplicates import decisive
from fieldtune.encoding.search import pairs_above
from fieldtune.errors import InputError
from fieldtune.uses.crowding import Threshold, threshold_of
from fieldtune.uses.folds import folded

Floats = NDArray[np.float32]
MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Pair:
    first: int
    second: int
    """Positions: `first` before `second` in one set; between two sets each in its own."""
    similarity: float
    kind: Literal["equal", "near"]
    """equal: but for case, width and white space."""
    differs: str = ""
    """Numbers, dates, negations and comparing words that only one of the two has: alike, and perhaps not the same."""


@dataclass(frozen=True, slots=True)
class Duplicates:
    pairs: tuple[Pair, ...]
    """The most similar first. An equal text stands once: with the first of its like."""
    threshold: Threshold
    used: float | None
    """The cosine from which pairs are taken: the threshold's or the caller's; None where only equal texts are."""


def duplicates(
    texts: Sequence[str],
    vectors: Floats,
    others: tuple[Sequence[str], Floats] | None = None,
    *,
    threshold: float | None = None,
    false_rate: float = 0.01,
    seed: int = 0,
    most: int = MOST,
) -> Duplicates:
    """Find pairs among the texts with unit vectors (n, dim), or between them and `others`.

    Without a `threshold` (a cosine) it is chosen from the data, see `threshold_of`. Raises InputError for more than
    `most` pairs, for vectors that do not fit, and for a rate or threshold out of range.
    """
    _require_range(threshold, false_rate)
    sides = [(texts, vectors)] if others is None else [(texts, vectors), others]
    for words, rows in sides:
        if rows.ndim != 2 or len(rows) != len(words) or rows.shape[1] != vectors.shape[1]:
            raise InputError(f"vectors of shape {rows.shape} for {len(words)} texts", "one vector of one model a text")
    kept = [_first_of_each(words) for words, _ in sides]
    a = np.ascontiguousarray(vectors[kept[0]])
    b = a if others is None else np.ascontiguousarray(others[1][kept[1]])
    chosen = threshold_of(a, b, same=others is None, false_rate=false_rate, seed=seed)
    used = chosen.similarity if threshold is None else threshold
    found = pairs(texts, vectors, others, threshold=used, most=most)
    return Duplicates(found, chosen, used)


def pairs(
    texts: Sequence[str],
    vectors: Floats,
    others: tuple[Sequence[str], Floats] | None = None,
    *,
    threshold: float | None,
    most: int = MOST,
) -> tuple[Pair, ...]:
    """Equal texts, and pairs of different ones whose cosine reaches the threshold (None: equal texts alone)."""
    second, second_vectors = others if others is not None else (texts, vectors)
    out = _equal(texts) if others is None else _equal_between(texts, second)
    if threshold is not None:
        one = _first_of_each(texts)
        other = one if others is None else _first_of_each(second)
        a = np.ascontiguousarray(vectors[one])
        b = a if others is None else np.ascontiguousarray(second_vectors[other])
        rows, columns, scores = pairs_above(a, b, threshold, same=others is None, most=most)
        for row, column, score in zip(rows.tolist(), columns.tolist(), scores.tolist(), strict=True):
            i, j = int(one[row]), int(other[column])
            if folded(texts[i]) != folded(second[j]):
                out.append(Pair(i, j, score, "near", differing(texts[i], second[j])))
    return tuple(sorted(out, key=lambda pair: (-pair.similarity, pair.first, pair.second)))


def groups(found: Sequence[Pair], count: int) -> list[int]:
    """The group of each of `count` texts of one set by chains of pairs: the position of its first member."""
    root = list(range(count))

    def find(row: int) -> int:
        while root[row] != row:
            root[row] = root[root[row]]
            row = root[row]
        return row

    for pair in found:
        one, other = sorted((find(pair.first), find(pair.second)))
        root[other] = one
    return [find(row) for row in range(count)]


def differing(one: str, other: str) -> str:
    """`5363 | 4869`: the decisive marks that only one of two texts has, "" where they agree."""
    a, b = decisive(folded(one)), decisive(folded(other))
    if a == b:
        return ""
    only = [" ".join(mark for mark in x if mark not in y) for x, y in ((a, b), (b, a))]
    return " | ".join(only) if any(only) else "order"


def _first_of_each(texts: Sequence[str]) -> NDArray[np.int64]:
    seen: dict[str, int] = {}
    for row, text in enumerate(texts):
        seen.setdefault(folded(text), row)
    return np.array(list(seen.values()), np.int64)


def _equal(texts: Sequence[str]) -> list[Pair]:
    seen: dict[str, int] = {}
    firsts = [seen.setdefault(folded(text), row) for row, text in enumerate(texts)]
    return [Pair(first, row, 1.0, "equal") for row, first in enumerate(firsts) if first != row]


def _equal_between(texts: Sequence[str], others: Sequence[str]) -> list[Pair]:
    seen: dict[str, int] = {}
    for row, text in enumerate(others):
        seen.setdefault(folded(text), row)
    return [Pair(row, seen[key], 1.0, "equal") for row, key in enumerate(map(folded, texts)) if key in seen]


def _require_range(threshold: float | None, false_rate: float) -> None:
    if threshold is not None and not -1 <= threshold <= 1:
        raise InputError(f"a cosine of {threshold:g} does not exist", "give a threshold between 0 and 1, such as 0.85")
    if not 0 < false_rate < 1:
        raise InputError(f"a false rate of {false_rate:g} is no share", "give one between 0 and 1, such as 0.01")
