"""Checkpoints of other settings: kept beside the one that is written now, and taken up again with their settings."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fieldtune.workspace import digest

_PARTS = ("best.pt", "deepspeed", "checkpoint.pt")
"""The checkpoint last when they go and first when they come: what a kill leaves in between finds together again."""
_NAMED = 6  # differences


def put_aside(folder: Path, key: str, seconds: float) -> Path | None:
    """Move what belongs to the checkpoint of `key`, after so many seconds of training, into a folder of its own.

    One such folder is kept, that of the longest training: two typing errors in a row must not cost a day's work. None
    where another one is that; the checkpoint is then left where the next one will be written.
    """
    place = folder / f"other-{digest(key)}-{seconds:.3f}s"
    kept = [other for other in folder.glob("other-*") if other != place]
    if any(_seconds(other) > round(seconds, 3) for other in kept):
        return None
    for other in kept:
        shutil.rmtree(other, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    for part in _PARTS:
        if (folder / part).exists():
            _move(folder / part, place / part)
    return place


def bring_back(folder: Path, key: str, *, begun: bool) -> None:
    """Move what was put aside under `key` to its place; where that is `begun`, only what a kill left behind."""
    place = next(folder.glob(f"other-{digest(key)}-*"), None)
    if place is None:
        return
    for part in reversed(_PARTS):
        if (place / part).exists() and not (begun and (folder / part).exists()):
            _move(place / part, folder / part)
    shutil.rmtree(place, ignore_errors=True)


def key_of(parts: Mapping[str, Any]) -> str:
    """A key that says what it was made of: names to settings, or to digests of what is too long to be written out."""
    return json.dumps(parts, sort_keys=True, default=str)


def differences(old: str, new: str) -> list[tuple[str, Any, Any]]:
    """Name, old and new value of what two keys of `key_of` differ in; none where they cannot be read."""
    found = [_read(old), _read(new)]
    if None in found:
        return []
    before, now = (_flat(one or {}) for one in found)
    return [
        (name, before.get(name), now.get(name)) for name in sorted({*before, *now}) if before.get(name) != now.get(name)
    ]


def said_of_other(old: str, new: str, step: int, place: Path | None) -> str:
    """Why a checkpoint is not used, and where it is and how to go on with it, if it is kept."""
    changed = differences(old, new)
    settings = [(name, had, has) for name, had, has in changed if "." in name or name == "seed"]
    others = [f"the {name}" for name, *_ in changed if (name, *_) not in settings]
    what = [f"{name} = {json.dumps(had)}, now {json.dumps(has)}" for name, had, has in settings] + others
    cure = [f"{name} = {json.dumps(had)}" for name, had, _ in settings] + others
    if not changed:
        what, cure = ["another model, other data or other settings"], ["them"]
    more = f" and {len(what) - _NAMED} more" if len(what) > _NAMED else ""
    made = f"A checkpoint of step {step:,} was made with {'; '.join(what[:_NAMED])}{more}"
    if place is None:
        return f"{made}: it was not used, and one of a longer training is kept beside it."
    put = ", ".join(cure[:_NAMED]) + more
    return f"{made}: it is kept until training ends, in {place}. Put {put} back to go on with it."


def _seconds(place: Path) -> float:
    return float(place.name.rpartition("-")[2].removesuffix("s"))


def _move(source: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    os.replace(source, target)


def _read(key: str) -> dict[str, Any] | None:
    """The parts of a key, whatever was added behind them."""
    try:
        parts, _ = json.JSONDecoder().raw_decode(key)
    except json.JSONDecodeError:
        return None
    return parts if isinstance(parts, dict) else None


def _flat(parts: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in parts.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return flat
