"""Queries in the three kinds of vectors that an index of such a model keeps of its passages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding import Encoder
from fieldtune.encoding.m3 import M3Vectors, encode_m3, heads_digest, m3_heads
from fieldtune.errors import ModelError
from fieldtune.index.meta import REBUILD

if TYPE_CHECKING:
    from torch.nn import ModuleDict

Asked = NDArray[np.float32] | M3Vectors
"""Of queries: dense vectors (m, dim), or all three kinds."""


@dataclass(frozen=True, slots=True)
class Asker:
    """A model with its two layers."""

    encoder: Encoder
    heads: ModuleDict
    digest: str
    """Names the layers."""

    @classmethod
    def of(cls, encoder: Encoder, folder: Path) -> Asker:
        """Raises ModelError where the folder has no layers that fit."""
        heads = m3_heads(encoder, folder)
        return cls(encoder, heads, heads_digest(heads))

    def ask(self, queries: Sequence[str], digest: str) -> M3Vectors:
        """All three of queries; raises ModelError when the layers are not those of this digest."""
        if digest != self.digest:
            raise ModelError("the layers in the model's folder are not those that the index was made with", REBUILD)
        return encode_m3(self.encoder, self.heads, queries, "query", form="float32")
