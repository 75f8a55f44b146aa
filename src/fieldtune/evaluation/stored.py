"""Vectors as an index would keep them: cut to fewer dimensions, rounded to int8, or one bit per dimension.

The corpus is encoded once; everything here is derived from those float32 vectors, block by block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding import shortened

Floats32 = NDArray[np.float32]
VectorPrecision = Literal["float32", "int8", "binary"]
_BLOCK = 16_384
_LEVELS = 255  # steps between the lowest and the highest of 256 codes


@dataclass(frozen=True, slots=True)
class Stored:
    """Passage vectors in a compact form, read back as float32 rows whose inner products rank as that form does."""

    vectors: Floats32
    """What the model made, `(passages, full dimension)`; may be memory-mapped."""
    dimension: int
    precision: VectorPrecision
    low: Floats32
    """Of int8: the lowest value of each dimension over the passages."""
    step: Floats32
    """Of int8: the distance between two codes of each dimension."""

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: Any, /) -> Floats32:
        return self.decoded(self.vectors[rows])

    @property
    def bytes_per_vector(self) -> int:
        """What one passage takes; the ranges of int8 are kept once for all and not counted."""
        return {"float32": 4 * self.dimension, "int8": self.dimension, "binary": -(-self.dimension // 8)}[
            self.precision
        ]

    def decoded(self, vectors: Floats32) -> Floats32:
        """Full vectors `(n, full dimension)` after storing and reading back: `(n, dimension)`.

        Binary vectors come back as -1 and 1 (a positive value is a 1), whose inner product is the dimension less twice
        the Hamming distance.
        """
        cut = shortened(vectors, self.dimension)
        if self.precision == "float32":
            return cut
        if self.precision == "binary":
            return np.where(cut > 0, np.float32(1), np.float32(-1))
        codes = np.clip(np.rint((cut - self.low) / self.step), 0, _LEVELS)
        return np.asarray(codes * self.step + self.low, np.float32)


def stored(vectors: Floats32, dimension: int, precision: VectorPrecision) -> Stored:
    """Cut and round passage vectors `(n, full dimension)`; int8 spreads its 256 codes over the range that each
    dimension has among them."""
    none = np.zeros(0, np.float32)
    if precision != "int8":
        return Stored(vectors, dimension, precision, none, none)
    low, high = np.full(dimension, np.inf, np.float32), np.full(dimension, -np.inf, np.float32)
    for start in range(0, len(vectors), _BLOCK):
        block = shortened(vectors[start : start + _BLOCK], dimension)
        low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
    step = np.where(high > low, (high - low) / np.float32(_LEVELS), np.float32(1)).astype(np.float32)
    return Stored(vectors, dimension, precision, low, step)


def rescored(queries: Floats32, passages: Stored, rows: NDArray[np.int64], *, block: int = 64) -> Floats32:
    """Inner products of full-precision queries with stored passages: `(n, k)` for candidate `rows` `(n, k)`.

    `queries` is `(n, full dimension)`; where a row is -1 the score means nothing.
    """
    out = np.zeros(rows.shape, np.float32)
    asked = shortened(queries, passages.dimension)
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        found = passages[np.maximum(part, 0).ravel()].reshape(*part.shape, passages.dimension)
        out[start : start + block] = np.einsum("qd,qkd->qk", asked[start : start + block], found)
    return out
