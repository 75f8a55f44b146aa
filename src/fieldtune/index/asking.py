"""Queries as an index takes them: cleaned texts, and the three kinds of vectors that some models make of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding import Encoder, SingleEncoder
from fieldtune.encoding.m3 import M3Vectors, ask_single, encode_m3, heads_digest, load_heads, m3_heads
from fieldtune.errors import InputError, ModelError
from fieldtune.index.meta import REBUILD

if TYPE_CHECKING:
    from torch.nn import ModuleDict

Asked = NDArray[np.float32] | M3Vectors
"""Of queries: dense vectors (m, dim), or all three kinds."""
_LONGEST = 50_000
"""Characters of a query that are looked at; no model reads nearly as much."""


def clean(query: str) -> str:
    """The query without control characters and broken Unicode, on one line. Raises InputError when nothing is left."""
    kept = "".join(" " if unicodedata.category(mark) in ("Cc", "Cs") else mark for mark in query[:_LONGEST])
    text = " ".join(kept.split())
    if not text:
        raise InputError("the query is empty", "ask with at least one word")
    return text


@dataclass(frozen=True, slots=True)
class Asker:
    """A model with its two layers."""

    encoder: Encoder | SingleEncoder
    heads: ModuleDict
    digest: str
    """Names the layers."""

    @classmethod
    def of(cls, encoder: Encoder | SingleEncoder, folder: Path) -> Asker:
        """Raises ModelError where the folder has no layers that fit."""
        if isinstance(encoder, SingleEncoder):
            heads = load_heads(folder, encoder.dimension)
        else:
            heads = m3_heads(encoder, folder)
        return cls(encoder, heads, heads_digest(heads))

    def ask(self, queries: Sequence[str], digest: str) -> M3Vectors:
        """All three of queries; raises ModelError when the layers are not those of this digest."""
        if digest != self.digest:
            raise ModelError("the layers in the model's folder are not those that the index was made with", REBUILD)
        if isinstance(self.encoder, SingleEncoder):
            return ask_single(self.encoder, self.heads, queries)
        return encode_m3(self.encoder, self.heads, queries, "query", form="float32")
