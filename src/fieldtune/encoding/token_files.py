"""Token ids in a file: written as they are made, mapped into memory, by several processes at once if need be."""

from __future__ import annotations

import logging
import os
import shutil
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.workspace import atomic_file

log = logging.getLogger(__name__)

FOLDER = "tokens"
"""Below the folder of a training's state."""
_MARK = b"ftokens1"
_FOOT = struct.Struct("<8sQQQ")  # mark, how many ids, how many texts, CRC-32 of all that comes before
_READ = 1 << 20  # bytes

Flat = tuple[NDArray[np.int32], NDArray[np.int64]]
"""Ids end to end, mapped, and the (n + 1,) places where texts begin."""


def write_ids(path: Path, blocks: Iterable[tuple[NDArray[np.int32], NDArray[np.int64]]]) -> None:
    """Write the ids of blocks of texts, and the length of each text, as they come; the file is whole or not there."""
    lengths = [np.zeros(1, np.int64)]
    count = check = 0
    with atomic_file(path, "wb") as out:
        for ids, several in blocks:
            data = ids.astype("<i4", copy=False).tobytes()
            check = zlib.crc32(data, check)
            out.write(data)
            count += len(ids)
            lengths.append(several)
        starts = np.cumsum(np.concatenate(lengths)).astype("<i8", copy=False)
        data = bytes(-4 * count % 8) + starts.tobytes()  # numbers of 8 bytes begin at a multiple of 8
        out.write(data)
        out.write(_FOOT.pack(_MARK, count, len(starts) - 1, zlib.crc32(data, check)))


def mapped_ids(path: Path) -> Flat | None:
    """What `write_ids` has written, the ids mapped read-only; None where there is no such file, or not a sound one."""
    try:
        shape = _shape(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("%s cannot be read (%s): the texts are tokenised again", path, error)
        return None
    if shape is None:
        log.warning("%s is damaged: the texts are tokenised again", path)
        return None
    count, texts = shape
    raw = np.memmap(path, np.uint8, "r")
    end = len(raw) - _FOOT.size
    # Where texts begin is looked up at each step, and takes 8 bytes for each: it is in memory.
    return raw[: 4 * count].view("<i4"), np.array(raw[end - 8 * (texts + 1) : end].view("<i8"))


def forget_ids(work: Path) -> None:
    """Remove the ids that were kept in a training's folder, once nothing is to be resumed there."""
    shutil.rmtree(work / FOLDER, ignore_errors=True)


def _shape(path: Path) -> tuple[int, int] | None:
    """How many ids and texts a file holds; None where its size or its checksum is not what its end says."""
    with path.open("rb") as stream:
        end = stream.seek(0, os.SEEK_END) - _FOOT.size
        if end < 0:
            return None
        stream.seek(end)
        mark, count, texts, check = _FOOT.unpack(stream.read(_FOOT.size))
        if mark != _MARK or end != -(-4 * count // 8) * 8 + 8 * (texts + 1):
            return None
        stream.seek(0)
        found, left = 0, end
        while left and (data := stream.read(min(_READ, left))):
            found, left = zlib.crc32(data, found), left - len(data)
    return (count, texts) if found == check and not left else None
