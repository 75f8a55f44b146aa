"""The LanceDB table: a row per passage, and the one query that everything here asks of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.types import Passage

_ROWS = 2_048
"""Per written batch: with 1,024 dimensions about 8 MB of vectors at a time."""
_COLUMNS = ("id", "title", "text", "group", "source", "page", "start", "end", "metadata")


def schema(dimension: int) -> Any:
    import pyarrow as pa

    text = {name: pa.string() for name in ("id", "title", "text", "group", "source")}
    numbers = {"page": pa.int32(), "start": pa.int64(), "end": pa.int64()}
    types = text | numbers | {"metadata": pa.string(), "vector": pa.list_(pa.float32(), dimension)}
    return pa.schema(list(types.items()))


def batches(passages: Sequence[Passage], vectors: NDArray[np.float32]) -> Iterator[Any]:
    """Arrow record batches of `schema`, made one at a time."""
    import pyarrow as pa

    made = schema(vectors.shape[1])
    for begin in range(0, len(passages), _ROWS):
        block = passages[begin : begin + _ROWS]
        flat = np.ascontiguousarray(vectors[begin : begin + _ROWS]).reshape(-1)
        columns: list[Any] = [
            pa.array([printable(getattr(passage, name)) for passage in block], pa.string()) for name in _COLUMNS[:5]
        ]
        columns += [
            pa.array([getattr(passage, name) for passage in block], made.field(name).type) for name in _COLUMNS[5:8]
        ]
        columns.append(pa.array([json.dumps(dict(passage.metadata), default=str) for passage in block], pa.string()))
        columns.append(pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), vectors.shape[1]))
        yield pa.RecordBatch.from_arrays(columns, schema=made)


def printable(text: str) -> str:
    """The text with what UTF-8 cannot hold (half a surrogate pair, from broken JSON) replaced by "?"."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def nearest(
    table: Any, vector: NDArray[np.float32], k: int, *, nprobes: int = 0, columns: Sequence[str] = _COLUMNS
) -> list[dict[str, Any]]:
    """The k best rows by cosine (in `score`), best first, ties by id; `nprobes` of 0 compares with every passage."""
    asked = table.search(vector, vector_column_name="vector").distance_type("dot").limit(k)
    asked = asked.nprobes(nprobes) if nprobes else asked.bypass_vector_index()
    rows: list[dict[str, Any]] = asked.select([*columns, "_distance"]).to_arrow().to_pylist()
    for row in rows:
        row["score"] = 1.0 - row.pop("_distance")  # LanceDB's "dot" distance of unit vectors
    return sorted(rows, key=lambda row: (-row["score"], row["id"]))


def passage_of(row: dict[str, Any]) -> Passage:
    return Passage(**{name: row[name] for name in _COLUMNS[:8]}, metadata=json.loads(row["metadata"]))
