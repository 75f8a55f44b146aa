"""The files of a BEIR folder one by one, read and written: corpus, queries and qrels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldtune.errors import InputError
from fieldtune.types import Passage, Qrels, Query
from fieldtune.workspace import atomic_file, read_jsonl, write_jsonl

_NAMED = 20
"""Faulty or repeated lines named in one message."""
_HEADS = frozenset(("query-id", "query_id", "queryid", "query", "qid"))
_LAST_HEADS = frozenset(("score", "grade", "relevance", "rel", "label"))


def read_corpus(path: Path) -> dict[str, Passage]:
    out: dict[str, Passage] = {}
    for line, row in read_jsonl(path):
        key = _identifier(row, path, line, out)
        metadata = row.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise InputError("metadata must be an object", path=path, line=line)
        # What others write there may mean something else ("page": "iv"); it then stays metadata.
        places = {k: v for k, v in metadata.items() if k in ("page", "start", "end") and type(v) is int}
        out[key] = Passage(
            id=key,
            title=_text(row, "title", path, line, ""),
            text=_text(row, "text", path, line),
            group=str(metadata.get("group", "")),
            source=str(metadata.get("source", "")),
            **places,
            metadata={k: v for k, v in metadata.items() if k not in ("group", "source", *places)},
        )
    if not out:
        raise InputError("the corpus is empty", "it needs one JSON object per passage: _id, title, text", path=path)
    return out


def read_queries(path: Path) -> dict[str, Query]:
    out: dict[str, Query] = {}
    for line, row in read_jsonl(path):
        key = _identifier(row, path, line, out)
        metadata = row.get("metadata") or {}
        text = _text(row, "text", path, line)
        if not text.strip():
            raise InputError("the query has no text", "fill in or remove it", path=path, line=line)
        style = str(metadata.get("style", "")) if isinstance(metadata, dict) else ""
        out[key] = Query(key, text, style, metadata if isinstance(metadata, dict) else {})
    if not out:
        raise InputError("no queries in it", "it needs one JSON object per query: _id, text", path=path)
    return out


def read_qrels(path: Path, passages: Mapping[str, Any], queries: Mapping[str, Any]) -> tuple[Qrels, tuple[int, ...]]:
    """Returns the qrels and the lines that repeat an earlier one with the same grade.

    Raises InputError naming every line (the first 20) that cannot be used.
    """
    out: Qrels = {}
    repeated: list[int] = []
    faults: list[tuple[int, str, str]] = []
    try:
        lines = path.read_text("utf-8-sig").split("\n")  # an id may hold any other sign that splitlines() breaks at
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 ({error})", "save the file as UTF-8", path=path) from None
    for line, text in enumerate(lines, 1):
        if not text.strip() or (line == 1 and _is_header(text)):
            continue
        read = _qrels_row(text, passages, queries)
        if isinstance(read, _Fault):
            faults.append((line, read.what, read.cure))
            continue
        query, passage, grade = read
        row = out.setdefault(query, {})
        if passage not in row:
            row[passage] = grade
        elif row[passage] == grade:
            repeated.append(line)
        else:
            what = f"passage {passage!r} has two grades for query {query!r}: {row[passage]} and {grade}"
            faults.append((line, what, "keep one of the rows"))
    if faults:
        line, what, cure = faults[0]
        others = "".join(f"; line {other}: {also}" for other, also, _ in faults[1:_NAMED])
        more = f"; and {len(faults) - _NAMED:,} more" if len(faults) > _NAMED else ""
        raise InputError(f"{what}{others}{more}", cure, path=path, line=line)
    return out, tuple(repeated)


def _is_header(text: str) -> bool:
    cells = [cell.strip().casefold() for cell in text.split("\t")]
    return cells[0] in _HEADS or cells[-1] in _LAST_HEADS


@dataclass(frozen=True, slots=True)
class _Fault:
    """What is wrong with a row."""

    what: str
    cure: str


def _qrels_row(text: str, passages: Mapping[str, Any], queries: Mapping[str, Any]) -> tuple[str, str, int] | _Fault:
    parts = [part.strip() for part in text.split("\t")]
    if len(parts) == 4:  # TREC's qrels carry an unused second column
        parts = [parts[0], parts[2], parts[3]]
    if len(parts) != 3:
        return _Fault(f"expected 3 columns divided by tabs, found {len(parts)}", "query-id, corpus-id, score")
    query, passage, score = parts
    try:
        grade = int(score)
    except ValueError:
        return _Fault(f"score {score!r} is not a whole number", "grades are 0, 1, 2 ...")
    if grade < 0:
        return _Fault(f"negative grade {grade}", "grades start at 0 (not relevant)")
    if query not in queries:
        return _Fault(f"query {query!r} is not in queries.jsonl", "add it or remove the row")
    if passage not in passages:
        return _Fault(f"passage {passage!r} is not in the corpus", "add it or remove the row")
    return query, passage, grade


def said_lines(lines: Sequence[int]) -> str:
    """`line 4`, `lines 4 and 9`, `lines 1, 2, 3 ... and 40 more`."""
    named = [str(line) for line in lines[:_NAMED]]
    if len(lines) == 1:
        return f"line {named[0]}"
    if len(lines) > _NAMED:
        return f"lines {', '.join(named)} and {len(lines) - _NAMED:,} more"
    return f"lines {', '.join(named[:-1])} and {named[-1]}"


def write_corpus(path: Path, passages: Iterable[Passage]) -> int:
    return write_jsonl(path, map(corpus_row, passages))


def write_queries(path: Path, queries: Iterable[Query]) -> int:
    return write_jsonl(path, map(_query_row, queries))


def write_qrels(path: Path, qrels: Qrels) -> int:
    count = 0
    with atomic_file(path) as stream:
        stream.write("query-id\tcorpus-id\tscore\n")
        for query, grades in qrels.items():
            for passage, grade in grades.items():
                stream.write(f"{query}\t{passage}\t{grade}\n")
                count += 1
    return count


def corpus_row(passage: Passage) -> dict[str, Any]:
    """The object that stands for it in corpus.jsonl."""
    known = {
        "group": passage.group or None,
        "source": passage.source or None,
        "page": passage.page,
        "start": passage.start,
        "end": passage.end,
    }
    metadata = {k: v for k, v in known.items() if v is not None} | dict(passage.metadata)
    return {"_id": passage.id, "title": passage.title, "text": passage.text, "metadata": metadata}


def _query_row(query: Query) -> dict[str, Any]:
    row: dict[str, Any] = {"_id": query.id, "text": query.text}
    metadata = ({"style": query.style} if query.style else {}) | dict(query.metadata)
    return row | ({"metadata": metadata} if metadata else {})


def _identifier(row: Mapping[str, Any], path: Path, line: int, seen: Mapping[str, Any]) -> str:
    value = row.get("_id")
    if not isinstance(value, str | int) or isinstance(value, bool) or str(value) == "":
        raise InputError("no _id", 'each object needs "_id"', path=path, line=line)
    key = str(value)
    if any(mark in key for mark in "\t\n\r"):
        raise InputError(f"_id {key!r} holds a tab or line break", "rename it", path=path, line=line)
    if key in seen:
        raise InputError(f"_id {key!r} stands twice", "ids must differ", path=path, line=line)
    return key


def _text(row: Mapping[str, Any], name: str, path: Path, line: int, default: str | None = None) -> str:
    value = row.get(name, default)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise InputError(f'no "{name}" text', f'each object needs "{name}"', path=path, line=line)
    return value
