"""Rows of a labels file, whatever its format: CSV, TSV, JSON lines, a JSON list, Parquet, or Arrow."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fieldtune.errors import InputError

FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".arrow")

Row = dict[str, Any] | str
"""The cells by lower-cased column name, or what is wrong with the row."""


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (line or, in Parquet and Arrow, row number; row). `.gz` is unpacked on the way.

    Raises InputError when the file as a whole cannot be read; a broken row is yielded as what is wrong with it.
    """
    suffix = Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError("not a format of labels", f"give a BEIR folder or one of {', '.join(FORMATS)}", path=path)
    try:
        if suffix in (".parquet", ".arrow"):
            yield from _columns(path, suffix)
            return
        raw = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
    except FileNotFoundError:
        raise InputError("no such file", "check queries.from", path=path) from None
    except PermissionError:
        raise InputError("no permission to read it", path=path) from None
    except (gzip.BadGzipFile, EOFError) as error:
        raise InputError(f"damaged gzip file ({error})", "fetch the file again", path=path) from None
    text = _decode(raw, path)
    if suffix in (".csv", ".tsv"):
        yield from _table(text, path, "\t" if suffix == ".tsv" else "")
    elif suffix == ".json" and text.lstrip().startswith("["):
        yield from _list(text, path)
    else:
        yield from _lines(text)


def _decode(raw: bytes, path: Path) -> str:
    """UTF-8, or the encoding that spreadsheets write on the user's machine."""
    try:
        return raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        from charset_normalizer import from_bytes

        best = from_bytes(raw).best()
        if best is None:
            raise InputError(f"unknown text encoding ({error})", "save the file as UTF-8", path=path) from None
        return str(best)


def _lines(text: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, _named(json.loads(line))
            except ValueError as error:
                yield number, f"not valid JSON ({error})"


def _list(text: str, path: Path) -> Iterator[tuple[int, Row]]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise InputError(
            f"not valid JSON ({error})", "mend the file", path=path, line=getattr(error, "lineno", None)
        ) from None
    for number, value in enumerate(values, 1):
        yield number, _named(value)


def _table(text: str, path: Path, delimiter: str) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(1 << 30)
    head = text.split("\n", 1)[0]
    delimiter = delimiter or max(",;\t|", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    names = [name.strip() for name in next(reader, [])]
    line = reader.line_num + 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                if len(cells) > len(names):
                    yield line, f"{len(cells)} cells under {len(names)} columns"
                else:
                    yield line, _named(dict(zip(names, cells, strict=False)))
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"not valid CSV ({error})", "check the quotes near that line", path=path, line=line) from None


def _columns(path: Path, suffix: str) -> Iterator[tuple[int, Row]]:
    import pyarrow
    import pyarrow.parquet

    path.open("rb").close()  # a plain error for what is missing or forbidden
    try:
        number = 0
        # What `datasets` writes with save_to_disk is an Arrow stream.
        stream = suffix == ".arrow"
        batches = pyarrow.ipc.open_stream(path) if stream else pyarrow.parquet.ParquetFile(path).iter_batches(1_000)
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield number, _named(row)
    except pyarrow.ArrowException as error:
        kind = suffix.removeprefix(".").title()
        raise InputError(f"not a {kind} file that can be read ({error})", "write the file again", path=path) from None


def label_files(folder: Path) -> list[Path]:
    """The labels files of a folder, also of one that `datasets` wrote (save_to_disk), without what describes them."""
    own = {"dataset_info.json", "state.json", "dataset_dict.json", "dataset_infos.json"}
    found = (path for path in folder.rglob("*") if path.suffix.lower() in FORMATS and path.name not in own)
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _named(value: Any) -> Row:
    if not isinstance(value, dict):
        return f"expected an object, found {type(value).__name__}"
    return {column_name(str(name)): cell for name, cell in value.items()}


def column_name(name: str) -> str:
    """A column's name as rows have it: `Query-ID ` is `query_id`."""
    return name.strip().lower().replace("-", "_").replace(" ", "_")
