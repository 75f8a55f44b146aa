"""An encoder over an engine: for corpora, where what counts is texts per second."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.encoder import Encoder
from fieldtune.encoding.engine import Engine, FormatSetting, require
from fieldtune.encoding.feeding import all_of, feed
from fieldtune.encoding.tokens import Tokens
from fieldtune.encoding.torch_engine import TorchEngine
from fieldtune.errors import ModelError
from fieldtune.types import Side
from fieldtune.workspace import digest


class Encodes(Protocol):
    """What makes vectors of texts, and what its vectors are known by."""

    name: str
    dimension: int
    fingerprint: str
    passage_fingerprint: str

    def encode(
        self, texts: Sequence[str], side: Side, *, advance: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]: ...

    def stream(
        self, texts: Iterable[str], side: Side, *, advance: Callable[[int], None] | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """The vectors block by block: the next texts are read while the vectors of those before are made."""


class FastEncoder:
    """Texts to unit vectors with one of the engines; prompts and length limit are those of the model."""

    def __init__(
        self,
        engine: Engine,
        tokens: Tokens,
        prompts: Mapping[Side, str],
        *,
        name: str,
        fingerprint: str,
        dimension: int,
    ) -> None:
        """`fingerprint` is the model's own; those of the vectors also say which engine made them."""
        self.engine, self.tokens, self.name, self.dimension = engine, tokens, name, dimension
        self.prompts: dict[Side, str] = dict(prompts)
        self.precision = engine.precision
        how = [engine.backend, engine.precision, tokens.limit]
        self.fingerprint = digest([fingerprint, self.prompts, *how])
        self.passage_fingerprint = digest([fingerprint, self.prompts["passage"], *how])

    def encode(
        self, texts: Sequence[str], side: Side, *, advance: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Unit vectors, float32 (len(texts), dimension), in the order of the texts; equal texts are computed once.

        Raises ModelError if the model returns numbers that are not finite.
        """
        return all_of(partial(self.stream, side=side), texts, self.dimension, advance)

    def stream(
        self, texts: Iterable[str], side: Side, *, advance: Callable[[int], None] | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Unit vectors of however many texts, block by block in their order; memory does not grow with their number."""
        begin = 0
        for part in feed(self.engine, self.tokens, texts, self.prompts[side], advance=advance):
            damaged = np.flatnonzero(~np.isfinite(part).all(axis=1))
            if len(damaged):
                raise ModelError(
                    f"{self.name}: the model returned a vector with NaN for the {side} text number "
                    f"{begin + int(damaged[0]) + 1}",
                    "its weights are damaged, or it computes in too small a format: take fp32",
                )
            begin += len(part)
            yield part


def with_torch(encoder: Encoder, precision: FormatSetting = "auto") -> FastEncoder:
    """The loaded model on the torch engine. Raises ModelError where it does not take token ids alone."""
    if encoder.tokens is None or encoder.routed:
        raise ModelError(
            f"{encoder.name} does not take token ids alone for all texts", "encode with Encoder, which does it whole"
        )
    found = require("torch", precision)
    return FastEncoder(
        TorchEngine(encoder.model, found),
        encoder.tokens,
        encoder.prompts,
        name=encoder.name,
        fingerprint=encoder.fingerprint,
        dimension=encoder.dimension,
    )
