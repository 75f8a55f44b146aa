"""Queries that were generated elsewhere: JSON lines (or a table) with corpus-id, style and query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from fieldtune.config import Queries
from fieldtune.errors import InputError
from fieldtune.queries.joining import MOST_PASSAGES
from fieldtune.queries.made import Made, query_id
from fieldtune.queries.rows import FORMATS, Row, read_rows
from fieldtune.types import Passage, Qrels, Query

_LISTED = 1_000
_PASSAGE = ("corpus_id", "passage_id", "corpus_ids", "passage_ids")
_LOOKED_AT = 20


def is_generated(settings: Queries) -> bool:
    """Whether `settings.source` is a file of generated queries.

    Its rows name a passage by id and have a style, which no label has; where they have none, `settings.generated` says.
    """
    path = Path(settings.source)
    if settings.source in ("structure", "llm"):
        return False
    if not path.is_file() or not any(suffix in FORMATS for suffix in (path.suffix.lower(), Path(path.stem).suffix)):
        return False
    rows = [row for _, row in islice(read_rows(path), _LOOKED_AT) if not isinstance(row, str)]
    return any(
        ("style" in row or settings.generated) and "query" in row and any(name in row for name in _PASSAGE)
        for row in rows
    )


def read_generated(path: Path, passages: Mapping[str, Passage]) -> Made:
    """The queries with their styles; `corpus-id` is an id of our corpus, or a list of ids that all answer the query.

    Rows that are broken or name a passage that the corpus lacks are listed with their line and counted. The same query
    under several passages is one with all of them. Raises InputError when no row can be used.
    """
    queries: dict[str, Query] = {}
    qrels: Qrels = {}
    dropped: Counter[str] = Counter()
    broken: list[str] = []
    not_found: list[dict[str, Any]] = []
    total = 0
    for line, row in read_rows(path):
        total += 1
        try:
            text, style, ids = _parse(row)
        except ValueError as error:
            dropped["broken row"] += 1
            broken.append(f"{path.name}:{line}: {error}")
            continue
        absent = [key for key in ids if key not in passages]
        not_found += [{"where": f"{path.name}:{line}", "id": key, "text": text[:120]} for key in absent]
        if absent:
            dropped["generated query whose passage is not in the corpus"] += 1
            continue
        key = query_id(text)
        queries.setdefault(key, Query(key, text, style))
        qrels.setdefault(key, {}).update(dict.fromkeys(ids, 1))
    general = [key for key, row in qrels.items() if len(row) > MOST_PASSAGES]
    for key in general:
        dropped["query that fits too many passages"] += 1
        del queries[key], qrels[key]
    if not queries:
        raise InputError(_nothing(total, broken, not_found), _CURE, path=path)
    styles = Counter(query.style for query in queries.values())
    notes = [f"Queries were read from {path.name}; they are taken as generated, filtered and never a benchmark."]
    if not_found:
        notes.append(
            f"{len(not_found):,} passages that {path.name} names are not in the corpus; not_found.jsonl has all."
        )
    return Made(
        "file",
        queries,
        {"all": qrels},
        {
            "rows": total,
            "passages asked about": len({p for row in qrels.values() for p in row}),
            "queries": len(queries),
        }
        | {f"style {style}": count for style, count in sorted(styles.items())},
        dict(sorted(dropped.items())),
        tuple(notes),
        {"broken_rows": broken[:_LISTED], "not_found": not_found[:_LISTED]},
        tuple(not_found),
    )


_CURE = "each row needs corpus-id (of the corpus of this run: documents.paths or queries.corpus), style and query"


def _parse(row: Row) -> tuple[str, str, tuple[str, ...]]:
    """The query on one line, its style and the ids of its passages. Raises ValueError saying what is wrong."""
    if isinstance(row, str):
        raise ValueError(row)
    text, style = row.get("query"), row.get("style")
    if not isinstance(text, str) or not text.strip():
        raise ValueError("no query")
    if style is not None and not isinstance(style, str):
        raise ValueError(f"style {style!r} is not a word")
    given = next((row[name] for name in _PASSAGE if row.get(name) not in (None, "", [])), None)
    ids = given if isinstance(given, list) else [given]
    if not all(isinstance(key, str | int) and not isinstance(key, bool) for key in ids):
        raise ValueError("no corpus-id")
    return " ".join(text.split()), (style or "").strip() or "generated", tuple(dict.fromkeys(map(str, ids)))


def _nothing(total: int, broken: list[str], not_found: list[dict[str, Any]]) -> str:
    parts = []
    if broken:
        parts.append(f"{len(broken)} are broken, the first: {broken[0]}")
    if not_found:
        first = not_found[0]
        parts.append(
            f"{len(not_found)} name a passage that the corpus lacks, the first: {first['where']} {first['id']!r}"
        )
    return f"none of its {total} rows can be used" + ("; " + "; ".join(parts) if parts else "")
