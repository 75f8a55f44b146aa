"""One base model in memory with an adapter for each field, chosen with each request."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldtune.adapter_folder import (
    AdapterRecord,
    adapter_digest,
    adapter_folder,
    read_record,
    require_base,
    weights_digest,
)
from fieldtune.encoding.encoder import Encoder
from fieldtune.encoding.query_adapter import QueryAdapter
from fieldtune.encoding.query_model import with_query_adapter
from fieldtune.errors import ModelError
from fieldtune.models import resolve_model
from fieldtune.types import Side
from fieldtune.workspace import digest

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from fieldtune.config import Model
    from fieldtune.encoding.precision import PrecisionSetting


class AdaptedModel:
    """A base model and its adapters; `load_adapters` makes one. Safe to use from several threads.

    The base's weights and tokenizer are in memory once. Each adapter stands in a tree of modules of its own over
    them, so that none is switched on or off: passes with several adapters run side by side. Adapters of all kinds go
    together: LoRA, bottleneck and query adapters.
    """

    def __init__(self, base: Encoder, *, weights: str = "") -> None:
        """`weights` is the `weights_digest` of the base before anything in it was cast; empty computes it."""
        self.base = base
        self._encoders: dict[str, Encoder] = {}
        self.weights = weights or weights_digest(base.model)
        """Of the base: an adapter must have been trained on these."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._encoders)

    def encoder(self, adapter: str = "") -> Encoder:
        """The encoder with this adapter, or the base's; it works where any encoder does, and all share the model.

        Its fingerprint is its own: vectors kept with one adapter are never taken for those of another. Raises
        ModelError for a name that is not loaded.
        """
        if not adapter:
            return self.base
        if adapter not in self._encoders:
            raise ModelError(f"no adapter {adapter!r} is loaded", f"there are: {', '.join(self.names) or 'none'}")
        return self._encoders[adapter]

    def encode(self, texts: Sequence[str], side: Side = "query", *, adapter: str = "") -> NDArray[np.float32]:
        """Unit vectors, float32 (len(texts), dimension), with the adapter of that name; "" is the base model.

        Raises ModelError for a name that is not loaded.
        """
        return self.encoder(adapter).encode(texts, side)

    def add(self, name: str, path: str | Path) -> None:
        """Load another adapter under `name`.

        Raises ModelError when there is none in `path`, it was trained on another base, or the name is taken.
        """
        folder = adapter_folder(path)
        record = read_record(folder)
        if not name or name in self._encoders:
            raise ModelError(f"the adapter name {name!r} is empty or taken", "give each adapter a name of its own")
        require_base(record, self.weights, self.base.dimension, folder, self.base.name)
        model = self._tree(record)
        if record is not None and record.method == "query":
            plain = self._over(model, self.base.name, resolve_model(self.base.name).fingerprint)
            self._encoders[name] = with_query_adapter(plain, QueryAdapter.load(folder))
            return
        if record is not None and record.method == "bottleneck":
            _put_bottlenecks(model, folder)
        else:
            _put_lora(model, folder, self.base.name)
        fingerprint = digest([self.base.fingerprint, adapter_digest(folder)])
        self._encoders[name] = self._over(model, f"{self.base.name} with {name}", fingerprint)

    def _tree(self, record: AdapterRecord | None) -> SentenceTransformer:
        """The base's modules anew over the very same weights, with the prompts and the length that the adapter was
        trained with."""
        base = self.base.model
        shared: dict[int, object] = {id(weight): weight for weight in (*base.parameters(), *base.buffers())}
        if self.base.tokens is not None:  # a large vocabulary takes 250 MB; a length of its own is all a tree needs
            shared[id(base.tokenizer)] = copy.copy(base.tokenizer)
        model: SentenceTransformer = copy.deepcopy(base, shared)
        if record is not None and record.base_weights:  # vectors from files say nothing of prompts
            model.prompts = {**base.prompts, "query": record.query_prompt, "document": record.passage_prompt}
            model.max_seq_length = record.max_tokens or base.max_seq_length
        return model

    def _over(self, model: SentenceTransformer, name: str, fingerprint: str) -> Encoder:
        base = self.base
        tokens = base.tokens.within(int(model.max_seq_length or base.tokens.limit)) if base.tokens else None
        return Encoder(
            model, name=name, fingerprint=fingerprint, precision=base.precision, tokens=tokens, shares_weights=True
        )


def _put_bottlenecks(model: SentenceTransformer, folder: Path) -> None:
    from fieldtune.bottleneck_adapters import CONFIG, WEIGHTS, Bottlenecks

    try:
        Bottlenecks.read(model.transformers_model, folder / CONFIG, folder / WEIGHTS)
    except (ValueError, OSError) as error:
        raise ModelError(f"the adapter {folder} cannot be put in: {error}", "train it again") from None


def _put_lora(model: SentenceTransformer, folder: Path, base: str) -> None:
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # PEFT only warns of weights that found no place
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            put = PeftModel.from_pretrained(model.transformers_model, str(folder))
    except Exception as error:  # whatever PEFT raises about a file it cannot read or that does not fit
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"the adapter {folder} does not fit {base}: {first}",
            "load it on the base that its adapter_config.json names",
        ) from None
    put.requires_grad_(False)


def load_adapters(
    base: str,
    adapters: Mapping[str, str | Path],
    *,
    settings: Model | None = None,
    precision: PrecisionSetting = "auto",
) -> AdaptedModel:
    """Load `base` once and an adapter for each name: {"law": FOLDER, "medicine": FOLDER}.

    A folder is an adapter's own, a tuned model's or a run's. Prompts and length limits are those that each adapter was
    trained with. Raises ModelError for an adapter of another base, and whatever loading the base raises.
    """
    model = AdaptedModel(Encoder.load(base, settings=settings, precision=precision))
    for name, path in adapters.items():
        model.add(name, path)
    return model
