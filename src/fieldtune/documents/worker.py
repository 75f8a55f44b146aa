"""A child process that reads files: a native parser that crashes or hangs takes this process down, not the run.

It speaks JSON lines: one task on standard input, one reply on standard output, until the input ends.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from fieldtune.documents.one import read_one
from fieldtune.documents.parsed import Parsed, Report, UnreadableError
from fieldtune.workspace import atomic_file, digest


def read_to_cache(task: dict[str, Any]) -> dict[str, Any]:
    """Read `task["path"]` and write its documents to `task["cache"]`; return the reply.

    The cache file holds one line per document and a last line with the report, so that it stands alone.
    """
    path, source, content = Path(os.fsdecode(bytes.fromhex(task["path"]))), task["source"], task["content"]
    report = Report()
    counts: Counter[str] = Counter()
    identifier = digest([source, content])
    try:
        with atomic_file(Path(task["cache"])) as stream:
            parts = read_one(path, source, report, max_bytes=task["max_bytes"], max_word_loss=task["max_word_loss"])
            for number, parsed in enumerate(parts):
                stream.write(_row(parsed, source, identifier if number == 0 else f"{identifier}-{number + 1}") + "\n")
                _tally(parsed, counts)
            done = {"report": dataclasses.asdict(report), "counts": dict(counts)}
            stream.write(json.dumps(done, ensure_ascii=False) + "\n")
    except UnreadableError as error:
        return {"failed": {"file": source, "cause": error.cause, "cure": error.cure}}
    return done


def _row(parsed: Parsed, source: str, identifier: str) -> str:
    row = {
        "id": identifier,
        "source": source,
        "title": parsed.title,
        "blocks": [dataclasses.asdict(block) for block in parsed.blocks if block.text],
        "metadata": dict(parsed.metadata),
    }
    text = json.dumps(row, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates would not survive as UTF-8


def _tally(parsed: Parsed, counts: Counter[str]) -> None:
    counts["documents"] += 1
    for block in parsed.blocks:
        if block.text:
            counts["blocks"] += 1
            counts[block.kind] += 1
            counts["characters"] += len(block.text)


def main() -> None:
    """Answer tasks until standard input ends."""
    # Native libraries may write to standard output: they get standard error instead, the replies a private copy.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        replies.write(json.dumps(read_to_cache(json.loads(line))) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
