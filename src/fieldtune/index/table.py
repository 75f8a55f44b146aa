"""The LanceDB table: a row per passage with its typed columns and vector, for lists at scale and for other tools."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.index.columns import Column, sql_type
from fieldtune.types import Passage

_ROWS = 2_048
"""Per written batch: with 1,024 dimensions about 8 MB of vectors at a time."""
_COLUMNS = ("id", "title", "text", "group", "source", "page", "start", "end")


def connect(path: Path, uri: str) -> Any:
    """The database: a folder, or what the URI of an object store says."""
    import lancedb

    return lancedb.connect(uri or str(path))


def schema(dimension: int, own: Sequence[Column]) -> Any:
    import pyarrow as pa

    text = {name: pa.string() for name in ("id", "title", "text", "group", "source")}
    numbers = {"row": pa.int64()} | {"page": pa.int32(), "start": pa.int64(), "end": pa.int64()}
    types = text | numbers | {"metadata": pa.string(), "vector": pa.list_(pa.float32(), dimension)}
    return pa.schema([*types.items(), *((f"own_{column.name}", sql_type(column.kind)) for column in own)])


def batches(passages: Sequence[Passage], vectors: NDArray[np.float32], columns: Sequence[Column]) -> Iterator[Any]:
    """Arrow record batches of `schema`, made one at a time."""
    import pyarrow as pa

    own = own_columns(columns)
    made = schema(vectors.shape[1], own)
    for begin in range(0, len(passages), _ROWS):
        block = passages[begin : begin + _ROWS]
        flat = np.array(vectors[begin : begin + _ROWS], np.float32).reshape(-1)
        rows = range(begin, begin + len(block))
        cells: dict[str, Any] = {
            name: [_printable(getattr(passage, name)) for passage in block] for name in _COLUMNS[:5]
        }
        cells |= {name: [getattr(passage, name) for passage in block] for name in _COLUMNS[5:]}
        cells |= {"row": list(rows), "metadata": [json.dumps(dict(one.metadata), default=str) for one in block]}
        cells |= {f"own_{column.name}": column.values[begin : begin + _ROWS] for column in own}
        arrays = [
            pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), vectors.shape[1])
            if field.name == "vector"
            else pa.array(cells[field.name], field.type)
            for field in made
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=made)


def own_columns(columns: Sequence[Column]) -> list[Column]:
    """Those that LanceDB can name; the others stand in `metadata` alone."""
    given = ("source", "document", "title", "page")
    return [one for one in columns if one.name not in given and one.name.isidentifier()]


def _printable(text: str) -> str:
    """The text with what UTF-8 cannot hold (half a surrogate pair, from broken JSON) replaced by "?"."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def nearest(table: Any, vector: NDArray[np.float32], k: int, *, nprobes: int) -> NDArray[np.int64]:
    """The k best rows by inner product among `nprobes` lists, in no order."""
    asked = table.search(vector, vector_column_name="vector").distance_type("dot").limit(k).nprobes(nprobes)
    found = asked.select(["row", "_distance"]).to_arrow()
    return np.asarray(found["row"].to_numpy(), np.int64)
