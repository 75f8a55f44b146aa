"""Filters as a form: which fields the index's columns make, and what a filled-in form asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fieldtune.index import Index
from fieldtune.serving.problems import ApiError

_LISTED = 200
"""Values that a list to choose from may have; a column with more is searched in."""
_MATCHED = 1_000
_NAMES = {
    "source": ("Source", "来源"),
    "document": ("Document", "文档"),
    "title": ("Title", "标题"),
    "page": ("Page", "页码"),
    "section": ("Section", "章节"),
    "date": ("Date", "日期"),
}


@dataclass(frozen=True, slots=True)
class Field:
    """One filter."""

    column: str
    kind: str
    """choice, contains, number, date, yes/no."""
    values: Sequence[str]
    """To choose from; of a number its lowest and its highest."""

    def label(self, language: str) -> str:
        names = _NAMES.get(self.column)
        return names[language == "zh"] if names else self.column


_KEPT: dict[tuple[str, Any, Any], tuple[Field, ...]] = {}


def fields_of(index: Index) -> tuple[Field, ...]:
    """The filters worth showing: a column in which all passages are alike is none. Made once for each rebuild."""
    key = (str(index.path), index.meta["files"], index.meta["model_fingerprint"])
    if key not in _KEPT:
        made = _fields(index)
        _KEPT.clear()
        _KEPT[key] = made
    return _KEPT[key]


def _fields(index: Index) -> tuple[Field, ...]:
    found: list[Field] = []
    titles: Sequence[str] = ()
    for column, kind in index.columns.items():
        values = index.values(column)
        if column == "title":
            titles = values
        if (kind != "yes/no" and (not values or values[0] == values[-1])) or (column == "section" and values == titles):
            continue
        found.append(_field(column, kind, values))
    return tuple(found)


def _field(column: str, kind: str, values: Sequence[str]) -> Field:
    if kind in ("text", "texts"):
        return Field(column, "choice", values) if len(values) <= _LISTED else Field(column, "contains", ())
    return Field(column, kind, values if kind == "number" else ())


def with_named(fields: Sequence[Field], form: Mapping[str, str], index: Index) -> tuple[Field, ...]:
    """The fields, and those that an address limits the search by although all passages of the index are now alike in
    them: left out in silence they would let it find something else."""
    shown = {field.column for field in fields}
    named = {name.removeprefix("f.") for name in form if name.startswith("f.")}
    more = [
        _field(column, kind, index.values(column))
        for column, kind in index.columns.items()
        if column not in shown and named & {column, f"{column}.from", f"{column}.to"}
    ]
    return (*fields, *more)


def where_from(form: Mapping[str, str], fields: Sequence[Field], index: Index) -> dict[str, Any]:
    """What the form limits the search to. Raises ApiError 400 naming the filter that cannot be used."""
    where: dict[str, Any] = {}
    columns = index.columns
    for name in form:  # an address may be older than the index: without its filter it would find something else
        column = name.removeprefix("f.")
        if name.startswith("f.") and column not in columns and column.rpartition(".")[0] not in columns:
            raise ApiError(
                400, f"{column[:80]}: there is no such column; there are: {', '.join(columns)}", param=column[:80],
                code="unknown_column",
            )  # fmt: skip
    for field in fields:
        name = f"f.{field.column}"
        given = form.get(name, "").strip()
        if field.kind == "contains" and given:
            where[field.column] = _containing(index, field.column, given)
        elif field.kind == "yes/no" and given:
            where[field.column] = given == "yes"
        elif field.kind == "choice" and given:
            where[field.column] = given
        elif field.kind in ("number", "date"):
            ends = {end: form.get(f"{name}.{end}", "").strip() for end in ("from", "to")}
            span = {end: _typed(field, value) for end, value in ends.items() if value}
            if span:
                where[field.column] = span
    return where


def _containing(index: Index, column: str, part: str) -> list[str]:
    wanted = part.casefold()
    values = [value for value in index.values(column) if wanted in value.casefold()]
    if len(values) > _MATCHED:
        raise ApiError(
            400, f"{column}: {len(values):,} values contain {part[:40]!r}; write more of it", param=column, code="broad"
        )
    return values or [part]


def _typed(field: Field, value: str) -> str | float:
    if field.kind == "date":
        return value
    try:
        return float(value)
    except ValueError:
        raise ApiError(
            400, f"{field.column}: {value[:40]!r} is no number", param=field.column, code="invalid"
        ) from None
