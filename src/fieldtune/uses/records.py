"""Texts of the user's own table, one record a row: CSV, TSV, JSON lines, JSON or Parquet in any common encoding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldtune.errors import InputError
from fieldtune.queries.rows import column_name, read_rows

_LISTED = 200
_IDS = ("_id", "id")


@dataclass(frozen=True, slots=True)
class Record:
    """One row that can be used."""

    line: int
    """Where it stands in the file, from 1; of Parquet the number of the row."""
    id: str
    """As the column `_id`, `id` or the one asked for says, else the line."""
    text: str
    label: str = ""
    """The class or kind; "" where no such column was asked for."""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Records:
    """What a table held; nothing disappears without being counted in `dropped`."""

    rows: tuple[Record, ...]
    dropped: Mapping[str, int]
    broken: tuple[str, ...]
    """`file:line: what is wrong`, the first 200."""

    @property
    def texts(self) -> list[str]:
        return [row.text for row in self.rows]

    @property
    def labels(self) -> list[str]:
        return [row.label for row in self.rows]


def read_records(path: Path, *, text: str = "text", label: str = "", group: str = "", id: str = "") -> Records:
    """Read the named columns; case, hyphens and spaces of their names do not matter, "" leaves a column out.

    A row without text or label is dropped and counted, a broken one listed too. Raises InputError for a file that
    cannot be read, a column that no row has (naming those there are), and a table without a usable row.
    """
    wanted = {kind: column_name(name) for kind, name in (("text", text), ("label", label), ("group", group)) if name}
    ids = (column_name(id),) if id else _IDS
    rows: list[Record] = []
    dropped: Counter[str] = Counter()
    broken: list[str] = []
    columns: dict[str, None] = {}
    for line, row in read_rows(path):
        if isinstance(row, str):
            dropped["broken row"] += 1
            broken.append(f"{path.name}:{line}: {row}")
            continue
        columns |= dict.fromkeys(row)
        try:
            cells = {kind: _cell(row, name) for kind, name in wanted.items()}
            key = next((cell for cell in (_cell(row, name) for name in ids) if cell), str(line))
        except ValueError as error:
            dropped["broken row"] += 1
            broken.append(f"{path.name}:{line}: {error}")
            continue
        missing = next((kind for kind in ("text", "label") if kind in wanted and not cells[kind]), "")
        if missing:
            dropped[f"row without {missing}"] += 1
            continue
        rows.append(Record(line, key, cells["text"], cells.get("label", ""), cells.get("group", "")))
    for kind, name in (*wanted.items(), *((("id", ids[0]),) if id else ())):
        if columns and name not in columns:
            there = ", ".join(map(repr, columns))
            raise InputError(f"no column {name!r} (found: {there})", f"say which column holds the {kind}", path=path)
    if not rows:
        said = f": {broken[0]}" if broken else ""
        raise InputError(f"no row with a text in it{said}", "the first line of a CSV names its columns", path=path)
    return Records(tuple(rows), dict(dropped), tuple(broken[:_LISTED]))


def _cell(row: Mapping[str, Any], name: str) -> str:
    """Raises ValueError for what is no text."""
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, list | dict):
        raise ValueError(f"{name} is a {type(value).__name__}, not a text")
    # A lone half of a character, as broken JSON escapes give it, cannot be written or tokenized.
    return " ".join(str(value).encode("utf-8", "replace").decode("utf-8").split())
