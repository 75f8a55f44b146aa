"""Vectors cut to their first dimensions, as a Matryoshka model is meant to be used."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def shortened(vectors: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    """The first dimensions of unit vectors, brought back to unit length: `(n, dimension)`."""
    if dimension >= vectors.shape[1]:
        return np.asarray(vectors, np.float32)
    cut = np.asarray(vectors[:, :dimension], np.float32)
    length = np.sqrt(np.einsum("nd,nd->n", cut, cut))[:, None]
    return np.asarray(np.divide(cut, length, out=np.zeros_like(cut), where=length > 0))
