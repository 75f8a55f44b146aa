"""The model as the service uses it: one text at once, many texts by their length, and how many tokens they have."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding import Encoder, SingleEncoder
from fieldtune.encoding.engine import processors
from fieldtune.encoding.tokens import Tokens, TokenStore, budgeted
from fieldtune.encoding.torch_engine import TorchEngine
from fieldtune.errors import FieldtuneError, ModelError
from fieldtune.serving.problems import ApiError
from fieldtune.types import Side

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

log = logging.getLogger(__name__)

Vectors = NDArray[np.float32]
SAME = 0.9999
"""The cosine from which on a faster way through the model is taken for the same."""
_PIECE = 1_024
"""Padded tokens of one piece of slow work on a processor: one forward pass in one thread."""
PROBES = 64
"""Passages that a faster way is compared on."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A loaded model; `encode` is for one thread, the rest for any."""

    many: Encoder
    one: SingleEncoder | None
    """The same vectors sooner; None where the index did not find them to be the same."""
    tokens: Tokens | None
    faster: TorchEngine | None = None
    """Passes that were found to give the vectors of `many` to four digits in less time; for requests of many texts."""
    _lock: Lock = field(default_factory=Lock)

    @property
    def dimension(self) -> int:
        return self.many.dimension

    def encode(self, side: Side, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32 (len(texts), dimension)."""
        if self.one is not None:
            return self.one.encode(texts, side)
        if self.tokens is None:  # the library's tokenizer, which is not for two threads at once
            with self._lock:
                return self.many.encode(texts, side)
        return self.many.encode(texts, side)

    def tokenized(self, texts: Sequence[str], side: Side) -> TokenStore | None:
        """What the model reads of each text, its prompt and special tokens included; None where it reads texts."""
        if self.tokens is None:
            return None
        with self._lock:
            return self.tokens.store(texts, self.many.prompts[side])

    def counts(self, texts: Sequence[str], side: Side) -> NDArray[np.int64]:
        """Tokens of each text, as `tokenized` has them: (len(texts),)."""
        tokenizer: Any = self.many.model.tokenizer
        prompt, most = self.many.prompts[side], int(self.many.model.max_seq_length or 512)
        with self._lock:
            return np.array([min(most, len(tokenizer(prompt + text)["input_ids"])) for text in texts], np.int64)

    def pieces(self, counts: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Rows in pieces of like length, each one forward pass."""
        return budgeted(counts, 65_536 if self.many.device.startswith("cuda") else _PIECE)

    def forward(self, store: TokenStore, rows: NDArray[np.int64], side: Side) -> Vectors:
        """Unit vectors of a piece, (len(rows), dimension). Raises ModelError where they are not finite."""
        if self.faster is not None:
            vectors = self.faster.forward(*store.padded_arrays(rows, self.tokens.pad if self.tokens else 0))
        else:
            vectors = self.many.forward(store, rows, side)
        if not np.isfinite(vectors).all():
            raise ModelError(f"{self.many.name}: the model returned a vector with NaN", "its weights are damaged")
        return vectors

    def text_of(self, ids: Sequence[int], where: str) -> str:
        """The text that token ids of this model's tokenizer stand for. Raises ApiError 400 for an unknown id."""
        tokenizer: Any = self.many.model.tokenizer
        size = len(tokenizer)
        wrong = next((number for number in ids if not 0 <= number < size), None)
        if wrong is not None:
            raise ApiError(
                400, f"{where}: {wrong} is no token id of this model (0 to {size - 1}); send text, or ids of its own "
                "tokenizer", param=where, code="unknown_token",
            )  # fmt: skip
        with self._lock:
            return str(tokenizer.decode(list(ids), skip_special_tokens=True))


def engine_of(model: str, *, single: bool, probes: Sequence[str] = ()) -> Engine:
    """The fastest way that gives the vectors of the index; `single` says that `SingleEncoder` was found to do so.

    `probes` are passages on which a faster way is compared before it is taken. Raises ModelError when the model cannot
    be loaded.
    """
    many = Encoder.load(model)
    _cast_once(many)
    one = None
    if single:
        try:
            one = SingleEncoder(Path(many.name))
        except (FieldtuneError, OSError, LookupError, ValueError) as error:
            log.info("%s is asked through the library alone (%s)", many.name, error)
    tokens = Tokens.of(many.model) if many.tokens is not None else None
    return Engine(many, one, tokens, _faster(many, tokens, probes))


def threads_of(engine: Engine) -> int:
    """Forward passes that are worth doing at once."""
    alone = engine.tokens is None or not engine.many.device.startswith("cpu")
    return 1 if alone else processors()


def _cast_once(encoder: Encoder) -> None:
    """Weights in the format that products are computed in: autocast would cast them again with every pass.

    The vectors are the very same, since what is cast is.
    """
    import torch

    if encoder.precision == "bf16":
        for module in encoder.model.modules():
            if type(module) is torch.nn.Linear:
                module.to(torch.bfloat16)


def _faster(encoder: Encoder, tokens: Tokens | None, probes: Sequence[str]) -> TorchEngine | None:
    """All of the model in bf16, where that gives the same vectors: products alone are half of its time."""
    if tokens is None or encoder.routed or encoder.precision != "bf16" or not probes:
        return None
    model: SentenceTransformer = encoder.model
    engine = TorchEngine(model, "bf16")
    store = tokens.store(probes, encoder.prompts["passage"])
    lowest = 1.0
    for rows in budgeted(store.lengths, _PIECE):
        exact = encoder.encode([probes[row] for row in rows], "passage")
        lowest = min(lowest, float((exact * engine.forward(*store.padded_arrays(rows, tokens.pad))).sum(axis=1).min()))
    if lowest < SAME:
        log.info("embeddings are computed as the index was: all in bf16 they reach a cosine of %.6f alone", lowest)
        return None
    log.info("embeddings are computed all in bf16: their cosine to the index's is %.6f at least", lowest)
    return engine
