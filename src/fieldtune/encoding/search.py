"""Exact nearest neighbours by inner product, in blocks, so that the whole similarity matrix never exists."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Blocks(Protocol):
    """Vectors read block by block: an array, a memory map, or something that decodes what an index keeps."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> NDArray[np.float32]:
        """The vectors of a slice or an array of rows, float32 (rows, dim)."""


def top_k(
    queries: NDArray[np.float32],
    passages: Blocks,
    k: int,
    *,
    query_block: int = 512,
    passage_block: int = 16_384,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k passages with the highest inner product per query, best first; ties go to the lower row.

    `queries` is (n, dim) and `passages` (m, dim), both may be memory-mapped; returns scores and rows, (n, min(k, m)).
    Memory beyond the result is one block of scores.
    """
    k = min(k, len(passages))
    scores = np.full((len(queries), k), -np.inf, np.float32)
    rows = np.zeros((len(queries), k), np.int64)
    for start in range(0, len(queries), query_block):
        block = np.ascontiguousarray(queries[start : start + query_block], np.float32)
        best = np.full((len(block), 0), -np.inf, np.float32)
        best_rows = np.zeros((len(block), 0), np.int64)
        for first in range(0, len(passages), passage_block):
            part = np.asarray(passages[first : first + passage_block], np.float32)
            found, places = _largest(block @ part.T, k)
            best, best_rows = _merge(best, best_rows, found, places + first, k)
        scores[start : start + len(block)] = best
        rows[start : start + len(block)] = best_rows
    return scores, rows


def _largest(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k largest of each row with their columns, unsorted unless few.

    argpartition alone picks any of several equal scores at the border; which one is then decided by memory layout.
    In rows with such a tie the lowest columns are taken, so that the lower column always wins.
    """
    width = scores.shape[1]
    if k >= width:
        columns = np.broadcast_to(np.arange(width), scores.shape)
        return scores, np.ascontiguousarray(columns)
    places = np.argpartition(scores, width - k, axis=1)[:, width - k :]
    found = np.take_along_axis(scores, places, axis=1)
    border = found.min(axis=1)
    tied = np.flatnonzero((scores == border[:, None]).sum(axis=1) > (found == border[:, None]).sum(axis=1))
    for row in tied:
        above = np.flatnonzero(scores[row] > border[row])
        level = np.flatnonzero(scores[row] == border[row])[: k - len(above)]
        places[row] = np.concatenate([above, level])
        found[row] = scores[row, places[row]]
    return found, places


def _merge(
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
    more: NDArray[np.float32],
    more_rows: NDArray[np.int64],
    k: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    all_scores = np.concatenate([scores, more], axis=1)
    all_rows = np.concatenate([rows, more_rows], axis=1)
    order = np.lexsort((all_rows, -all_scores), axis=1)[:, :k]
    return np.take_along_axis(all_scores, order, axis=1), np.take_along_axis(all_rows, order, axis=1)
