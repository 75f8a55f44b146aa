"""Passages on disk, read one by one by their row: JSON lines, where each begins, and where each id and neighbour is.

LanceDB takes 4 to 14 ms to fetch ten rows; from here they come in a tenth of one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.types import Passage

_FIELDS = ("id", "title", "text", "group", "source", "page", "start", "end")


def write_passages(folder: Path, passages: Sequence[Passage]) -> None:
    """Write `passages.jsonl` and the arrays that find a passage in it by row, id and document."""
    ends = np.zeros(len(passages) + 1, np.int64)
    with (folder / "passages.jsonl").open("wb") as stream:
        for row, passage in enumerate(passages):
            fields = {name: getattr(passage, name) for name in _FIELDS} | {"metadata": dict(passage.metadata)}
            # Half a surrogate pair, from broken JSON, becomes "?"; UTF-8 cannot hold it.
            line = json.dumps(fields, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n"
            ends[row + 1] = ends[row] + stream.write(line)
    np.save(folder / "ends.npy", ends)
    keys = np.array([_key(passage.id) for passage in passages], np.uint64)
    order = np.argsort(keys, kind="stable")
    np.save(folder / "keys.npy", keys[order])
    np.save(folder / "key_rows.npy", order)
    number: dict[tuple[str, str], int] = {}
    documents = np.array([number.setdefault((one.source, one.group), len(number)) for one in passages], np.int64)
    # Where places are known they decide, else the order of the corpus.
    starts = np.array([-1 if one.start is None else one.start for one in passages], np.int64)
    order = np.lexsort((np.arange(len(passages)), starts, documents))
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    for name, values in (("documents", documents), ("order", order), ("places", places)):
        np.save(folder / f"{name}.npy", values)


class Store:
    """The passages of an index, mapped into memory. Raises OSError or ValueError for files that are gone or damaged."""

    def __init__(self, folder: Path) -> None:
        # As plain arrays: of a memmap each slice is another one, which costs more than reading it.
        self._text = np.asarray(np.memmap(folder / "passages.jsonl", np.uint8, "r"))
        self._ends, self._keys, self._key_rows, self._documents, self._order, self._places = (
            np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))
            for name in ("ends", "keys", "key_rows", "documents", "order", "places")
        )

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[Passage]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, row: int) -> Passage:
        if not 0 <= row < len(self):
            raise IndexError(row)
        line = self._text[int(self._ends[row]) : int(self._ends[row + 1])].tobytes()
        return Passage(**json.loads(line))

    def row(self, passage_id: str) -> int | None:
        """Where the passage of this id is; None where there is none."""
        key = _key(passage_id)
        first = int(np.searchsorted(self._keys, key))
        while first < len(self) and int(self._keys[first]) == int(key):
            row = int(self._key_rows[first])
            if self[row].id == passage_id.encode("utf-8", "replace").decode("utf-8"):
                return row
            first += 1
        return None

    def around(self, row: int, n: int) -> list[int]:
        """Rows of the same document, up to n before and n behind, in the document's order."""
        place = int(self._places[row])
        near: NDArray[np.int64] = self._order[max(0, place - n) : place + n + 1]
        return [int(other) for other in near if self._documents[other] == self._documents[row]]


def _key(passage_id: str) -> np.uint64:
    text = passage_id.encode("utf-8", "replace")
    return np.uint64(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"))
