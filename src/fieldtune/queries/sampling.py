"""Which passages get queries made: drawn evenly over the documents."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from fieldtune.types import Passage


def draw_passages(passages: Mapping[str, Passage], most: int, seed: int) -> list[str]:
    """Up to `most` passage ids, one of each document in turn, in an order that depends on ids and seed alone."""
    documents: dict[str, list[str]] = {}
    for key, passage in passages.items():
        documents.setdefault(document_of(passage), []).append(key)
    queues = [
        sorted(keys, key=lambda key: stable_order(seed, key))
        for _, keys in sorted(documents.items(), key=lambda item: stable_order(seed, item[0]))
    ]
    drawn: list[str] = []
    turn = 0
    while queues and len(drawn) < most:
        drawn += [queue[turn] for queue in queues][: most - len(drawn)]
        turn += 1
        queues = [queue for queue in queues if len(queue) > turn]
    return drawn


def document_of(passage: Passage) -> str:
    """What counts as one document when passages are spread over documents."""
    return passage.group or passage.source


def stable_order(seed: int, key: str) -> str:
    """A sort key that looks random and is the same in every process."""
    return hashlib.sha256(f"{seed}\n{key}".encode("utf-8", "surrogatepass")).hexdigest()
