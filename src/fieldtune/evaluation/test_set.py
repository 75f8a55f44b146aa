"""A fingerprint of what was asked, so that later runs are only compared on the very same test set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from fieldtune.beir import RetrievalData


def digests(data: RetrievalData, split: str) -> dict[str, str]:
    """Digests (16 hex digits) of the judged queries, their qrels, the passages, and the rules of measuring.

    Free of the order of files, so that a corpus that was read in another order is the same.
    """
    qrels = data.qrels[split]
    return {
        "queries": _digest(f"{name}\0{data.queries[name].text}" for name in qrels),
        "qrels": _digest(f"{query}\0{name}\0{grade}" for query, row in qrels.items() for name, grade in row.items()),
        "corpus": _digest(f"{passage.id}\0{passage.content}" for passage in data.passages.values()),
        "rules": _digest([f"{split}\0{data.relevance_threshold}\0{data.evaluation}"]),
    }


def _digest(rows: Iterable[str]) -> str:
    """Of a set of rows, whatever their order: the sum of their digests."""
    total = sum(int.from_bytes(hashlib.sha256(row.encode("utf-8", "surrogatepass")).digest(), "big") for row in rows)
    return f"{total % (1 << 256):064x}"[:16]
