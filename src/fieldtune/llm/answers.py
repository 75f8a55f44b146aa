"""Answers that were paid for, by prompt hash, in an append-only file."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any

from fieldtune.llm.prompt import Reply


class Answers:
    """Each answer is on disk before it is used; a line that a kill cut off is passed over, not joined by the next.

    A useless answer (empty, or broken on the way) is kept as well, for it was paid for. It is asked for again only if
    it was empty and `cap`, the most tokens an answer may have, has been raised since.
    """

    def __init__(self, path: Path, cap: int) -> None:
        self._path = path
        self._cap = cap
        self._lock = threading.Lock()
        self._known: dict[str, Reply] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return
        data = path.read_bytes()
        for line in data.split(b"\n"):
            with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                self._remember(json.loads(line))
        if data and not data.endswith(b"\n"):
            self._append(b"\n")

    def get(self, hashed: str) -> Reply | None:
        return self._known.get(hashed)

    def put(self, hashed: str, reply: Reply) -> None:
        row: dict[str, Any] = {
            "key": hashed,
            "text": reply.text,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
        }
        if reply.error:
            row |= {"error": reply.error, "cap": self._cap}
        with self._lock:
            self._append(json.dumps(row, ensure_ascii=True).encode() + b"\n")
            self._remember(row)

    def _remember(self, row: dict[str, Any]) -> None:
        tokens = int(row["prompt_tokens"]), int(row["completion_tokens"])
        key, text, error = str(row["key"]), str(row["text"]), str(row.get("error", ""))
        if error and "length" in error and int(row.get("cap", 0)) < self._cap:
            self._known.pop(key, None)
            return
        self._known[key] = Reply(text, error, True, *tokens, paid=True)

    def _append(self, data: bytes) -> None:
        """In one write at the end of the file: two processes may interleave lines, but never tear them."""
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            while data:
                data = data[os.write(handle, data) :]
            os.fsync(handle)
        finally:
            os.close(handle)
