"""Vectors on disk, keyed by model and texts: each corpus is encoded once per model, even if the run is killed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.console import Progress
from fieldtune.encoding.fast import Encodes
from fieldtune.types import Side
from fieldtune.vector_uses import note_use
from fieldtune.workspace import read_json, write_json

# Texts between two marks of progress on disk: a kill costs at most the encoding of these, and sorting by length within
# them is as good as sorting everything.
_BLOCK = 4_096


def cached_vectors(
    encoder: Encodes, texts: Sequence[str], side: Side, folder: Path, *, label: str = ""
) -> NDArray[np.float32]:
    """Unit vectors (len(texts), dimension) as a read-only memory map; what an earlier run computed is not repeated."""
    key = _key(encoder, texts, side)
    path, mark = folder / f"{key}.npy", folder / f"{key}.json"
    done = int(read_json(mark)["done"]) if mark.exists() and path.exists() else 0
    shape = (len(texts), encoder.dimension)
    if not texts:
        return np.zeros(shape, np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    note_use(folder, key)
    if done < len(texts):
        out = np.lib.format.open_memmap(path, "r+" if done else "w+", np.float32, shape)
        # One vector for one text: in another batch its last bits would differ, and equal passages would not tie.
        place: dict[str, int] = {}
        for row in range(done):
            place.setdefault(texts[row], row)
        with Progress(label or f"encoding {side} texts", len(texts), unit="texts") as progress:
            progress.resume(done)
            for begin in range(done, len(texts), _BLOCK):
                block = range(begin, min(begin + _BLOCK, len(texts)))
                fresh = [row for row in block if place.setdefault(texts[row], row) == row]
                if fresh:
                    out[fresh] = encoder.encode([texts[row] for row in fresh], side, advance=progress.advance)
                again = sorted({*block}.difference(fresh))
                out[again] = out[[place[texts[row]] for row in again]]
                progress.advance(len(again))
                out.flush()  # before the mark, which vouches for it
                write_json(mark, {"done": block.stop, "model": encoder.name, "side": side})
        del out
    vectors: NDArray[np.float32] = np.load(path, mmap_mode="r")
    return vectors


def keep_vectors(
    encoder: Encodes, texts: Sequence[str], side: Side, folder: Path, vectors: NDArray[np.float32]
) -> None:
    """Store vectors that came of another pass of the same model, for `cached_vectors` to find."""
    key = _key(encoder, texts, side)
    folder.mkdir(parents=True, exist_ok=True)
    note_use(folder, key)
    out = np.lib.format.open_memmap(folder / f"{key}.npy", "w+", np.float32, (len(texts), encoder.dimension))
    for begin in range(0, len(texts), _BLOCK):
        out[begin : begin + _BLOCK] = vectors[begin : begin + _BLOCK]
    out.flush()  # before the mark, which vouches for it
    write_json(folder / f"{key}.json", {"done": len(texts), "model": encoder.name, "side": side})


def is_cached(encoder: Encodes, texts: Sequence[str], side: Side, folder: Path) -> bool:
    """Whether `cached_vectors` would find all of them there."""
    mark = folder / f"{_key(encoder, texts, side)}.json"
    return mark.exists() and mark.with_suffix(".npy").exists() and int(read_json(mark)["done"]) >= len(texts)


def _key(encoder: Encodes, texts: Sequence[str], side: Side) -> str:
    model = encoder.fingerprint if side == "query" else encoder.passage_fingerprint
    sha = hashlib.sha256(f"{model}\0{side}\0{encoder.dimension}\0{len(texts)}".encode())
    for text in texts:
        sha.update(text.encode("utf-8", "surrogatepass"))
        sha.update(b"\0")
    return sha.hexdigest()[:20]
