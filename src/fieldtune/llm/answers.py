"""Answers that were paid for, by prompt hash, in an append-only file."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fieldtune.llm.budget import Tokens
from fieldtune.llm.prompt import Reply

ANSWERS = "llm.jsonl"
PLACE = f"queries/cache/{ANSWERS}"
"""Within a run's folder: one file for whatever is asked in the run, since it is also the account of what was spent."""


class Answers:
    """Each answer is on disk before it is used; a line that a kill cut off is passed over, not joined by the next.

    A useless answer (empty, broken on the way, none at all in time) is kept as well, for it was paid for. It is asked
    for again only where one of the `limits` (setting -> value) that cut it short has been raised since, or where
    `ask_again` gives all useless ones another chance.
    """

    def __init__(self, path: Path, limits: Mapping[str, float], *, ask_again: bool = False) -> None:
        self._path = path
        self._limits = limits
        self._lock = threading.Lock()
        self._known: dict[str, Reply] = {}
        self.paid: list[Tokens] = []
        """Of each answer that the file held when it was opened."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return
        data = path.read_bytes()
        for line in data.split(b"\n"):
            with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                row = json.loads(line)
                key, reply = str(row["key"]), _reply(row)
                self.paid.append(Tokens(reply.prompt_tokens, reply.completion_tokens))
                raised = reply.limit and float(row.get("was", 0)) < limits.get(reply.limit, 0)
                if reply.error and (raised or ask_again):
                    self._known.pop(key, None)
                else:
                    self._known[key] = reply
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
            row["error"] = reply.error
        if reply.limit:
            row |= {"limit": reply.limit, "was": self._limits.get(reply.limit, 0)}
        with self._lock:
            self._append(json.dumps(row, ensure_ascii=True).encode() + b"\n")
            self._known[hashed] = _reply(row)

    def _append(self, data: bytes) -> None:
        """In one write at the end of the file: two processes may interleave lines, but never tear them."""
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            while data:
                data = data[os.write(handle, data) :]
            os.fsync(handle)
        finally:
            os.close(handle)


def _reply(row: Mapping[str, Any]) -> Reply:
    tokens = int(row["prompt_tokens"]), int(row["completion_tokens"])
    limit = str(row.get("limit", ""))
    return Reply(str(row["text"]), str(row.get("error", "")), True, *tokens, paid=True, limit=limit)
