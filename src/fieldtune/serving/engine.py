"""The model as the service uses it: one text at once, many texts by their length, and how many tokens they have."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.adapter_folder import PEFT_CONFIG, RECORD, adapter_digest, weights_digest
from fieldtune.encoding import Encoder, SingleEncoder
from fieldtune.encoding.engine import Engine as Passes
from fieldtune.encoding.engine import processors
from fieldtune.encoding.m3 import M3Vectors
from fieldtune.encoding.own_export import export_of, sound_export
from fieldtune.encoding.speed import FAILURES, first_line
from fieldtune.encoding.tokens import Tokens, TokenStore, budgeted
from fieldtune.encoding.torch_engine import TorchEngine
from fieldtune.errors import FieldtuneError, ModelError
from fieldtune.index import Asker
from fieldtune.models import resolve_model
from fieldtune.serving.problems import ApiError
from fieldtune.types import Side

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from fieldtune.config import Encoding

log = logging.getLogger(__name__)

Vectors = NDArray[np.float32]
SAME = 0.9999
"""The cosine from which on a faster way through the model is taken for the same."""
_PIECE = 1_024
"""Padded tokens of one piece of slow work on a processor: one forward pass in one thread."""
PROBES = 64
"""Passages that a faster way is compared on."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model with the library around it, whose import alone takes seconds."""

    many: Encoder
    tokens: Tokens | None
    """None where the model reads texts, not token ids."""
    faster: Passes | None
    """The user's export, or passes that were found to give the vectors of `many` to four digits in less time; for
    requests of many texts."""
    weights: str = ""
    """`weights_digest` of the model as its folder has it; empty where it shares those of another."""
    merged: str = ""
    """`adapter_digest` of the adapter that was merged into it; empty for none."""


class Engine:
    """The model of an index, by the fastest ways that give its vectors; `encode` is for one thread, the rest for any.

    The library is loaded when something needs it: a question that is asked once does not.
    """

    def __init__(
        self,
        model: str,
        *,
        single: bool = False,
        probes: Sequence[str] = (),
        encoding: Encoding | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        """`single` says that `SingleEncoder` was found to give the index's vectors; `probes` are passages on which a
        faster way is compared before it is taken; `encoding` may name an export of the model; `encoder` is the model
        where it is loaded already. Raises ModelError when the model cannot be loaded."""
        self.model, self._probes, self._encoding = model, probes, encoding
        self.one = _single(model) if single else None
        """The same vectors for queries, sooner; None where it is not for this model."""
        self._lock = Lock()
        self._loading = Lock()
        self._loaded = None if encoder is None else _with_encoder(encoder)
        self._asker: Asker | None = None
        if self.one is None:
            self.whole()

    def whole(self) -> Loaded:
        """The model with the library. Raises ModelError when it cannot be loaded."""
        with self._loading:
            if self._loaded is None:
                many = Encoder.load(self.model)
                weights = weights_digest(many.model)
                plain, merged = _with_encoder(many), _merged(Path(self.model))
                faster = _faster(many, plain.tokens, self._probes, self._encoding)
                self._loaded = replace(plain, faster=faster, weights=weights, merged=merged)
            return self._loaded

    @property
    def dimension(self) -> int:
        return self.one.dimension if self.one is not None else self.whole().many.dimension

    @property
    def threads(self) -> int:
        """Forward passes that are worth doing at once."""
        if self.one is None:
            loaded = self.whole()
            if loaded.tokens is None or not loaded.many.device.startswith("cpu"):
                return 1
        return processors()

    def encode(self, side: Side, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32 (len(texts), dimension)."""
        if self.one is not None:
            return self.one.encode(texts, side)
        loaded = self.whole()
        if loaded.tokens is None:  # the library's tokenizer, which is not for two threads at once
            with self._lock:
                return loaded.many.encode(texts, side)
        return loaded.many.encode(texts, side)

    def three(self, texts: Sequence[str], heads: str, *, single: bool) -> M3Vectors:
        """Dense, sparse and token vectors of queries; `single` says that they were found to be the same without the
        library. Raises ModelError when the model's layers are not `heads`."""
        with self._lock:
            if self._asker is None or self._asker.digest != heads:
                lightest = self.one if single and self.one is not None else self.whole().many
                self._asker = Asker.of(lightest, resolve_model(self.model).folder)
            return self._asker.ask(texts, heads)

    def tokenized(self, texts: Sequence[str], side: Side) -> TokenStore | None:
        """What the model reads of each text, its prompt and special tokens included; None where it reads texts."""
        loaded = self.whole()
        if loaded.tokens is None:
            return None
        with self._lock:
            return loaded.tokens.store(texts, loaded.many.prompts[side])

    def counts(self, texts: Sequence[str], side: Side) -> NDArray[np.int64]:
        """Tokens of each text, as `tokenized` has them: (len(texts),)."""
        many = self.whole().many
        tokenizer: Any = many.model.tokenizer
        prompt, most = many.prompts[side], int(many.model.max_seq_length or 512)
        with self._lock:
            return np.array([min(most, len(tokenizer(prompt + text)["input_ids"])) for text in texts], np.int64)

    def pieces(self, counts: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Rows in pieces of like length, each one forward pass."""
        return budgeted(counts, 65_536 if self.whole().many.device.startswith("cuda") else _PIECE)

    def forward(self, store: TokenStore, rows: NDArray[np.int64], side: Side) -> Vectors:
        """Unit vectors of a piece, (len(rows), dimension). Raises ModelError where they are not finite."""
        loaded = self.whole()
        if loaded.faster is not None and loaded.tokens is not None:
            vectors = loaded.faster.forward(*store.padded_arrays(rows, loaded.tokens.pad))
        else:
            vectors = loaded.many.forward(store, rows, side)
        if not np.isfinite(vectors).all():
            raise ModelError(f"{self.model}: the model returned a vector with NaN", "its weights are damaged")
        return vectors

    def ids_of(self, text: str) -> list[int]:
        """Token ids of a text by the model's own tokenizer, special ones included; none where it reads texts."""
        if self.one is not None:
            return self.one.ids(text)
        loaded = self.whole()
        if loaded.tokens is None:
            return []
        tokenizer: Any = loaded.many.model.tokenizer
        with self._lock:
            return [int(number) for number in tokenizer(text)["input_ids"]]

    def text_of(self, ids: Sequence[int], where: str) -> str:
        """The text that token ids of this model's tokenizer stand for. Raises ApiError 400 for an unknown id."""
        tokenizer: Any = self.whole().many.model.tokenizer
        size = len(tokenizer)
        wrong = next((number for number in ids if not 0 <= number < size), None)
        if wrong is not None:
            raise ApiError(
                400, f"{where}: {wrong} is no token id of this model (0 to {size - 1}); send text, or ids of its own "
                "tokenizer", param=where, code="unknown_token",
            )  # fmt: skip
        with self._lock:
            return str(tokenizer.decode(list(ids), skip_special_tokens=True))


def _single(model: str) -> SingleEncoder | None:
    try:
        return SingleEncoder(Path(model))
    except (FieldtuneError, OSError, LookupError, ValueError) as error:
        log.info("%s is asked through the library alone (%s)", model, error)
        return None


def _with_encoder(encoder: Encoder) -> Loaded:
    _cast_once(encoder)
    return Loaded(encoder, encoder.tokens, None)


def _merged(model: Path) -> str:
    """Of the adapter that training left beside the model."""
    folder = model / "adapter"
    return adapter_digest(folder) if any((folder / name).exists() for name in (RECORD, PEFT_CONFIG)) else ""


def _cast_once(encoder: Encoder) -> None:
    """Weights in the format that products are computed in: autocast would cast them again with every pass.

    The vectors are the very same, since what is cast is.
    """
    import torch

    if encoder.precision == "bf16":
        for module in encoder.model.modules():
            if type(module) is torch.nn.Linear:
                module.to(torch.bfloat16)


def _faster(encoder: Encoder, tokens: Tokens | None, probes: Sequence[str], encoding: Encoding | None) -> Passes | None:
    """The user's export of the model; else all of the model in bf16, where that gives the same vectors: products alone
    are half of its time."""
    if tokens is None or encoder.routed or not probes:
        return None
    if encoding is not None and encoding.export and (exported := _exported(encoder, probes, encoding)) is not None:
        return exported
    if encoder.precision != "bf16":
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


def _exported(encoder: Encoder, probes: Sequence[str], encoding: Encoding) -> Passes | None:
    """None, with a warning, where it cannot be taken: a service goes on without it."""
    if not encoder.device.startswith("cpu"):
        log.warning(
            "embeddings are computed on %s, without %s, which is for processors", encoder.device, encoding.export
        )
        return None
    try:
        record, _ = export_of(encoder, encoding)
        if record is None:
            return None
        engine = sound_export(encoder, record, encoding, probes).engine
    except FAILURES as error:
        log.warning("embeddings are computed without the export %s: %s", encoding.export, first_line(error))
        return None
    log.info("embeddings are computed by %s, %s %s", encoding.export, engine.backend, engine.precision)
    return engine
