"""Write an index: passages, vectors, words and columns as files, and a table; one file, replaced last, names them."""

from __future__ import annotations

import importlib.metadata
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.config import Index as Settings
from fieldtune.disk import mapped_array
from fieldtune.encoding import shortened
from fieldtune.index.approximate import build_approximate, sample
from fieldtune.index.choose import Choice, choose
from fieldtune.index.choose_three import as_trained
from fieldtune.index.columns import columns_of, write_columns
from fieldtune.index.dense import Dense, write_codes
from fieldtune.index.dev import Dev
from fieldtune.index.meta import FORMAT
from fieldtune.index.said import build_result
from fieldtune.index.signals import Given, Signals, write_signals
from fieldtune.index.snapshot import DEPTH
from fieldtune.index.store import write_passages
from fieldtune.index.table import batches, connect, own_columns, schema
from fieldtune.index.three import Three
from fieldtune.index.versions import clear, next_number, old_meta, to_disk
from fieldtune.lexical import BM25
from fieldtune.types import Passage, Result
from fieldtune.workspace import write_json

Floats = NDArray[np.float32]
_BLOCK = 16_384


@dataclass(frozen=True, slots=True)
class Base:
    """The base model's vectors of the same passages, for a look at before and after."""

    vectors: Floats
    model: str
    fingerprint: str
    dimension: int = 0
    """Of the model, where the vectors are cut already."""


def build_index(
    config: Settings,
    passages: Sequence[Passage],
    vectors: Floats,
    path: Path,
    *,
    model_fingerprint: str,
    model: str | Path,
    seed: int,
    dev: Dev | None = None,
    chosen: Choice | None = None,
    base: Base | None = None,
    single: bool = False,
    numpy: bool = False,
    model_dimension: int = 0,
    given: Given | None = None,
) -> Result:
    """Make the index of `passages` with their unit vectors (n, dim) in the folder `path`.

    `model` is the builtin name, hub id or folder that made the vectors, and `model_fingerprint` its
    `ResolvedModel.fingerprint`; a folder is kept relative to `path`, so that a run can be moved as a whole. New files
    are written beside the old ones, and `meta.json` changes over to them in one step: a reader, or a build killed at
    any moment, leaves and finds a whole index; the version before stays until the next build. On `dev` the mode and
    the weight of hybrid search are chosen (unless `chosen` says them) and recall is measured; `single` says that
    `SingleEncoder` was found to give the model's very vectors, `numpy` that `NumpyEncoder` was to give them to four
    digits. Vectors taken from an index may be cut already, of a model of `model_dimension`. `given` are sparse and
    token vectors of a model that makes them, kept beside the dense.

    Raises ValueError for vectors that do not fit the passages or are not finite and of unit length, ModelError for a
    full disk.
    """
    _check(passages, vectors, given)
    path.mkdir(parents=True, exist_ok=True)
    old = old_meta(path)
    # Tables that lie elsewhere may lie beside those of other indexes: each index has a name of its own there.
    own = str(old.get("id") or secrets.token_hex(4)) if config.uri else ""
    number = next_number(path, old, config.uri, own)
    files, name = path / f"files-{number}", f"passages-{own}-{number}" if own else f"passages-{number}"
    files.mkdir()
    kept = _write_vectors(config, files, "vectors", vectors)
    if base is not None:
        _write_vectors(config, files, "base", base.vectors)
    write_passages(files, passages)
    columns = columns_of(passages)
    write_columns(files, columns)
    (files / "words").mkdir()
    BM25(passage.content for passage in passages).save(files / "words")
    words, dense = BM25.load(files / "words"), Dense(files, "vectors", rescore=_rescore(config))
    asked = None if dev is None else shortened(dev.vectors, kept.shape[1])
    sizes = {"scanned": dense.scanned_bytes, "on disk": 4 * kept.shape[1]}
    three = None
    if given is not None:
        sizes |= write_signals(files, given)
        three = Three(dense, Signals(files))
    choice = chosen or choose(dense, words, dev, asked, DEPTH, three, given)
    table = _write_table(path, config.uri, name, passages, kept, columns)
    approximate, costs = None, None
    if len(passages) >= max(2, config.ann_above):
        approximate = build_approximate(table, kept, sample(kept, asked, seed), min_recall=config.min_recall)
    elif config.vectors == "int8" and len(passages) > 1:
        costs = sample(kept, asked, seed).recall(lambda vector, k: dense.best(vector[None], k)[1][0], kept)
    measured = approximate.measured if approximate and approximate.nprobes else costs
    meta = {
        "format": FORMAT,
        "version": number,
        "previous": old.get("version"),
        "table": name,
        "files": files.name,
        "uri": config.uri,
        "id": own,
        "count": len(passages),
        "dimension": kept.shape[1],
        "model_dimension": model_dimension or vectors.shape[1],
        "vectors": config.vectors,
        "rescore": _rescore(config),
        "bytes_per_passage": sizes,
        "model": _portable(model, path),
        "model_fingerprint": model_fingerprint,
        "single": single,
        "numpy": numpy,
        "mode": choice.mode,
        "weight": choice.weight,
        "dev": choice.record,
        "m3": None if given is None else _about(given, choice),
        "nprobes": approximate.nprobes if approximate else 0,
        "recall@10": round(measured.recall, 4) if measured else 1.0,
        "recall_measured": None if measured is None else f"{measured.queries} {measured.queries_are}",
        "columns": {column.name: column.kind for column in columns},
        "reranker": config.reranker,
        "rerank_depth": config.rerank_depth,
        "base": None
        if base is None
        else {
            "model": _portable(base.model, path),
            "fingerprint": base.fingerprint,
            "dimension": base.dimension or int(base.vectors.shape[1]),
        },
        "made_with": {package: importlib.metadata.version(package) for package in ("fieldtune", "lancedb")},
    }
    for part in files.rglob("*.*"):
        to_disk(part)
    write_json(path / "meta.json", meta)
    clear(path, config.uri, own, {number, old.get("version")})
    return build_result(config, passages, approximate, costs, choice, meta)


def _write_vectors(config: Settings, files: Path, name: str, vectors: Floats) -> Floats:
    """Write vectors and codes; returns the vectors that decide: full ones where int8 codes are settled by them."""
    cut = config.dimensions if 0 < config.dimensions < vectors.shape[1] else vectors.shape[1]
    width = vectors.shape[1] if config.vectors == "int8" else cut
    out = mapped_array(files / f"{name}.npy", np.float32, (len(vectors), width))
    for begin in range(0, len(vectors), _BLOCK):
        out[begin : begin + _BLOCK] = shortened(np.asarray(vectors[begin : begin + _BLOCK], np.float32), width)
    out.flush()
    del out
    write_codes(files, name, vectors, cut)
    kept: Floats = np.load(files / f"{name}.npy", mmap_mode="r")
    return kept


def _about(given: Given, choice: Choice) -> dict[str, Any]:
    """What meta.json says of sparse and token vectors."""
    return {
        "tokens": given.form,
        "pool": given.pool,
        "size": int(given.tokens[0].values.shape[1]),
        "depth": given.depth,
        "heads": given.heads,
        "single": given.single,
        **(choice.three or as_trained(given)),
    }


def _rescore(config: Settings) -> int:
    return config.rescore if config.vectors == "int8" else 0


def _write_table(
    path: Path, uri: str, name: str, passages: Sequence[Passage], vectors: Floats, columns: Sequence[Any]
) -> Any:
    import pyarrow as pa

    made = schema(vectors.shape[1], own_columns(columns))
    reader = pa.RecordBatchReader.from_batches(made, batches(passages, vectors, columns))
    return connect(path, uri).create_table(name, data=reader, schema=made)


def _check(passages: Sequence[Passage], vectors: Floats, given: Given | None) -> None:
    if given is not None and len(given.rows) != len(passages):
        raise ValueError(f"{len(passages)} passages cannot be indexed with token vectors of {len(given.rows)}")
    if vectors.ndim != 2 or len(vectors) != len(passages) or not len(passages) or not vectors.shape[1]:
        raise ValueError(f"{len(passages)} passages cannot be indexed with vectors of shape {vectors.shape}")
    for begin in range(0, len(vectors), 65_536):  # in blocks: vectors may be a memory-mapped file
        lengths = np.linalg.norm(vectors[begin : begin + 65_536], axis=1)
        if not np.all(np.abs(lengths - 1) < 1e-2):  # NaN fails this too; bf16 rounds to about 3 digits
            raise ValueError("vectors must be finite and of unit length")


def _portable(model: str | Path, path: Path) -> str:
    """A folder relative to the index (starting with a dot), anything else as it is."""
    folder = Path(model)
    if not folder.is_dir():
        return str(model)
    folder, run = folder.resolve(), path.resolve().parent
    # Only what lies in the same run moves with it; a model elsewhere stays where it is.
    if run != folder and run not in folder.parents:
        return str(folder)
    return "./" + Path(os.path.relpath(folder, path.resolve())).as_posix()
