"""Vectors on disk, keyed by model and texts: each corpus is encoded once per model, even if the run is killed."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.console import Progress
from fieldtune.disk import mapped_array
from fieldtune.encoding.fast import Encodes
from fieldtune.types import Side
from fieldtune.vector_uses import note_use
from fieldtune.workspace import read_json, write_json

_COPIED = 4_096  # vectors at a time


def cached_vectors(
    encoder: Encodes, texts: Sequence[str], side: Side, folder: Path, *, label: str = ""
) -> NDArray[np.float32]:
    """Unit vectors (len(texts), dimension) as a read-only memory map; what an earlier run computed is not repeated.

    A kill costs at most the encoding of one block of the encoder's stream. Raises ModelError for a full disk.
    """
    key = _key(encoder, texts, side)
    path, mark = folder / f"{key}.npy", folder / f"{key}.json"
    done = int(read_json(mark)["done"]) if mark.exists() and path.exists() else 0
    shape = (len(texts), encoder.dimension)
    if not texts:
        return np.zeros(shape, np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    note_use(folder, key)
    if done < len(texts):
        out = mapped_array(path, np.float32, shape, resume=done > 0)
        # One vector for one text: in another batch its last bits would differ, and equal passages would not tie.
        place: dict[str, int] = {}
        for row in range(done):
            place.setdefault(texts[row], row)
        waiting: deque[int] = deque()  # rows whose texts are on their way through the encoder
        begin = done

        def fresh() -> Iterator[str]:
            for row in range(begin, len(texts)):
                if place.setdefault(texts[row], row) == row:
                    waiting.append(row)
                    yield texts[row]

        with Progress(label or f"encoding {side} texts", len(texts), unit="texts") as progress:
            progress.resume(done)

            def finish(rows: list[int], end: int) -> None:
                """Of the texts up to `end`, `rows` were just encoded; the others have a vector further up."""
                again = sorted({*range(done, end)}.difference(rows))
                out[again] = out[[place[texts[row]] for row in again]]
                progress.advance(len(again))
                out.flush()  # before the mark, which vouches for it
                write_json(mark, {"done": end, "model": encoder.name, "side": side})

            # In one stream: the encoder reads ahead, so the next texts are tokenised while these are computed.
            for part in encoder.stream(fresh(), side, advance=progress.advance):
                rows = [waiting.popleft() for _ in part]
                out[rows] = part
                finish(rows, rows[-1] + 1)
                done = rows[-1] + 1
            if done < len(texts):
                finish([], len(texts))
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
    out = mapped_array(folder / f"{key}.npy", np.float32, (len(texts), encoder.dimension))
    for begin in range(0, len(texts), _COPIED):
        out[begin : begin + _COPIED] = vectors[begin : begin + _COPIED]
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
        data = text.encode("utf-8", "surrogatepass")
        sha.update(len(data).to_bytes(8, "little") + data)
    return sha.hexdigest()[:20]
