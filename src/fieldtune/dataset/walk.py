"""Down the candidates of each query, the best first, until there are negatives enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fieldtune.config import Negatives
from fieldtune.dataset.known import Known

KNOWN = "known positive"
NEAR = "near-duplicate of a positive"
HELD = "positive of a dev or test query"
JUDGED = "judged, but not as irrelevant"
ENOUGH = "labelled as irrelevant, beyond negatives.per_query"
CLOSE = "scores too near the positive"
FIRST = "among the first, left out as asked"
SAME = "of a positive's own document"

Pairs = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]
"""Says of pairs of passages which are near-duplicates."""

_NOTHING: frozenset[int] = frozenset()
_MORE = 8  # candidates of a query that are compared with its positives at once, after the first few


class Walk:
    """One query on its way: what it found, and why a candidate is no negative of it, the reasons in their order."""

    __slots__ = (
        "_config", "_documents", "_known", "_labelled", "_limit", "_own", "_partly", "_passed", "alike", "close",
        "found", "positives", "wanted",
    )  # fmt: skip

    def __init__(self, known: Known, query: int, config: Negatives, limit: float, wanted: int) -> None:
        self.positives = known.positives[query]
        self.wanted = wanted
        self.found: list[tuple[int, float]] = []
        """Rows and cosines."""
        self.close: list[int] = []
        self._known, self._config, self._limit = known, config, limit
        self._own = frozenset(self.positives)
        # There are as many walks as queries: what is empty for nearly all of them is not made anew for each.
        self._labelled = frozenset(known.irrelevant[query]) if known.irrelevant[query] else _NOTHING
        self._partly = frozenset(known.partly[query]) if known.partly[query] else _NOTHING
        twins = [known.twins[row] for row in self._own if row in known.twins]
        self.alike = dict.fromkeys(sorted(_NOTHING.union(*twins) - self._own) if twins else ())
        """Rows in the order in which they were found."""
        self._documents = None if config.same_document else {known.groups[row] for row in self._own} - {""}
        self._passed = 0

    @property
    def full(self) -> bool:
        return len(self.found) >= self.wanted

    def take(self, row: int, score: float, near: bool) -> str:
        """Why the candidate is left out; "" where it is a negative. `near` is for a near-duplicate of a positive."""
        if row in self._own:
            return KNOWN
        if row in self._labelled:  # those were taken, or counted, before
            return ""
        if near or row in self.alike:
            self.alike[row] = None
            return NEAR
        if row in self._partly:
            return JUDGED
        if row in self._known.held:
            return HELD
        if self._documents and self._known.groups[row] in self._documents:
            return SAME
        if self._passed < self._config.skip_first:
            self._passed += 1
            return FIRST
        if score > self._limit:
            if len(self.close) < self.wanted:
                self.close.append(row)
            return CLOSE
        self.found.append((row, score))
        return ""


def go(
    walks: Sequence[Walk],
    rows: NDArray[np.int64],
    cosines: NDArray[np.float32],
    near: Pairs,
    skipped: Counter[str],
) -> None:
    """Let each walk go down its own candidates, (walks, depth), -1 where there are none.

    All go a few steps together, so that candidates are compared with positives many at a time, and none is that no walk
    reaches.
    """
    begin = 0
    step = max((walk.wanted - len(walk.found) for walk in walks), default=0) + 1
    under_way = [place for place, walk in enumerate(walks) if not walk.full]
    while under_way and begin < rows.shape[1]:
        part = rows[under_way, begin : begin + step]
        alike = _near([walks[place].positives for place in under_way], part, near).tolist()
        scores = cosines[under_way, begin : begin + step].tolist()
        for place, *ahead in zip(under_way, part.tolist(), scores, alike, strict=True):
            walk = walks[place]
            for row, score, same in zip(*ahead, strict=True):
                if row < 0:
                    break
                reason = walk.take(row, score, same)
                if reason:
                    skipped[reason] += 1
                elif walk.full:
                    break
        under_way = [place for place in under_way if not walks[place].full]
        begin, step = begin + step, _MORE


def _near(positives: Sequence[Sequence[int]], rows: NDArray[np.int64], near: Pairs) -> NDArray[np.bool_]:
    """Whether each candidate (queries, c) is a near-duplicate of one of its query's positives."""
    counts = np.array([len(own) for own in positives])
    flat = np.array([row for own in positives for row in own], np.int64)
    one = np.repeat(rows, counts, axis=0)
    other = np.broadcast_to(flat[:, None], one.shape)
    asked = (one >= 0) & (one != other)
    found = np.zeros(one.shape, np.bool_)
    found[asked] = near(one[asked], other[asked])
    return np.logical_or.reduceat(found, np.cumsum(counts) - counts, axis=0)
