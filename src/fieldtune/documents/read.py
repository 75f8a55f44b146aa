"""The documents stage: find the files, read each once, and write what they say as JSON lines."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fieldtune.config import Documents
from fieldtune.console import Progress
from fieldtune.documents.find import Found, find_files
from fieldtune.documents.pool import read_all
from fieldtune.errors import InputError
from fieldtune.types import Block, Document, Result
from fieldtune.workspace import atomic_file, digest, file_digest, read_jsonl

_log = logging.getLogger(__name__)
FORMAT = 2
"""Raised when a reader's output changes, so that files read by an older version are read again."""


def read_documents(config: Documents, output: Path, cache: Path) -> Result:
    """Read every file that `config.paths` means and write one JSON line per document to `output`.

    A file's documents are kept in `cache` under the digest of its content: a run that was killed reads no file twice.
    A file that cannot be read is recorded in `details["failed"]` with its cause and cure, and the run goes on.
    Raises InputError when there is nothing to read or nothing could be read.
    """
    cache.mkdir(parents=True, exist_ok=True)
    found = find_files(config.paths, leave_out=(output.parent, cache))
    failed = [{"file": file, "cause": cause, "cure": cure} for file, cause, cure in found.failed]
    tasks, positions, replies = [], [], {}
    for position, (path, source) in enumerate(found.files):
        try:
            task = _task(path, source, config, cache)
        except OSError as error:
            permission = isinstance(error, PermissionError)
            cause = "no permission to read it" if permission else f"cannot be read ({error.strerror or error})"
            cure = "give yourself permission: chmod u+r" if permission else "check the disk or the network share"
            failed.append({"file": source, "cause": cause, "cure": cure})
            continue
        ready = _cached(Path(task["cache"]))
        if ready is None:
            tasks.append(task)
            positions.append(position)
        else:
            replies[position] = (ready, task["cache"])
    reused = len(replies)
    workers = config.workers or os.cpu_count() or 1
    with Progress("reading files", len(found.files), unit="files") as progress:
        progress.resume(reused)
        for which, reply in read_all(tasks, workers, config.max_seconds) if tasks else ():
            replies[positions[which]] = (reply, tasks[which]["cache"])
            progress.advance()
    done = []
    for position in sorted(replies):
        reply, saved = replies[position]
        if "failed" in reply:
            failed.append(reply["failed"])
        else:
            done.append((found.files[position][1], reply, saved))
    failed.sort(key=lambda row: row["file"])
    for row in failed:
        _log.warning("%s: %s", row["file"], row["cause"])
    if not done:
        raise _nothing(found, failed)
    with atomic_file(output, "wb") as stream:
        for _, _, saved in done:
            with open(saved, "rb") as part:
                previous = b""
                for line in part:  # the last line is the report
                    stream.write(previous)
                    previous = line
    return _result(found, failed, done, reused)


def load_documents(path: Path) -> Iterator[Document]:
    """Yield the documents of a file written by read_documents, one at a time.

    Raises InputError with file and line for a line that is no document.
    """
    for line, row in read_jsonl(path):
        try:
            blocks = tuple(Block(b["kind"], b["text"], b.get("level"), b.get("page")) for b in row["blocks"])
            yield Document(row["id"], row["source"], row["title"], blocks, row.get("metadata") or {})
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"not a document ({type(error).__name__}: {error})",
                "run the documents stage again",
                path=path,
                line=line,
            ) from None


def _task(path: Path, source: str, config: Documents, cache: Path) -> dict[str, Any]:
    # A file over the limit is not worth hashing: the reader refuses it at once.
    large = path.stat().st_size > config.max_bytes
    content = "too large" if large else file_digest(path)
    key = digest([FORMAT, source, content, config.max_word_loss])
    return {
        "path": os.fsencode(path).hex(),  # a file name is bytes; not every one is Unicode
        "source": source,
        "content": content,
        "cache": str(cache / f"{key}.jsonl"),
        "max_bytes": config.max_bytes,
        "max_word_loss": config.max_word_loss,
    }


def _cached(path: Path) -> dict[str, Any] | None:
    """The report line at the end of a cache file, or None where there is no whole one."""
    try:
        with path.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            back = min(end, 1 << 16)
            while True:
                stream.seek(end - back)
                lines = stream.read(back).splitlines()
                if len(lines) > 1 or back == end:
                    break
                back = min(end, back * 4)
        reply = json.loads(lines[-1])
        return reply if isinstance(reply, dict) and "report" in reply and "counts" in reply else None
    except (OSError, ValueError, IndexError):
        return None


def _nothing(found: Found, failed: list[dict[str, str]]) -> InputError:
    lines = [f"  {row['file']!r}: {row['cause']}" + (f" ({row['cure']})" if row["cure"] else "") for row in failed[:20]]
    if len(failed) > 20:
        lines.append(f"  and {len(failed) - 20} more")
    lines += [f"  skipped: {count} × {reason}" for reason, count in sorted(found.skipped.items())]
    return InputError(
        "\n".join(["no document could be read", *(lines or ["  the folder holds no files"])]),
        "mend the files, or point documents.paths at PDF, DOCX, HTML, Markdown, text, CSV or JSONL files",
    )


def _result(found: Found, failed: list[dict[str, str]], done: list[tuple[str, Any, str]], reused: int) -> Result:
    total: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    lossy, empty, running, notes = [], {}, {}, []
    for source, reply, _ in done:
        report = reply["report"]
        total.update(reply["counts"])
        total["pages"] += report["pages"]
        rows.update(report["rows_dropped"])
        lossy += [{"file": source, **page} for page in report["lossy_pages"]]
        if report["empty_pages"]:
            empty[source] = report["empty_pages"]
        if report["running_lines"]:
            running[source] = report["running_lines"]
        notes += [f"{source}: {note}" for note in report["notes"]]
    names = {"heading": "headings", "paragraph": "paragraphs", "list_item": "list items", "table": "tables"}
    names["footnote"] = "footnotes"
    counts: dict[str, int | float] = {"files": len(done), "documents": total["documents"], "pages": total["pages"]}
    counts |= {name: total[kind] for kind, name in names.items()} | {"characters": total["characters"]}
    dropped = {"files that could not be read": len(failed)} if failed else {}
    dropped |= dict(sorted(found.skipped.items())) | dict(sorted(rows.items()))
    if reused:
        notes.insert(0, f"{reused} of {len(found.files)} files were read in an earlier run")
    if lossy:
        mended = sum(page["recovered"] for page in lossy)
        notes.append(f"{len(lossy)} pages lost words in layout; {mended} of them were read as plain text instead")
    if empty:
        pages = sum(map(len, empty.values()))
        notes.append(f"{pages} pages hold no text (blank or scanned); scanned ones need OCR, e.g. ocrmypdf")
    details = {
        "failed": failed,
        "lossy_pages": lossy,
        "empty_pages": empty,
        "running_lines": running,
        "skipped": dict(sorted(found.skipped.items())),
    }
    return Result("documents", counts, dropped, tuple(notes), details)
