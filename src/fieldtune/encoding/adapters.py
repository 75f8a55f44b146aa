"""One base model in memory with an adapter for each field, chosen with each request."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    from fieldtune.config import Model
    from fieldtune.encoding.precision import PrecisionSetting


class AdaptedModel:
    """A base model and its adapters; `load_adapters` makes one. Safe to use from several threads.

    The base is in memory once. Adapters of all kinds stand side by side: LoRA, bottleneck and query adapters.
    """

    def __init__(self, base: Encoder) -> None:
        self.base = base
        self._lock = threading.RLock()
        self._encoders: dict[str, Encoder] = {}
        self._switches: dict[str, Callable[[], None]] = {}
        self._off: list[Callable[[], None]] = []
        """What turns each adapter that is in the model off."""
        self._peft: Any = None
        self._now = ""
        self._weights = weights_digest(base.model)  # before anything is put in
        base.active = partial(self._using, "")

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

        Raises ModelError when there is none in `path`, it is damaged or of another base, or the name is taken; all is
        then as before.
        """
        folder = adapter_folder(path)
        record = read_record(folder)
        if not name or name in self._encoders:
            raise ModelError(f"the adapter name {name!r} is empty or taken", "give each adapter a name of its own")
        require_base(record, self._weights, self.base.dimension, folder, self.base.name)
        fingerprint = digest([self.base.fingerprint, adapter_digest(folder)])
        with self._lock:
            if record is not None and record.method == "query":
                view = self._view(record, self.base.name, resolve_model(self.base.name).fingerprint, "")
                self._encoders[name] = with_query_adapter(view, QueryAdapter.load(folder))
                return
            self._turn_off()
            try:
                if record is not None and record.method == "bottleneck":
                    self._add_bottleneck(name, folder)
                else:
                    self._add_lora(name, folder)
            finally:
                self._turn_off()
            self._encoders[name] = self._view(record, f"{self.base.name} with {name}", fingerprint, name)

    def _view(self, record: AdapterRecord | None, name: str, fingerprint: str, adapter: str) -> Encoder:
        """An encoder over the shared model, with the prompts and the length that the adapter was trained with."""
        model, base = self.base.model, self.base
        prompts, limit = dict(model.prompts), model.max_seq_length
        if record is not None:
            model.prompts = {**prompts, "query": record.query_prompt, "document": record.passage_prompt}
            model.max_seq_length = record.max_tokens or limit
        try:
            active = partial(self._using, adapter)
            return Encoder(model, name=name, fingerprint=fingerprint, precision=base.precision, active=active)
        finally:
            model.prompts, model.max_seq_length = prompts, limit

    def _add_bottleneck(self, name: str, folder: Path) -> None:
        from fieldtune.bottleneck_adapters import CONFIG, WEIGHTS, Bottlenecks

        try:
            adapters = Bottlenecks.read(self.base.model.transformers_model, folder / CONFIG, folder / WEIGHTS)
        except (ValueError, OSError) as error:
            raise ModelError(f"the adapter {folder} cannot be put in: {error}", "train it again") from None
        self._switches[name] = partial(setattr, adapters, "active", True)
        self._off.append(partial(setattr, adapters, "active", False))

    def _add_lora(self, name: str, folder: Path) -> None:
        from peft import PeftModel

        inner = f"adapter{len(self._encoders)}"  # PEFT makes it part of attribute names: no dots, whatever `name` is
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # PEFT only warns of weights that found no place
                warnings.simplefilter("ignore", DeprecationWarning)
                warnings.simplefilter("ignore", FutureWarning)
                if self._peft is None:
                    transformer = self.base.model.transformers_model
                    self._peft = PeftModel.from_pretrained(transformer, str(folder), adapter_name=inner)
                    self._off.append(self._peft.base_model.disable_adapter_layers)
                else:
                    self._peft.load_adapter(str(folder), adapter_name=inner)
        except Exception as error:  # whatever PEFT raises about a file it cannot read or that does not fit
            _take_out(self.base.model.transformers_model, inner)
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"the adapter {folder} does not fit {self.base.name}: {first}",
                "load it on the base that its adapter_config.json names",
            ) from None
        self._peft.requires_grad_(False)
        self._switches[name] = partial(self._choose_lora, inner)

    def _choose_lora(self, inner: str) -> None:
        self._peft.base_model.enable_adapter_layers()
        self._peft.set_adapter(inner)
        self._peft.requires_grad_(False)

    def _turn_off(self) -> None:
        for off in self._off:
            off()
        self._now = ""

    @contextmanager
    def _using(self, adapter: str) -> Iterator[None]:
        with self._lock:
            if self._now != adapter:
                self._turn_off()
                if adapter:
                    self._switches[adapter]()
                self._now = adapter
            yield


def _take_out(transformer: Any, adapter: str) -> None:
    """Rid a transformer of a low-rank change that PEFT put into it in part or in whole."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    there = [(name, layer) for name, layer in transformer.named_modules() if isinstance(layer, BaseTunerLayer)]
    for name, layer in there:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that another adapter is the active one now
            layer.delete_adapter(adapter)
        if not any(getattr(layer, kind) for kind in layer.adapter_layer_names):
            parent, _, last = name.rpartition(".")
            setattr(transformer.get_submodule(parent), last, layer.get_base_layer())
    if hasattr(transformer, "peft_config"):
        transformer.peft_config.pop(adapter, None)
        if not transformer.peft_config:
            del transformer.peft_config


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
