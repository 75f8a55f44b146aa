"""Passages that wait in a file, not in memory, until it is known which of them stay."""

from __future__ import annotations

import json
import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from fieldtune.beir_files import corpus_row
from fieldtune.types import Passage


class Spool:
    """Lines of corpus.jsonl in a file without a name in `folder`, which goes with the process whatever ends it.

    Takes 8 bytes of memory for each passage. Added to first, then read; not both in turns.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile("w+b", dir=folder, buffering=1 << 20)  # noqa: SIM115 - closed by __exit__
        self._begins = array("Q")
        self._size = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._begins)

    def add(self, passage: Passage) -> None:
        line = json.dumps(corpus_row(passage), ensure_ascii=False, default=str).encode() + b"\n"
        self._begins.append(self._size)
        self._size += self._file.write(line)

    def __getitem__(self, place: int) -> dict[str, Any]:
        """The row of corpus.jsonl."""
        self._file.seek(self._begins[place])
        row: dict[str, Any] = json.loads(self._file.readline())
        return row

    def lines(self) -> Iterator[bytes]:
        """All of them, as they stand in corpus.jsonl."""
        self._file.seek(0)
        yield from self._file
