"""Write passages and vectors to a LanceDB table; one small file, replaced last, decides which table counts."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.config import Index as Settings
from fieldtune.index.approximate import Approximate, build_approximate
from fieldtune.index.table import batches, printable, schema
from fieldtune.types import Passage, Result
from fieldtune.workspace import write_json

FORMAT = 1
"""Of meta.json and the table's columns; search refuses another."""


def build_index(
    config: Settings,
    passages: Sequence[Passage],
    vectors: NDArray[np.float32],
    path: Path,
    *,
    model_fingerprint: str,
    model: str | Path,
    seed: int,
    query_vectors: NDArray[np.float32] | None = None,
    single: bool = False,
) -> Result:
    """Make the index of `passages` with their unit vectors (n, dim) in the folder `path`.

    `model` is the builtin name, hub id or folder that made the vectors, and `model_fingerprint` its
    `ResolvedModel.fingerprint`; a folder is kept relative to `path`, so that a run can be moved as a whole. A new
    table is written beside the old one, and `meta.json` changes over to it in one step: a reader, or a build killed at
    any moment, leaves and finds a whole index. `query_vectors` (m, dim) are what recall is measured with;
    `single` says that `SingleEncoder` was found to give the model's very vectors.

    Raises ValueError for vectors that do not fit the passages or are not finite and of unit length.
    """
    import lancedb
    import pyarrow as pa

    vectors = np.asarray(vectors, np.float32)
    _check(passages, vectors)
    path.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(old.stem.rpartition("-")[2]) for old in path.glob("passages-*.lance")), default=0)
    name = f"passages-{number}"
    columns = schema(vectors.shape[1])
    reader = pa.RecordBatchReader.from_batches(columns, batches(passages, vectors))
    table = lancedb.connect(str(path)).create_table(name, data=reader, schema=columns)
    approximate: Approximate | None = None
    if len(passages) >= max(2, config.ann_above):
        approximate = build_approximate(table, vectors, query_vectors, min_recall=config.min_recall, seed=seed)
    meta = {
        "format": FORMAT,
        "table": name,
        "count": len(passages),
        "dimension": vectors.shape[1],
        "model": _portable(model, path),
        "model_fingerprint": model_fingerprint,
        "single": single,
        "nprobes": approximate.nprobes if approximate else 0,
        "recall@10": round(approximate.recall, 4) if approximate and approximate.nprobes else 1.0,
        "made_with": {package: importlib.metadata.version(package) for package in ("fieldtune", "lancedb")},
    }
    write_json(path / "meta.json", meta)
    for old in path.glob("passages-*.lance"):  # the table before, and what killed builds left
        if old.stem != name:
            shutil.rmtree(old, ignore_errors=True)
    return _result(config, passages, approximate, meta)


def _result(
    config: Settings, passages: Sequence[Passage], approximate: Approximate | None, meta: dict[str, Any]
) -> Result:
    notes = []
    if approximate is None:
        notes.append(f"search compares with all {len(passages):,} passages (exact)")
    else:
        measured = f"recall@10 {approximate.recall:.3f} against exact search on {approximate.queries}"
        measured += f" {approximate.queries_are}"
        if approximate.nprobes:
            notes.append(
                f"approximate index: {measured}, reading {approximate.nprobes} of {approximate.partitions} lists"
            )
        else:
            notes.append(
                f"the approximate index was thrown away ({measured} with half of its lists, wanted "
                f"{config.min_recall}); search stays exact"
            )
    broken = sum(printable(passage.content) != passage.content for passage in passages)
    if broken:
        notes.append(f"{broken} passages held characters that are no valid Unicode; the index shows them as ?")
    counts = {"passages": len(passages), "dimensions": meta["dimension"], "recall@10": meta["recall@10"]}
    return Result("index", counts, notes=tuple(notes), details={"meta": meta})


def _check(passages: Sequence[Passage], vectors: NDArray[np.float32]) -> None:
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
