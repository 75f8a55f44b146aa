"""Tables of ready passages: CSV, TSV and JSON lines, packed or not; one document per row."""

from __future__ import annotations

import csv
import gzip
import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from fieldtune.documents.clean import title_from_name
from fieldtune.documents.encoding import detect_encoding
from fieldtune.documents.find import extension
from fieldtune.documents.parsed import Parsed, Report, UnreadableError
from fieldtune.errors import InputError
from fieldtune.types import Block
from fieldtune.workspace import read_jsonl

_TEXT = ("text", "passage", "content")
_ID = ("_id", "id")


def read_ready(path: Path, source: str, report: Report) -> Iterator[Parsed]:
    """Yield a document per row with `metadata["ready"]`, `["passage_id"]` and, if given, `["group"]`.

    The columns are `text` (or passage, content) and, as far as there, `_id` (or id), `title`, `group`; the others are
    kept in the metadata. Rows without text and repeated ids are dropped and counted.
    Raises UnreadableError for a table without a text column, naming the columns found.
    """
    rows = _json_rows(path) if ".jsonl" in extension(path.name) else _csv_rows(path)
    seen: set[str] = set()
    stem = title_from_name(source)
    for line, row in rows:
        text = _first(row, _TEXT)
        if text is None:
            if not seen and not report.rows_dropped:
                columns = ", ".join(map(repr, row)) or "none"
                raise UnreadableError(
                    f"line {line}: no text column (found: {columns})", 'name the column of the passages "text"'
                )
            _count(report, "rows without text")
            continue
        if not str(text).strip():
            _count(report, "rows without text")
            continue
        given = _first(row, _ID)
        key = str(given) if given not in (None, "") else f"{stem}-{line}"
        if key in seen:
            _count(report, "rows with a repeated id")
            continue
        seen.add(key)
        yield _document(row, str(text), key)


def _document(row: Mapping[str, Any], text: str, key: str) -> Parsed:
    nested = row.get("metadata")
    metadata: dict[str, Any] = dict(nested) if isinstance(nested, dict) else {}
    used = {*_TEXT, *_ID, "title", "group"} | ({"metadata"} if isinstance(nested, dict) else set())
    metadata |= {name: value for name, value in row.items() if name not in used and value not in (None, "")}
    group = row.get("group") or metadata.pop("group", None)
    metadata |= {"ready": True, "passage_id": key} | ({"group": str(group)} if group else {})
    page = metadata.get("page")
    block = Block("paragraph", text.strip(), None, page if isinstance(page, int) else None)
    return Parsed(str(row.get("title") or "").strip(), (block,), metadata)


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _count(report: Report, reason: str) -> None:
    report.rows_dropped[reason] = report.rows_dropped.get(reason, 0) + 1


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        yield from read_jsonl(path)
    except InputError as error:
        where = f"line {error.line}: " if error.line else ""
        # The message begins with the path, which the record of the failure names already.
        cause = error.message.split(": ", 1)[-1]
        raise UnreadableError(where + cause, error.hint) from None


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with _open_text(path) as stream:
        head = stream.readline()
        if not head.strip():
            raise UnreadableError("the first line is empty", "it must name the columns")
        delimiter = "\t" if ".tsv" in extension(path.name) else max(",;\t|", key=head.count)
        names = [name.strip().strip("\ufeff").lower() for name in next(csv.reader([head], delimiter=delimiter))]
        reader = csv.reader(stream, delimiter=delimiter)
        try:
            for cells in reader:
                if cells:
                    yield reader.line_num + 1, dict(zip(names, cells, strict=False))
        except csv.Error as error:
            raise UnreadableError(f"line {reader.line_num + 1}: {error}", "check the quotation marks") from None
        except (gzip.BadGzipFile, EOFError) as error:
            raise UnreadableError(f"damaged gzip file ({error})", "fetch the file again") from None


def _open_text(path: Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return io.TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8-sig", errors="replace", newline="")
    return path.open(encoding=detect_encoding(path).name, errors="replace", newline="")
