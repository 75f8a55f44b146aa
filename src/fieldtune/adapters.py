"""Adapters on their own: several on one base, merged into it, or trained on the vectors of a closed model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldtune.adapter_folder import RECORD, AdapterRecord, adapter_folder, read_record, write_record
from fieldtune.beir import load_beir, require_split
from fieldtune.encoding import AdaptedModel, Encoder, QueryAdapter, load_adapters, read_both
from fieldtune.errors import ConfigError, ModelError
from fieldtune.stages.inputs import content, settings_of
from fieldtune.workspace import atomic_folder, digest, write_json

if TYPE_CHECKING:
    from fieldtune.config import Config

__all__ = [
    "AdaptedModel",
    "QueryAdapter",
    "evaluate_query_adapter",
    "load_adapters",
    "merge_adapter",
    "train_query_adapter",
]

_SAME = 0.9999  # least cosine between vectors of the merged folder and of base and adapter
_OWN = {RECORD, "adapter.safetensors", "training.json"}  # files of an adapter on given vectors
_TENSORBOARD = "training/tensorboard"
_REPORTED = (f"{_TENSORBOARD}/", "training/state/reported.json")  # what training.report_to leaves beside them
_NOTHING = "nothing was left half written, and what was there before stays"
_PROBE = (
    "What does the tenant owe when the lease ends early?",
    "insulin dosage for children",
    "合同解除后的损害赔偿",
    "Total revenue rose by 4% to $12.3 million in the third quarter.",
)


def merge_adapter(base: str, adapter: str | Path, out: Path) -> list[str]:
    """Write `base` with the adapter in it as a Sentence Transformers folder that needs no adapter at run time.

    Low-rank changes are added to the matrices, a query adapter becomes a layer for queries, bottleneck adapters stay
    layers whose code lies in the folder. Kept only if it gives the vectors of base and adapter; returns lines that say
    what was made. Raises ModelError for an adapter of another base.
    """
    import torch

    from fieldtune.disk import room_to_write
    from fieldtune.training.merging import save_merged

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists already and is not empty", "give another --out")
    folder = adapter_folder(adapter)
    expected = _probed(load_adapters(base, {"merged": folder}, precision="fp32").encoder("merged"))
    with room_to_write(out, "the merged model", _NOTHING), atomic_folder(out) as temporary, torch.inference_mode():
        save_merged(Encoder.load(base, precision="fp32"), folder, temporary)
        found = _probed(Encoder.load(str(temporary), precision="fp32"))
        cosine = float(np.einsum("ij,ij->i", expected, found).min())
        if not cosine >= _SAME:
            raise ModelError(
                f"merged, the adapter gives other vectors than beside its base (cosine {cosine:.5f})",
                "this is a bug; nothing was written",
            )
    return [f"merged model: {out}", f"least cosine to base and adapter: {cosine:.6f}"]


def _probed(encoder: Encoder) -> NDArray[np.float32]:
    return np.concatenate([encoder.encode(_PROBE, "query"), encoder.encode(_PROBE, "passage")])


def train_query_adapter(config: Config, data: Path, vectors: Path, out: Path) -> list[str]:
    """Train a query adapter on a BEIR folder and on vectors of its texts from any model, and write it to `out`.

    `vectors` holds queries.npy, passages.npy and their ids (see `read_vectors`). `out` gets adapter.safetensors and
    fieldtune.json; `QueryAdapter.load(out).apply(query_vectors)` uses it. Settings are those of training.query and of
    training and negatives at large. Returns lines that say what was made. Raises ConfigError where `out` holds anything
    but an earlier adapter of this kind, which is replaced.
    """
    from fieldtune.disk import room_to_write
    from fieldtune.training.given import fit_on_given
    from fieldtune.training.reports import reporting, require_reporters

    _require_place(out)
    loaded = load_beir(data)
    require_split(data, loaded, "train")
    require_reporters(config.training.report_to)
    given = read_both(vectors)
    key = _key(config, data, vectors) if config.training.report_to else ""  # the files may be large
    with reporting(config.training.report_to, out, config, key) as report:
        adapter, state, said = fit_on_given(config, loaded, *given, report)
    record = AdapterRecord("query", base="", base_weights="", base_fingerprint="", dimension=adapter.dimension)
    with room_to_write(out, "the adapter", _NOTHING), atomic_folder(out) as temporary:
        adapter.save(temporary)
        write_record(temporary, record)
        write_json(temporary / "training.json", {"log": state.log, "settings": config.training.model_dump()})
        asked = given[0].of(list(loaded.positives("train")))
        expected, found = adapter.apply(asked), QueryAdapter.load(temporary).apply(asked)
        cosine = float(np.einsum("ij,ij->i", expected, found).min())
        if not cosine >= _SAME:
            raise ModelError(
                f"the saved adapter gives other vectors than the trained one (cosine {cosine:.5f})",
                f"this is a bug in saving, or a faulty disk; {_NOTHING}",
            )
        # What was sent to the trackers goes with the old folder: nothing is left to go on with.
        if (out / _TENSORBOARD).exists():
            (temporary / _TENSORBOARD).parent.mkdir()
            os.replace(out / _TENSORBOARD, temporary / _TENSORBOARD)
    return [*said, f"least cosine to the trained adapter: {cosine:.6f}", f"query adapter: {out}"]


def _key(config: Config, data: Path, vectors: Path) -> str:
    """Names everything that decides the adapter and its log: under another key trackers get a run of its own."""
    decisive = settings_of(config, "training", "negatives", without=("report_to",))
    return digest([decisive, content(str(data)), content(str(vectors))])


def _require_place(out: Path) -> None:
    """Raise ConfigError unless nothing in the folder would be lost but an earlier adapter on given vectors."""
    if not out.exists():
        return
    if out.is_dir():
        found = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
        files = {name for name in found if not name.startswith(_REPORTED)}  # a killed training leaves these alone
        record = read_record(out) if files and files <= _OWN else None
        # The query adapter of a tuned model knows its base's weights: it is a part of that model.
        if not files or (record is not None and record.method == "query" and not record.base_weights):
            return
    raise ConfigError(
        f"{out} exists already and holds something else than an adapter on given vectors", "give another --out"
    )


def evaluate_query_adapter(
    config: Config, data: Path, vectors: Path, adapter: Path, split: str = "test", json: Path | None = None
) -> tuple[tuple[str, ...], list[tuple[str, ...]], list[str]]:
    """Measure a model's vectors with and without a query adapter; returns columns, rows and sentences."""
    from fieldtune.evaluation import System, asked, comparison_table, dense_ranking, evaluate, write_metrics

    loaded = load_beir(data)
    require_split(data, loaded, split)
    queries, passages = read_both(vectors)
    layer = QueryAdapter.load(adapter_folder(adapter))
    before = queries.of(list(asked(loaded, split)))
    corpus = passages.of(list(loaded.passages))
    systems = [
        System(name, dense_ranking(loaded, split, found, corpus, label=name))
        for name, found in (("vectors", before), ("with the adapter", layer.apply(before)))
    ]
    evaluation = evaluate(loaded, split, systems, config.evaluation, config.seed)
    if json:
        write_metrics(json, evaluation, {})
    columns, rows = comparison_table(evaluation, ())
    return tuple(columns), [tuple(row) for row in rows], list(evaluation.notes)
