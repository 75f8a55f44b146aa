"""Queries through a BERT model with NumPy alone, for a process that asks once: importing torch takes longer than all
the rest of a search."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.bert_folder import PROBES, BertFolder
from fieldtune.encoding.encoder import Encoder
from fieldtune.errors import FieldtuneError, ModelError
from fieldtune.types import Side

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
_SAME = 0.9999
_LOOKED_AT = 2_000
"""Characters of a user's text that are compared: attention here takes memory by the square of its length."""
_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
"""Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: at most 1.5e-7 off, NumPy having no erf."""


class NumpyEncoder(BertFolder):
    """Encodes queries one after another in float32, of the table of words reading only what they need.

    Where the library computes in bf16 the vectors differ from its own by what that rounds; `agrees_closely` says
    whether by no more, when an index is built.
    """

    def __init__(self, folder: Path) -> None:
        """Raises FieldtuneError, OSError, KeyError, TypeError or ValueError for a folder that is no plain BERT model
        in numbers that NumPy knows."""
        from safetensors import SafetensorError, safe_open

        super().__init__(folder)
        tables = [f"embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type")]
        try:
            with safe_open(self.weights, framework="numpy") as stored:
                self._tables = [stored.get_slice(name) for name in tables]
                rest = [name for name in stored.keys() if name.startswith(("encoder.", "embeddings.LayerNorm."))]  # noqa: SIM118 - not a mapping
                self._weights: dict[str, Floats] = {name: _float32(stored.get_tensor(name)) for name in rest}
        except SafetensorError as error:
            raise ValueError(f"{self.weights}: {error}") from error

    def encode(self, texts: Sequence[str], side: Side) -> Floats:
        """Unit vectors, float32 (len(texts), dimension). Raises ModelError where they are not finite."""
        rows = np.zeros((len(texts), self.dimension), np.float32)
        for row, ids in enumerate(self.tokenized(texts, side)):
            states = self._forward(ids)
            vector = states.mean(axis=0) if self.mean else states[0]
            rows[row] = vector / max(float(np.linalg.norm(vector)), 1e-12)
        if not np.isfinite(rows).all():
            raise ModelError(f"{self.weights.parent}: the model returned a vector with NaN", "its weights are damaged")
        return rows

    def work(self, texts: Sequence[str], side: Side) -> int:
        """Multiplications that `encode` takes, nearly: each token meets each weight, and each token of its text."""
        lengths = [len(ids) for ids in self.tokenized(texts, side)]
        weights = sum(weight.size for weight in self._weights.values())
        return sum(length * (weights + 2 * self.layers * self.dimension * length) for length in lengths)

    def _forward(self, ids: Sequence[int]) -> Floats:
        """States of a text's tokens (tokens, dimension); operation for operation what BertModel does."""
        words, positions, types = self._tables
        hidden = np.concatenate([_float32(words[number : number + 1]) for number in ids])
        hidden += _float32(types[0:1])
        hidden += np.concatenate([_float32(positions[place : place + 1]) for place in self.places(ids).tolist()])
        hidden = self._norm(hidden, "embeddings.LayerNorm")
        for layer in range(self.layers):
            name = f"encoder.layer.{layer}"
            query, key, value = (
                self._linear(hidden, f"{name}.attention.self.{part}").reshape(len(ids), self.heads, -1)
                for part in ("query", "key", "value")
            )
            weights = query.transpose(1, 0, 2) @ key.transpose(1, 2, 0) * np.float32(query.shape[-1] ** -0.5)
            weights = np.exp(weights - weights.max(axis=-1, keepdims=True))
            weights /= weights.sum(axis=-1, keepdims=True)
            found = (weights @ value.transpose(1, 0, 2)).transpose(1, 0, 2).reshape(len(ids), -1)
            found = self._linear(found, f"{name}.attention.output.dense")
            hidden = self._norm(found + hidden, f"{name}.attention.output.LayerNorm")
            inner = gelu(self._linear(hidden, f"{name}.intermediate.dense"))
            hidden = self._norm(self._linear(inner, f"{name}.output.dense") + hidden, f"{name}.output.LayerNorm")
        return hidden

    def _linear(self, values: Floats, name: str) -> Floats:
        product: Floats = values @ self._weights[f"{name}.weight"].T
        product += self._weights[f"{name}.bias"]
        return product

    def _norm(self, values: Floats, name: str) -> Floats:
        values = values - values.mean(axis=-1, keepdims=True)
        spread = np.sqrt((values * values).mean(axis=-1, keepdims=True) + np.float32(self.epsilon))
        normed: Floats = values / spread * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return normed


def gelu(values: Floats) -> Floats:
    """x times the share of a standard normal below it, by its distribution function and not its tanh stand-in."""
    size = np.abs(values) * np.float32(0.5**0.5)
    step = 1 / (1 + np.float32(0.3275911) * size)
    polynomial = np.zeros_like(step)
    for factor in reversed(_ERF):
        polynomial = (polynomial + np.float32(factor)) * step
    erf = np.copysign(1 - polynomial * np.exp(-size * size), values)
    result: Floats = np.float32(0.5) * values * (1 + erf)
    return result


def agrees_closely(folder: Path, encoder: Encoder, texts: Sequence[str] = ()) -> bool:
    """Whether `NumpyEncoder` gives the vectors of the loaded model to four digits of the cosine, for some probes and
    these texts."""
    probes = [*PROBES, *(text[:_LOOKED_AT] for text in texts)]
    sides: tuple[Side, ...] = ("query", "passage")
    try:
        alone = NumpyEncoder(folder)
        return all(
            bool(((alone.encode(probes, side) * encoder.encode(probes, side)).sum(axis=1) > _SAME).all())
            for side in sides
        )
    except (FieldtuneError, OSError, LookupError, ValueError, TypeError, RuntimeError) as error:
        log.info("%s: a cold search loads torch (%s)", folder, error)
        return False


def _float32(values: Any) -> Floats:
    """Raises TypeError for numbers that are no floats."""
    if values.dtype not in (np.float32, np.float16, np.float64):
        raise TypeError(f"weights of type {values.dtype}")
    return np.asarray(values, np.float32)
