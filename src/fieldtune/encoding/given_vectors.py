"""Vectors of a closed model, computed elsewhere and given as files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import InputError

Kind = Literal["queries", "passages"]


@dataclass(frozen=True, slots=True)
class GivenVectors:
    """Vectors with the ids of their texts."""

    path: Path
    vectors: NDArray[np.float32]
    """(n, dim), memory-mapped, of whatever length they were given."""
    place: dict[str, int]
    """Id -> row."""

    @property
    def dimension(self) -> int:
        return int(self.vectors.shape[1])

    def of(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (len(ids), dim). Raises InputError naming an id without a vector, or with a damaged one."""
        missing = [key for key in ids if key not in self.place]
        if missing:
            raise InputError(
                f"{len(missing):,} of {len(ids):,} ids have no vector, the first is {missing[0]!r}",
                "embed those texts too, or take them out of the qrels",
                path=self.path,
            )
        found = np.array(self.vectors[[self.place[key] for key in ids]], np.float32).reshape(-1, self.dimension)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        damaged = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
        if len(damaged):
            raise InputError(
                f"the vector of {ids[int(damaged[0])]!r} is zero or not finite", "embed that text again", path=self.path
            )
        return np.asarray(found / lengths, np.float32)


def read_vectors(folder: Path, kind: Kind) -> GivenVectors:
    """Read `KIND.npy`, (n, dim) of floats, and `KIND.ids.txt`, the id of each row on a line of its own.

    Raises InputError where a file is missing, no such array, or the two do not fit.
    """
    path, names = folder / f"{kind}.npy", folder / f"{kind}.ids.txt"
    for part in (path, names):
        if not part.exists():
            raise InputError(
                "no such file", f"--vectors takes a folder with {kind}.npy and {kind}.ids.txt, one id a line", path=part
            )
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"not an array that numpy reads ({error})", "write it with numpy.save", path=path) from None
    if vectors.ndim != 2 or not vectors.shape[1] or vectors.dtype.kind != "f":
        raise InputError(
            f"an array of shape {vectors.shape} and type {vectors.dtype}",
            "numbers with a point, (texts, dimensions)",
            path=path,
        )
    try:
        ids = names.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError("not UTF-8", "write one id a line", path=names) from None
    if len(ids) != len(vectors):
        raise InputError(
            f"{len(ids)} ids for {len(vectors)} vectors", "one id a line, in the order of rows", path=names
        )
    place = {key: row for row, key in enumerate(ids)}
    if len(place) < len(ids):
        seen: set[str] = set()
        line = next(number for number, key in enumerate(ids, 1) if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InputError(f"the id {ids[line - 1]!r} stands there twice", "each id once", path=names, line=line)
    return GivenVectors(path, vectors, place)


def read_both(folder: Path) -> tuple[GivenVectors, GivenVectors]:
    """Queries and passages. Raises InputError also where their dimensions differ."""
    queries, passages = read_vectors(folder, "queries"), read_vectors(folder, "passages")
    if queries.dimension != passages.dimension:
        raise InputError(
            f"query vectors have {queries.dimension} numbers, passage vectors {passages.dimension}",
            "both must come from one model; embed them again",
            path=folder,
        )
    return queries, passages
