"""Training rows in FlagEmbedding's JSON lines: the file between dataset and training."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fieldtune.errors import InputError
from fieldtune.types import Example
from fieldtune.workspace import read_jsonl, write_jsonl


def write_examples(path: Path, examples: Iterable[Example]) -> int:
    """Write FlagEmbedding rows; fields that are empty are left out."""
    return write_jsonl(path, map(_row, examples))


def read_examples(path: Path) -> list[Example]:
    """Read FlagEmbedding rows: query, pos, and optionally neg, pos_scores, neg_scores, prompt, known.

    Raises InputError with file and line for a row without a query or a positive.
    """
    out = []
    for line, row in read_jsonl(path):
        query, pos = row.get("query"), row.get("pos")
        if not isinstance(query, str) or not query.strip():
            raise InputError('no "query" text', path=path, line=line)
        if not _texts(pos) or not pos:
            raise InputError('"pos" must be a list of texts with at least one', path=path, line=line)
        neg, known = row.get("neg") or [], row.get("known") or []
        if not _texts(neg) or not _texts(known):
            raise InputError('"neg" and "known" must be lists of texts', path=path, line=line)
        out.append(
            Example(
                query=query,
                pos=tuple(pos),
                neg=tuple(neg),
                pos_scores=tuple(row.get("pos_scores") or ()),
                neg_scores=tuple(row.get("neg_scores") or ()),
                prompt=str(row.get("prompt") or ""),
                known=tuple(known),
            )
        )
    if not out:
        raise InputError("no training rows in it", "the dataset stage wrote none; look at its result", path=path)
    return out


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _row(example: Example) -> dict[str, Any]:
    row: dict[str, Any] = {"query": example.query, "pos": example.pos, "neg": example.neg}
    for name in ("pos_scores", "neg_scores", "prompt", "known"):
        if value := getattr(example, name):
            row[name] = value
    return row
