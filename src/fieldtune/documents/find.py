"""Which files the user's folders, files and patterns mean, in a stable order."""

from __future__ import annotations

import glob
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fieldtune.errors import InputError

FORMATS: dict[str, str] = {
    ".pdf": "pdf",
    ".docx": "docx",
    ".docm": "docx",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
    ".text": "text",
    ".rst": "text",
    ".csv": "ready",
    ".tsv": "ready",
    ".jsonl": "ready",
    ".csv.gz": "ready",
    ".tsv.gz": "ready",
    ".jsonl.gz": "ready",
}


@dataclass(slots=True)
class Found:
    """The files to read and what was passed over on the way."""

    files: list[tuple[Path, str]] = field(default_factory=list)
    """(path, source): the source is relative to the user's folder, with forward slashes, valid Unicode."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Reason -> how many: "extension .xlsx", "hidden or lock file", "BEIR queries and labels"."""
    failed: list[tuple[str, str, str]] = field(default_factory=list)
    """(file or folder, cause, cure) of what could not even be looked at."""


def extension(name: str) -> str:
    """The lower-case ending, `.gz` with the one before it."""
    base, last = os.path.splitext(name.lower())
    return os.path.splitext(base)[1] + last if last == ".gz" else last


def find_files(paths: tuple[str, ...], leave_out: tuple[Path, ...] = ()) -> Found:
    """Walk the paths; folders recursively, links followed but no folder entered twice.

    `leave_out` are folders that are never entered (the run's own). Raises InputError for a path that does not exist,
    a pattern that matches nothing, and when no path is given.
    """
    if not paths:
        raise InputError("no documents are named", "set documents.paths to a folder, files or patterns")
    roots = [root for text in paths for root in _expand(text)]
    folders = [root if root.is_dir() else root.parent for root in roots]
    base = Path(os.path.commonpath([os.path.abspath(folder) for folder in folders]))
    found = Found()
    excluded = {os.path.realpath(folder) for folder in leave_out}
    seen: set[str] = set()
    entered: set[tuple[int, int]] = set()
    for root in roots:
        given = not root.is_dir()
        for path in [root] if given else _walk(root, found, excluded, entered):
            real = os.path.realpath(path)
            if real in seen:
                continue
            kind = FORMATS.get(extension(path.name))
            source = _source(path, base)
            if kind is None and given:
                found.failed.append(
                    (source, f"the format {extension(path.name) or '(no ending)'} is not read", _cure(path))
                )
            elif kind is None:
                found.skipped[f"extension {extension(path.name) or '(none)'}"] += 1
            elif not os.path.exists(path):
                found.failed.append((source, "the link leads nowhere", "mend or remove the link"))
            elif not os.path.isfile(path):
                found.skipped["not a regular file"] += 1
            else:
                seen.add(real)
                found.files.append((path, source))
    found.files.sort(key=lambda item: item[1])
    return found


def _expand(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if os.path.lexists(path):
        return [path]
    if glob.has_magic(text):
        matches = sorted(glob.glob(os.path.expanduser(text), recursive=True))
        if matches:
            return [Path(match) for match in matches]
        raise InputError(f"the pattern {text!r} matches no file", "check documents.paths")
    raise InputError("no such file or folder", "check documents.paths", path=path)


def _walk(root: Path, found: Found, excluded: set[str], entered: set[tuple[int, int]]) -> list[Path]:
    out: list[Path] = []

    def failed(error: OSError) -> None:
        cause = "no permission to open the folder" if isinstance(error, PermissionError) else str(error.strerror)
        found.failed.append((_printable(str(error.filename)), cause, "give yourself permission to read it"))

    for folder, folders, names in os.walk(root, followlinks=True, onerror=failed):
        status = os.stat(folder)
        # A link back to a folder above, or a second link to the same folder: everything in it is known already.
        if (status.st_dev, status.st_ino) in entered or os.path.realpath(folder) in excluded:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        beir = any(name in names for name in ("corpus.jsonl", "corpus.jsonl.gz"))
        kept = []
        for name in sorted(folders):
            if name.startswith("."):
                found.skipped["hidden folder"] += 1
            elif beir and name == "qrels":
                found.skipped["BEIR queries and labels"] += 1
            else:
                kept.append(name)
        folders[:] = kept
        for name in sorted(names):
            if name.startswith((".", "~$")):
                found.skipped["hidden or lock file"] += 1
            elif beir and name in ("queries.jsonl", "queries.jsonl.gz"):
                found.skipped["BEIR queries and labels"] += 1
            else:
                out.append(Path(folder) / name)
    return out


def _source(path: Path, base: Path) -> str:
    return _printable(Path(os.path.relpath(os.path.abspath(path), base)).as_posix())


def _printable(name: str) -> str:
    """File names may hold bytes that are no Unicode; they become visible escapes, so that JSON can carry them."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _cure(path: Path) -> str:
    cures = {
        ".doc": "save it as .docx",
        ".rtf": "save it as .docx",
        ".xls": "save it as .csv",
        ".xlsx": "save it as .csv",
    }
    return cures.get(extension(path.name), "convert it to PDF, DOCX, HTML, Markdown, plain text, CSV or JSONL")
