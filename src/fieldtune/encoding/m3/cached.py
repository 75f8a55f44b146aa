"""Three kinds of vectors of many texts on disk, keyed by model and texts; a killed run goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.console import Progress
from fieldtune.encoding.encoder import Encoder
from fieldtune.encoding.m3.encode import encode_m3
from fieldtune.encoding.m3.heads import heads_digest, token_size
from fieldtune.encoding.m3.stored import M3Vectors, TokenFormat, TokenVectors
from fieldtune.errors import ModelError
from fieldtune.types import Side
from fieldtune.vector_uses import note_use
from fieldtune.workspace import digest, read_json, write_json

if TYPE_CHECKING:
    from torch.nn import ModuleDict

_BLOCK = 1_024
"""Texts between two marks of progress: with 500 tokens of 1,024 numbers each, 1 GB of float16 at a time."""


@dataclass(frozen=True, slots=True)
class CachedM3:
    """Vectors of different texts, mapped into memory, and which of them each text asked for has."""

    vectors: M3Vectors
    rows: NDArray[np.int64]
    """(texts asked for,)"""

    def whole(self) -> M3Vectors:
        """In the order of the texts asked for; in memory where some were equal."""
        if np.array_equal(self.rows, np.arange(len(self.vectors))):
            return self.vectors
        return self.vectors.take(self.rows)


def cached_m3(
    encoder: Encoder,
    heads: ModuleDict,
    texts: Sequence[str],
    side: Side,
    folder: Path,
    *,
    form: TokenFormat = "float16",
    pool: int = 1,
    label: str = "",
) -> CachedM3:
    """What `encode_m3` gives of the texts; what an earlier call computed is not repeated, equal texts are stored once.

    Memory is that of a block of texts. Raises ModelError where files are gone or cut short, and as `encode_m3` does.
    """
    distinct = list(dict.fromkeys(texts))
    model = encoder.fingerprint if side == "query" else encoder.passage_fingerprint
    key = digest([model, heads_digest(heads), form, pool, side, encoder.dimension, digest(distinct)])[:20]
    place = folder / f"m3-{key}"
    place.mkdir(parents=True, exist_ok=True)
    note_use(folder, place.name)
    mark = place / "done.json"
    found: dict[str, Any] = read_json(mark) if mark.exists() else {"done": 0, "bytes": {}, "words": 0}
    if found["done"] < len(distinct):
        with Progress(label or f"encoding {side} texts three ways", len(distinct), unit="texts") as progress:
            progress.resume(found["done"])
            for begin in range(found["done"], len(distinct), _BLOCK):
                block = distinct[begin : begin + _BLOCK]
                made = encode_m3(encoder, heads, block, side, form=form, pool=pool, advance=progress.advance)
                sizes = {name: _append(place / name, int(found["bytes"].get(name, 0)), values)
                         for name, values in _arrays(made).items()}  # fmt: skip
                words = max(int(found["words"]), int(made.sparse.shape[1]))
                found = {"done": begin + len(block), "bytes": sizes, "words": words}
                write_json(mark, found)
    row = {text: number for number, text in enumerate(distinct)}
    rows = np.array([row[text] for text in texts], np.int64)
    return CachedM3(_opened(place, found, encoder.dimension, token_size(heads), form), rows)


def _arrays(made: M3Vectors) -> dict[str, NDArray[Any]]:
    """What goes to disk, each to the end of a file of its own."""
    return {
        "dense": made.dense,
        "words": made.sparse.indices.astype(np.int32),
        "weights": made.sparse.data.astype(np.float32),
        "word-counts": np.diff(made.sparse.indptr).astype(np.int64),
        "tokens": made.tokens.values,
        "scales": made.tokens.scales,
        "token-counts": np.diff(made.tokens.starts).astype(np.int64),
    }


def _append(path: Path, at: int, values: NDArray[Any]) -> int:
    """Write at this byte, over whatever a killed run left behind it; returns where the file ends."""
    with path.open("r+b" if path.exists() else "wb") as stream:
        stream.truncate(at)
        stream.seek(at)
        stream.write(np.ascontiguousarray(values).data.cast("B") if values.size else b"")
        return stream.tell()


def _opened(place: Path, mark: dict[str, Any], dimension: int, size: int, form: TokenFormat) -> M3Vectors:
    from scipy.sparse import csr_matrix

    count = int(mark["done"])

    def mapped(name: str, kind: Any, *shape: int) -> NDArray[Any]:
        if not int(mark["bytes"].get(name, 0)):
            return np.zeros((0, *shape[1:]), kind)
        return np.asarray(np.memmap(place / name, kind, "r", shape=shape))

    def starts(name: str) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(mapped(name, np.int64, count))]).astype(np.int64)

    try:
        words, tokens = starts("word-counts"), starts("token-counts")
        sparse = csr_matrix(
            (mapped("weights", np.float32, int(words[-1])), mapped("words", np.int32, int(words[-1])), words),
            shape=(count, int(mark["words"])),
        )
        values = mapped("tokens", np.dtype(form), int(tokens[-1]), size)
        scales = mapped("scales", np.float32, int(tokens[-1]))
        return M3Vectors(mapped("dense", np.float32, count, dimension), sparse, TokenVectors(values, scales, tokens))
    except (OSError, ValueError) as error:
        raise ModelError(f"{place} does not hold vectors of three kinds: {error}", f"remove {place}") from None
