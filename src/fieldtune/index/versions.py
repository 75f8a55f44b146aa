"""Versions of an index side by side: their numbers, what of them stays, and what is on disk for sure."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fieldtune.index.table import connect
from fieldtune.workspace import read_json

_NAMES = re.compile(r"(?:passages|files)-(\d+)(?:\.lance)?")


def to_disk(path: Path) -> None:
    """meta.json must never name files that a power cut could still take back."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def old_meta(path: Path) -> dict[str, Any]:
    """What meta.json says of the version before; empty where there is none to keep."""
    try:
        found = read_json(path / "meta.json")
    except Exception:  # none, or damaged: nothing to keep
        return {}
    return found if isinstance(found, dict) else {}


def next_number(path: Path, old: Mapping[str, Any], uri: str, own: str) -> int:
    """Of the version to be built: above all that are there, named by meta.json or not."""
    return 1 + max([int(old.get("version", 0)), *_numbers(path), *_elsewhere(path, uri, own).values()])


def _numbers(path: Path) -> list[int]:
    return [int(match[1]) for entry in path.iterdir() if (match := _NAMES.fullmatch(entry.name))]


def _elsewhere(path: Path, uri: str, own: str) -> dict[str, int]:
    """The tables of this index that lie at `uri`, each with its version."""
    if not uri:
        return {}
    named = re.compile(rf"passages-{own}-(\d+)")
    names = connect(path, uri).table_names(limit=10_000)
    return {name: int(match[1]) for name in names if (match := named.fullmatch(name))}


def clear(path: Path, uri: str, own: str, kept: set[int | None]) -> None:
    """Remove versions that no reader can still have opened lately, and what killed builds left."""
    for entry in path.iterdir():
        match = _NAMES.fullmatch(entry.name)
        if match and int(match[1]) not in kept:
            shutil.rmtree(entry, ignore_errors=True)
    for name, version in _elsewhere(path, uri, own).items():
        if version not in kept:
            connect(path, uri).drop_table(name)
