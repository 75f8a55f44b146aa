"""Records that lie far from their kind or nearer to another: a clause in the wrong drawer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding import top_k
from fieldtune.errors import InputError
from fieldtune.uses.folds import folded

Floats = NDArray[np.float32]
Scores = NDArray[np.float64]
FEWEST = 10
"""Distinct texts that a kind needs for its median and spread to mean something."""
_NEIGHBOURS = 3
_REFERENCE = 20_000
"""Records of one kind that others are compared with; a larger kind is sampled."""


@dataclass(frozen=True, slots=True)
class Outlier:
    """What is known of one record, odd or not."""

    row: int
    kind: str
    distance: float
    """One minus the mean cosine to the nearest other texts of its kind."""
    far: float
    """How many robust standard deviations that lies above its kind's median, both as logarithms."""
    misplaced: float
    """The same of how much nearer the nearest other kind is than its own; minus infinity where there is no other."""
    looks_like: str
    """The nearest other kind, "" where there is none."""
    odd: bool

    @property
    def score(self) -> float:
        return max(self.far, self.misplaced)


@dataclass(frozen=True, slots=True)
class Outliers:
    records: tuple[Outlier, ...]
    """All that could be judged, the oddest first."""
    threshold: float
    """In robust standard deviations, of `far` and of `misplaced` alike."""
    false_alarms: float
    """The share of ordinary records that exceeds it by each of the two, where these spread normally."""
    too_small: dict[str, int]
    """Kinds with too few distinct texts to be judged, and their records."""

    @property
    def odd(self) -> tuple[Outlier, ...]:
        return tuple(record for record in self.records if record.odd)


def outliers(
    texts: Sequence[str],
    vectors: Floats,
    kinds: Sequence[str],
    *,
    false_alarms: float = 0.01,
    threshold: float | None = None,
    seed: int = 0,
) -> Outliers:
    """Judge each record with unit vector (n, dim) by the distance to its kind; kinds all "" are one.

    A record's distance is taken to its three nearest texts of the kind that differ from its own, so that a broad kind
    with several themes is no trouble and copies of an odd text do not cover for each other. Spread is robust and
    one-sided: the median of what lies above the median, in normal standard deviations, so that up to half of a kind
    may be odd. The threshold follows from `false_alarms`, unless given. Raises InputError for shapes and shares that
    make no sense, and where no kind is large enough.
    """
    from scipy import stats

    if vectors.ndim != 2 or not len(vectors) == len(texts) == len(kinds):
        raise InputError(f"vectors of shape {vectors.shape} for {len(texts)} texts", "one vector and one kind a text")
    if not 0 < false_alarms < 0.5:
        raise InputError(f"{false_alarms:g} is no share of false alarms", "give one between 0 and 0.5, such as 0.01")
    limit = float(stats.norm.isf(false_alarms)) if threshold is None else threshold
    keys = [folded(text) for text in texts]
    everywhere: defaultdict[str, list[int]] = defaultdict(list)
    for row, kind in enumerate(kinds):
        everywhere[kind].append(row)
    members = {kind: _firsts(keys, everywhere[kind]) for kind in sorted(everywhere)}
    judged = {kind: rows for kind, rows in members.items() if len(rows) >= FEWEST}
    counts = {kind: len(everywhere[kind]) for kind in members if kind not in judged}
    if not judged:
        raise InputError(
            f"no kind has {FEWEST} different texts (the largest: {max(map(len, members.values()), default=0)})",
            "join kinds, or leave --kind out to take all records for one",
        )
    reference = {kind: _sampled(rows, seed) for kind, rows in judged.items()}
    out: list[Outlier] = []
    for kind, rows in judged.items():
        near = _nearness(vectors, rows, reference[kind], own=True)
        others = [(other, _nearness(vectors, rows, reference[other], own=False)) for other in judged if other != kind]
        best = np.argmax(np.stack([score for _, score in others]), axis=0) if others else None
        # Distances have a long right tail; their logarithms are about normal.
        far = _deviations(np.log(np.maximum(1 - near, 1e-3)))
        if best is None:
            misplaced, names = np.full(len(rows), -np.inf), [""] * len(rows)
        else:
            misplaced = _deviations(np.stack([score for _, score in others]).max(axis=0) - near)
            names = [others[place][0] for place in best]
        place = {keys[row]: position for position, row in enumerate(rows.tolist())}
        for row in everywhere[kind]:
            at = place[keys[row]]
            one, other = float(far[at]), float(misplaced[at])
            odd = max(one, other) > limit
            out.append(Outlier(row, kind, round(1 - float(near[at]), 6), one, other, names[at], odd))
    out.sort(key=lambda record: (-record.score, record.row))
    return Outliers(tuple(out), limit, false_alarms, counts)


def _firsts(keys: Sequence[str], rows: Sequence[int]) -> NDArray[np.int64]:
    """The first row of each different text."""
    seen: dict[str, int] = {}
    for row in rows:
        seen.setdefault(keys[row], row)
    return np.array(list(seen.values()), np.int64)


def _sampled(rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    if len(rows) <= _REFERENCE:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, _REFERENCE, replace=False))


def _nearness(vectors: Floats, rows: NDArray[np.int64], reference: NDArray[np.int64], *, own: bool) -> Scores:
    """The mean cosine of each row to its nearest texts of the reference, itself left out: (rows,)."""
    scores, near = top_k(vectors[rows], vectors[reference], _NEIGHBOURS + own)
    if not own:
        return np.asarray(scores.mean(axis=1, dtype=np.float64))
    self = reference[near] == rows[:, None]
    self[~self.any(axis=1), -1] = True
    return np.asarray(scores[~self].reshape(len(rows), -1).mean(axis=1, dtype=np.float64))


def _deviations(values: Scores) -> Scores:
    """How far each value lies above the median, in standard deviations estimated from the upper half."""
    middle = float(np.median(values))
    above = values[values > middle] - middle
    spread = 1.4826 * float(np.median(above)) if len(above) else 0.0
    # A kind whose texts are all alike has no spread of its own; what float32 leaves is not one.
    return np.asarray((values - middle) / max(spread, 5e-3))
