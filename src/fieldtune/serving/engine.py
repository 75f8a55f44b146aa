"""The model as the service uses it: one text at once, many texts by their length, and how many tokens they have."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding import Encoder, SingleEncoder
from fieldtune.encoding.tokens import Tokens, budgeted
from fieldtune.errors import FieldtuneError
from fieldtune.serving.problems import ApiError
from fieldtune.types import Side

log = logging.getLogger(__name__)

Vectors = NDArray[np.float32]
_PIECE = 2_048
"""Padded tokens of one piece of slow work: about one forward pass on a processor."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A loaded model; `encode` is for one thread, the rest for any."""

    many: Encoder
    one: SingleEncoder | None
    """The same vectors for a lone text, sooner; None where the index did not find them to be the same."""
    tokens: Tokens | None
    _lock: Lock = field(default_factory=Lock)

    @property
    def dimension(self) -> int:
        return self.many.dimension

    def encode(self, side: Side, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32 (len(texts), dimension)."""
        if len(texts) == 1 and self.one is not None:
            return self.one.encode(texts, side)
        return self.many.encode(texts, side)

    def counts(self, texts: Sequence[str], side: Side) -> NDArray[np.int64]:
        """Tokens that the model reads of each text, its prompt and special tokens included: (len(texts),)."""
        prompt = self.many.prompts[side]
        if self.tokens is not None:
            with self._lock:
                return self.tokens.store(texts, prompt).lengths
        tokenizer: Any = self.many.model.tokenizer
        most = int(self.many.model.max_seq_length or 512)
        with self._lock:
            return np.array([min(most, len(tokenizer(prompt + text)["input_ids"])) for text in texts], np.int64)

    def pieces(self, counts: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Rows in pieces of like length, each about one forward pass."""
        return budgeted(counts, _PIECE)

    def text_of(self, ids: Sequence[int], where: str) -> str:
        """The text that token ids of this model's tokenizer stand for. Raises ApiError 400 for an unknown id."""
        tokenizer: Any = self.many.model.tokenizer
        size = len(tokenizer)
        wrong = next((number for number in ids if not 0 <= number < size), None)
        if wrong is not None:
            raise ApiError(
                400, f"{where}: {wrong} is no token id of this model (0 to {size - 1}); send text, or ids of its own "
                "tokenizer", param="input", code="unknown_token",
            )  # fmt: skip
        with self._lock:
            return str(tokenizer.decode(list(ids), skip_special_tokens=True))


def engine_of(model: str, *, single: bool) -> Engine:
    """The fastest way that gives the vectors of the index; `single` says that `SingleEncoder` was found to do so.

    Raises ModelError when the model cannot be loaded.
    """
    many = Encoder.load(model)
    one = None
    if single:
        try:
            one = SingleEncoder(Path(many.name))
        except (FieldtuneError, OSError, LookupError, ValueError) as error:
            log.info("%s is asked through the library alone (%s)", many.name, error)
    return Engine(many, one, Tokens.of(many.model) if many.tokens is not None else None)
