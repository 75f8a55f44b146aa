"""Adapters beside the model of an index: one base in memory, an adapter for each field, chosen with each request."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fieldtune.adapter_folder import AdapterRecord, adapter_digest, adapter_folder, read_record
from fieldtune.config import Model
from fieldtune.encoding import AdaptedModel, Encoder
from fieldtune.errors import ModelError
from fieldtune.serving.engine import Engine

log = logging.getLogger(__name__)

BASE = "base"
"""How the adapters' base is called where it is not the index's model."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A model over the weights of a base; or that base, where the index was made with another model."""

    name: str
    """As a search names it."""
    model: str
    """As other requests name it."""
    parent: str | None
    """The model that it stands on, as requests name it."""
    method: str
    """lora, bottleneck or query; empty for the base."""
    digest: str
    """Of its files; empty for the base."""
    engine: Engine

    @property
    def fingerprint(self) -> str:
        """Of what it makes of queries."""
        return self.engine.whole().many.fingerprint

    def is_in(self, engine: Engine) -> bool:
        """Whether that model is the base with this very adapter merged into it."""
        return bool(self.digest) and engine.whole().merged == self.digest

    def leaves_passages(self, engine: Engine) -> bool:
        """Whether it gives passages the vectors that the other model gives them, so that one index is for both."""
        return self.engine.whole().many.passage_fingerprint == engine.whole().many.passage_fingerprint


def open_adapters(folders: Mapping[str, str], engine: Engine, trained_from: Model, name: str) -> dict[str, Adapter]:
    """Load adapters of one base: the index's model (`engine`), or the model that it was trained from.

    `name` is what clients call the index's model; an adapter is NAME:ADAPTER. Raises ModelError for adapters of
    another base or of two, and for one that does not say of which it is.
    """
    if not folders:
        return {}
    records = {one: _record(one, adapter_folder(path)) for one, path in folders.items()}
    _require_one_base(records)
    record = next(iter(records.values()))
    loaded = engine.whole()
    opened: dict[str, Adapter] = {}
    if record.base_weights == loaded.weights:
        adapted, parent = AdaptedModel(loaded.many, weights=loaded.weights), name
    else:
        adapted, parent = AdaptedModel(_other_base(record, next(iter(records)), engine, trained_from)), f"{name}:{BASE}"
        opened[BASE] = Adapter(BASE, parent, None, "", "", Engine(adapted.base.name, encoder=adapted.base))
        log.info("the adapters stand on %s, loaded beside the index's model", adapted.base.name)
    for one, path in folders.items():
        folder = adapter_folder(path)
        adapted.add(one, folder)
        own = Engine(str(folder), encoder=adapted.encoder(one))
        opened[one] = Adapter(one, f"{name}:{one}", parent, records[one].method, adapter_digest(folder), own)
    return opened


def _record(name: str, folder: Path) -> AdapterRecord:
    record = read_record(folder)
    if record is None or not record.base_weights:
        raise ModelError(
            f"the adapter {name} ({folder}) does not say which model it was trained on",
            "serve adapters that fieldtune trained with training.method lora, adapter or query; merge others into "
            "their base with `fieldtune adapter merge`, and make an index with that",
        )
    return record


def _require_one_base(records: Mapping[str, AdapterRecord]) -> None:
    (first, one), *others = records.items()
    for name, record in others:
        if record.base_weights != one.base_weights:
            raise ModelError(
                f"the adapters {first} and {name} stand on two bases: {one.base} and {record.base}",
                "serve those of each base by a server of its own; one server holds one base",
            )


def _other_base(record: AdapterRecord, name: str, engine: Engine, trained_from: Model) -> Encoder:
    """The model that the index's was trained from, if the adapters stand on that."""
    try:
        base = Encoder.load(trained_from.base, settings=trained_from)
        why = "" if AdaptedModel(base).weights == record.base_weights else "which the run names as its base"
    except ModelError as error:
        why = f"which cannot be loaded: {error.message}"
    if why:
        raise ModelError(
            f"the adapter {name} was trained on {record.base}, which is neither the index's model, {engine.model}, nor "
            f"what that was trained from, {trained_from.base} ({why})",
            f"serve a run whose index, or whose model, was made from {record.base}; --set model.base={record.base} "
            "says so where the run does not; or train the adapter on one of these",
        )
    return base
