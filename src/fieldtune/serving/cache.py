"""The vectors of queries that were asked lately."""

from __future__ import annotations

from collections import OrderedDict

from fieldtune.encoding.m3 import M3Vectors
from fieldtune.index import Asked

_THREE = 20
"""Token vectors of a short question take about as much as so many dense ones."""


class VectorCache:
    """Dense vectors of at most `most` queries, by model and text, fewer where token vectors are among them; the one
    asked for longest ago makes room. For one thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._vectors: OrderedDict[tuple[str, str], Asked] = OrderedDict()
        self._size = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, model: str, text: str) -> Asked | None:
        vector = self._vectors.get((model, text))
        if vector is None:
            self.misses += 1
            return None
        self.hits += 1
        self._vectors.move_to_end((model, text))
        return vector

    def put(self, model: str, text: str, vector: Asked) -> None:
        if not self._most:
            return
        self._drop((model, text))
        # A copy: a row of a batch would keep the whole batch in memory.
        kept = vector if isinstance(vector, M3Vectors) else vector.copy()
        self._vectors[model, text] = kept
        self._size += _weight(kept)
        while self._size > self._most and len(self._vectors) > 1:
            self._drop(next(iter(self._vectors)))

    def _drop(self, key: tuple[str, str]) -> None:
        gone = self._vectors.pop(key, None)
        self._size -= 0 if gone is None else _weight(gone)

    def clear(self) -> None:
        self._vectors.clear()
        self._size = 0


def _weight(vector: Asked) -> int:
    return _THREE if isinstance(vector, M3Vectors) else 1
