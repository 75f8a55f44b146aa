"""The vectors of queries that were asked lately."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray


class VectorCache:
    """At most `most` vectors, by model and text; the one asked for longest ago makes room. For one thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._vectors: OrderedDict[tuple[str, str], NDArray[np.float32]] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, model: str, text: str) -> NDArray[np.float32] | None:
        vector = self._vectors.get((model, text))
        if vector is None:
            self.misses += 1
            return None
        self.hits += 1
        self._vectors.move_to_end((model, text))
        return vector

    def put(self, model: str, text: str, vector: NDArray[np.float32]) -> None:
        if not self._most:
            return
        # A copy: a row of a batch would keep the whole batch in memory.
        self._vectors[model, text] = vector.copy()
        self._vectors.move_to_end((model, text))
        while len(self._vectors) > self._most:
            self._vectors.popitem(last=False)

    def clear(self) -> None:
        self._vectors.clear()
