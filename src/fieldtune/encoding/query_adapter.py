"""A layer on query vectors alone: what is indexed stays as it is, and any model's vectors will do."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.adapter_folder import read_record
from fieldtune.errors import InputError, ModelError

WEIGHTS = "adapter.safetensors"
Floats = NDArray[np.float32]
_PARTS = ("outer", "outer_bias", "inner", "inner_bias")


@dataclass(frozen=True, slots=True)
class QueryAdapter:
    """x + outer · relu(inner · x + inner_bias) + outer_bias, or without an inner layer x + outer · x + outer_bias."""

    outer: Floats
    """(dim, dim), or (dim, hidden) with an inner layer."""
    outer_bias: Floats
    """(dim,)"""
    inner: Floats | None = None
    """(hidden, dim)"""
    inner_bias: Floats | None = None
    """(hidden,)"""

    @property
    def dimension(self) -> int:
        return len(self.outer_bias)

    def digest(self) -> str:
        """32 hex digits over the weights."""
        whole = hashlib.sha256()
        for name in _PARTS:
            weight = getattr(self, name)
            if weight is not None:
                whole.update(f"{name}{weight.shape}".encode() + np.ascontiguousarray(weight).tobytes())
        return whole.hexdigest()[:32]

    def apply(self, vectors: Floats) -> Floats:
        """Query vectors (n, dim) of the model that it was trained on, to unit vectors (n, dim) for the same index.

        The vectors need not be of unit length. Raises ModelError for another dimension.
        """
        vectors = np.asarray(vectors, np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise ModelError(
                f"query vectors of shape {vectors.shape} do not fit an adapter of {self.dimension} dimensions",
                "give vectors of the model that it was trained on, (queries, dimensions)",
            )
        unit = _unit(vectors)
        if self.inner is None or self.inner_bias is None:
            change = unit @ self.outer.T
        else:
            change = np.maximum(unit @ self.inner.T + self.inner_bias, 0) @ self.outer.T
        return _unit(unit + change + self.outer_bias)

    def save(self, folder: Path) -> None:
        """Write `adapter.safetensors`: outer, outer_bias and, where there are, inner and inner_bias, as float32."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: getattr(self, name) for name in _PARTS}
        present = {name: np.ascontiguousarray(weight) for name, weight in weights.items() if weight is not None}
        save_file(present, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> QueryAdapter:
        """Raises ModelError for another kind of adapter, InputError for damaged weights."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        record = read_record(folder)
        if record is None or record.method != "query":
            raise ModelError(f"{folder} is not an adapter for query vectors", "train one with training.method=query")
        try:
            return cls(**load_file(folder / WEIGHTS))
        except (OSError, SafetensorError, TypeError) as error:
            raise InputError(f"cannot be read ({error})", "train it again", path=folder / WEIGHTS) from None


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)
