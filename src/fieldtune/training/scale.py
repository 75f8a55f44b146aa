"""The loss scale (1/temperature) that fits the base model's own similarities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Spread of unrelated cosines times scale. Models trained at temperature 0.05 (scale 20) spread unrelated texts by about
# 0.09, those trained at 0.01 (scale 100) by about 0.02: the product is nearly the same for both.
_SPREAD = 1.9
_LOWEST, _HIGHEST = 10.0, 100.0


def fitting_scale(queries: NDArray[np.float32], passages: NDArray[np.float32], seed: int) -> tuple[float, float]:
    """The scale for a base model, and the standard deviation of unrelated cosines that it follows from.

    `queries` (n, dim) and `passages` (m, dim) are unit vectors of the base model; 20,000 random pairs are measured, of
    which hardly any is related.
    """
    rng = np.random.default_rng(seed)
    left = queries[rng.integers(len(queries), size=20_000)]
    right = passages[rng.integers(len(passages), size=20_000)]
    spread = float(np.einsum("ij,ij->i", left, right).std())
    return float(np.clip(round(_SPREAD / max(spread, 1e-6)), _LOWEST, _HIGHEST)), spread
