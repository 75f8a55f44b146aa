"""The user's cache folder, and digests of big files that are computed once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

from fieldtune.workspace import file_digest, write_json

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """`$FIELDTUNE_CACHE`, else `$XDG_CACHE_HOME/fieldtune`, else `~/.cache/fieldtune`; it need not exist yet."""
    given = os.environ.get("FIELDTUNE_CACHE")
    if given:
        return Path(given).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "fieldtune"


def remembered_digest(path: Path) -> str:
    """SHA-256 of a file; read again only when its size or time of change is not what it was.

    A cache folder that cannot be written costs time, nothing else.
    """
    real = path.resolve()
    status = real.stat()
    stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    name = hashlib.sha256(os.fsencode(real)).hexdigest()[:32]
    note = cache_folder() / "digests" / f"{name}.json"
    try:
        saved = json.loads(note.read_text("utf-8"))
        if saved["stamp"] == stamp:
            return str(saved["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # never computed, or a note damaged by hand: compute
    digest = file_digest(real)
    try:
        write_json(note, {"path": str(real), "stamp": stamp, "sha256": digest})
    except OSError as error:
        log.debug("digest of %s not remembered: %s", real, error)
    return digest
