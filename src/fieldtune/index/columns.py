"""Columns that a search can be limited by: typed when the index is built, compared as numbers when it is asked."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fieldtune.types import Passage

Kind = Literal["text", "texts", "number", "date", "yes/no"]
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d.*)?")
_EXACT = 2**53
"""Whole numbers beyond are not held exactly by a float64: account numbers, which are text here."""
_MOST = 64
"""Own columns at most, the most frequent ones; more are a table of something else."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of all passages."""

    name: str
    kind: Kind
    values: Sequence[Any]
    """A value for each passage: None where it has none; of texts, a list."""


def columns_of(passages: Sequence[Passage]) -> list[Column]:
    """source, document, page, title and section, and the own columns of the metadata that are of one type throughout.

    `section` holds the parts of the title's path and of metadata's `path`; an own column of that name stands instead.
    """
    made = {
        "source": Column("source", "text", [one.source for one in passages]),
        "document": Column("document", "text", [one.group for one in passages]),
        "title": Column("title", "text", [one.title for one in passages]),
        "page": Column("page", "number", [one.page for one in passages]),
        "section": Column("section", "texts", [_sections(one) for one in passages]),
    }
    counts: dict[str, int] = {}
    for passage in passages:
        for name in passage.metadata:
            counts[str(name)] = counts.get(str(name), 0) + 1
    own = sorted(counts, key=lambda name: (-counts[name], name))[:_MOST]
    for name in own:
        values = [one.metadata.get(name) for one in passages]
        kind = _kind(values)
        if kind is not None and (name not in made or name == "section"):
            made[name] = Column(name, kind, [_plain(value, kind) for value in values])
    return list(made.values())


def _sections(passage: Passage) -> list[str]:
    path = passage.metadata.get("path")
    more = [path] if isinstance(path, str) else path if isinstance(path, list | tuple) else []
    return list(dict.fromkeys([*passage.title.split(" > "), *map(str, more)]))


def _kind(values: Sequence[Any]) -> Kind | None:
    """What all values are that are there; None for what cannot be compared."""
    kinds = {_kind_of(value) for value in values if value is not None}
    if len(kinds) == 1:
        return kinds.pop()
    return "text" if kinds and kinds <= {"text", "date", "number"} else None


def _kind_of(value: Any) -> Kind | None:
    if isinstance(value, bool):
        return "yes/no"
    if isinstance(value, int | float):
        return "number" if math.isfinite(value) and abs(value) <= _EXACT else "text"
    if isinstance(value, str):
        return "date" if _DATE.fullmatch(value) else "text"
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return "texts"
    return None


def _plain(value: Any, kind: Kind) -> Any:
    if value is None or kind in ("number", "yes/no"):
        return value
    if kind == "texts":
        return [_printable(one) for one in value]
    return _printable(str(value))


def _printable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def write_columns(folder: Path, columns: Sequence[Column]) -> None:
    """Numbers as float64, everything else as codes into the sorted list of its values."""
    for place, column in enumerate(columns):
        path = folder / f"column-{place}.npy"
        if column.kind in ("number", "yes/no"):
            numbers = [math.nan if value is None else float(value) for value in column.values]
            np.save(path, np.array(numbers, np.float64))
            continue
        several = column.kind == "texts"
        lists = [[] if one is None else one if several else [one] for one in column.values]
        values = sorted({_printable(value) for row in lists for value in row})
        code = {value: place for place, value in enumerate(values)}
        np.save(path, np.array([code[_printable(value)] for row in lists for value in row], np.int32))
        ends = np.cumsum([0, *map(len, lists)])
        np.save(folder / f"column-{place}-ends.npy", np.asarray(ends, np.int64))
        (folder / f"column-{place}.json").write_text(json.dumps(values, ensure_ascii=False), "utf-8")


def sql_type(kind: Kind) -> Any:
    """The type of the table's column."""
    import pyarrow as pa

    types: Mapping[str, Any] = {"number": pa.float64(), "yes/no": pa.bool_(), "texts": pa.list_(pa.string())}
    return types.get(kind, pa.string())


Mask = NDArray[np.bool_]
