"""Which vectors a run's stages read, and the removal of those that none of them reads any more."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from fieldtune.workspace import read_json, write_json

log = logging.getLogger(__name__)

_OURS = re.compile(r"[0-9a-f]{20}\.(npy|json)|m3-[0-9a-f]{20}")
"""Files of dense vectors, folders of three kinds."""
_READ = "reading.txt"
"""A line per set of vectors that the stage at work has asked for."""
_USES = "uses.json"
"""Stage -> the sets that it asked for when it last ran to its end."""


def note_use(folder: Path, key: str) -> None:
    """Remember that the stage at work asked for these vectors."""
    with (folder / _READ).open("a", encoding="utf-8") as stream:
        stream.write(key + "\n")


def begin_uses(folder: Path) -> None:
    """A stage begins: what one before it noted and did not end is not its own."""
    (folder / _READ).unlink(missing_ok=True)


def end_uses(folder: Path, stage: str) -> None:
    """A stage has ended: keep which vectors it asked for."""
    noted = folder / _READ
    keys = sorted(set(noted.read_text("utf-8").split())) if noted.exists() else []
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _USES, _uses(folder) | {stage: keys})
    noted.unlink(missing_ok=True)


def prune(folder: Path, finished: Sequence[str]) -> tuple[int, int]:
    """Remove the vectors that no stage asked for when it last ran; returns how many sets, and their bytes.

    `finished` are all stages of which there is a result. Where it is not known what one of them reads (it ran under an
    earlier version), or where the folder is a link and so perhaps another run's too, nothing is removed. Files of other
    names are never touched.
    """
    if not folder.is_dir() or folder.is_symlink():
        return 0, 0
    uses = _uses(folder)
    unknown = [stage for stage in finished if stage not in uses]
    if unknown:
        log.info("%s: not known what %s reads, no vectors were removed", folder, ", ".join(unknown))
        return 0, 0
    wanted = {key for keys in uses.values() for key in keys}
    gone, size = set(), 0
    for path in sorted(folder.iterdir()):
        if not _OURS.fullmatch(path.name) or path.stem in wanted or path.is_symlink():
            continue
        if path.is_dir() != path.name.startswith("m3-"):
            continue
        length = sum(one.stat().st_size for one in (path.iterdir() if path.is_dir() else [path]))
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError as error:  # on Windows, a file that is still mapped into memory
            log.info("%s was not removed (%s)", path, error)
            continue
        gone.add(path.stem)
        size += length
    return len(gone), size


def _uses(folder: Path) -> dict[str, list[str]]:
    path = folder / _USES
    found: dict[str, list[str]] = read_json(path) if path.exists() else {}
    return found
