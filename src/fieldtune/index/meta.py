"""meta.json of an index: the one small file that says which table and files count, and with which model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fieldtune.errors import InputError
from fieldtune.workspace import read_json

FORMAT = 2
"""Of meta.json, the table's columns and the files beside it; search refuses another."""
REBUILD = "build it again: fieldtune index RUN"


def read_meta(folder: Path) -> dict[str, Any]:
    """Raises InputError where there is none, or one of another version."""
    meta = read_json(folder / "meta.json")
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise InputError("not an index that this version reads", REBUILD, path=folder / "meta.json")
    return meta


def index_folder(path: str | Path) -> Path:
    """The index's own folder, from that or a run's. Raises InputError when there is no whole index in it."""
    folder = Path(path).expanduser()
    if not (folder / "meta.json").exists() and (folder / "index").is_dir():
        folder /= "index"
    if not (folder / "meta.json").exists():
        raise InputError("no index in it", "give a finished run's folder, or " + REBUILD, path=Path(path))
    return folder


def stamp(folder: Path) -> tuple[int, int, int] | None:
    """What changes when meta.json is replaced; None where it is gone."""
    try:
        status = (folder / "meta.json").stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
