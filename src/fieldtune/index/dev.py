"""Labelled queries that may choose how an index is searched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.m3 import M3Vectors
from fieldtune.measures import Judgements


@dataclass(frozen=True, slots=True)
class Dev:
    """Labelled queries that may choose settings: of the dev split, never of test."""

    texts: tuple[str, ...]
    vectors: NDArray[np.float32]
    """(n, the model's dimension), unit length."""
    judged: Judgements
    """Their qrels by row of the passages."""
    three: M3Vectors | None = None
    """Their dense, sparse and token vectors, where the passages have those."""
