"""The loss scale (1/temperature) that fits the base model's own similarities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldtune.config import Training
from fieldtune.encoding.spread import unrelated_spread
from fieldtune.types import Side

if TYPE_CHECKING:
    from fieldtune.encoding import Encoder

# Spread of unrelated cosines times scale. Models trained at temperature 0.05 (scale 20) spread unrelated texts by about
# 0.09, those trained at 0.01 (scale 100) by about 0.02: the product is nearly the same for both.
_SPREAD = 1.9
_LOWEST, _HIGHEST = 10.0, 100.0  # of cosines; inner products of longer vectors may have any size


def fitting_scale(queries: NDArray[np.float32], passages: NDArray[np.float32], seed: int) -> tuple[float, float]:
    """The scale for a base model, and the standard deviation of unrelated similarities that it follows from.

    `queries` (n, dim) and `passages` (m, dim) are vectors of the base model as the loss multiplies them; 20,000 random
    pairs are measured, of which hardly any is related.
    """
    spread = unrelated_spread(queries, passages, seed)
    if all(np.allclose(np.linalg.norm(side, axis=1), 1, atol=0.01) for side in (queries, passages)):
        return scale_of_cosines(spread), spread
    return float(f"{_SPREAD / max(spread, 1e-6):.3g}"), spread


def scale_of_cosines(spread: float) -> float:
    """The scale that fits a model whose cosines between unrelated texts have this standard deviation."""
    return float(np.clip(round(_SPREAD / max(spread, 1e-6)), _LOWEST, _HIGHEST))


def compared_vectors(encoder: Encoder, texts: list[str], side: Side, settings: Training) -> NDArray[np.float32]:
    """Vectors (n, dim) whose inner products are the similarities of the loss before it is scaled."""
    import torch

    from fieldtune.training.forward import embed_rows

    if settings.similarity == "cosine" or settings.method == "query":  # a query layer is trained on unit vectors
        return encoder.encode(texts, side)
    assert encoder.tokens is not None  # the training stage has checked
    store = encoder.tokens.store(texts, encoder.prompts[side])
    with torch.no_grad():
        return np.asarray(embed_rows(encoder, store, np.arange(len(texts))).cpu().numpy(), np.float32)
