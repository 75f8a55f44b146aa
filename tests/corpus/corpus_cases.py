"""Small documents and a simple token counter for the corpus tests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fieldtune.config import Corpus
from fieldtune.corpus import build_corpus
from fieldtune.types import Block, BlockKind, Document, Result


def count_tokens(texts: Sequence[str]) -> list[int]:
    """Words, marks and Chinese characters, and two special tokens as a BERT tokenizer adds them."""
    return [len(re.findall(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+|[^\w\s]", text)) + 2 for text in texts]


def count_characters(texts: Sequence[str]) -> list[int]:
    return list(map(len, texts))


def h(text: str, level: int) -> Block:
    return Block("heading", text, level)


def p(text: str, kind: BlockKind = "paragraph", page: int | None = None) -> Block:
    return Block(kind, text, None, page)


def doc(*blocks: Block, title: str = "Doc", name: str = "doc.txt", **metadata: Any) -> Document:
    return Document(name, name, title, blocks, metadata)


def build(
    folder: Path, *documents: Document, **settings: Any
) -> tuple[Result, list[dict[str, Any]], list[dict[str, Any]]]:
    """The result, the rows of corpus.jsonl and those of duplicates.jsonl."""
    result = build_corpus(Corpus(**settings), iter(documents), count_tokens, folder)
    return result, rows(folder / "corpus.jsonl"), rows(folder / "duplicates.jsonl")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def texts(found: Iterable[dict[str, Any]]) -> list[str]:
    return [row["text"] for row in found]
