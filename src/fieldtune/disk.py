"""A disk that is full: said in plain words, and found out before a file that is mapped into memory is written to."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import disk_usage
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fieldtune.console import size
from fieldtune.errors import FieldtuneError, ModelError, disk_is_full

_RESUMES = "it goes on from the last checkpoint, which is untouched"
_FINISHED = "what was finished is kept"
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a file system says that cannot reserve room."""


@contextmanager
def room_to_write(folder: Path, what: str, safe: str = _RESUMES) -> Iterator[None]:
    """Turn a full disk into a ModelError that says what is `safe` and how to go on."""
    try:
        yield
    except FieldtuneError:
        raise
    except Exception as error:  # of no common kind: see disk_is_full
        if not disk_is_full(error):
            raise
        there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        raise ModelError(
            f"the disk is full: {what} could not be written to {folder} ({size(disk_usage(there).free)} free)",
            f"make room and run the same command again: {safe}",
        ) from error


def mapped_array(path: Path, dtype: DTypeLike, shape: tuple[int, int], *, resume: bool = False) -> np.memmap[Any, Any]:
    """A .npy file mapped into memory for writing, new or as far as it was written (`resume`), its room reserved.

    Mapped files begin as holes; what writes to one on a full disk is killed (SIGBUS), without a word. Raises ModelError
    where there is no room, and leaves no new file then.
    """
    with room_to_write(path.parent, path.name, _FINISHED):
        out = np.lib.format.open_memmap(path, "r+" if resume else "w+", dtype, shape)
        try:
            _reserve(path)
        except OSError:
            if not resume:
                path.unlink()
            raise
    return out


def _reserve(path: Path) -> None:
    """Take the disk's room for all of a file; what it holds stays."""
    if not hasattr(os, "posix_fallocate"):  # macOS and Windows
        return
    with path.open("r+b") as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
