"""Exact nearest neighbours by inner product, in blocks, so that the whole similarity matrix never exists."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import InputError

_MARGIN = 16  # candidates beyond the k asked for, so that the k-th is known to be right
_NOISE = 2e-6
"""Scores nearer to each other are taken for equal: what float32 vectors of one text differ by between machines."""
_CELLS = 8_000_000  # numbers of passage vectors brought together at once


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
    A matrix product gives one vector another score by where it stands and how many threads there are, so it only
    proposes candidates; their scores are added up once more in float64 and rounded to 6 digits after the point before
    they are put in order. Memory beyond the result is a few blocks of scores and vectors.
    """
    k = min(k, len(passages))
    scores = np.full((len(queries), k), -np.inf, np.float32)
    rows = np.zeros((len(queries), k), np.int64)
    for start in range(0, len(queries), query_block):
        block = np.ascontiguousarray(queries[start : start + query_block], np.float32)
        best = np.full((len(block), 0), -np.inf, np.float32)
        found = np.zeros((len(block), 0), np.int64)
        for first in range(0, len(passages), passage_block):
            part = np.asarray(passages[first : first + passage_block], np.float32)
            best, found = _merged(best, found, *_largest(block @ part.T, k + _MARGIN), first, k + _MARGIN)
        exact, ordered = in_order(_again(block, passages, found), found, k)
        # Whose k-th candidate scores as what was left behind may have kept the wrong ones of many equals.
        border = best.min(axis=1) if found.shape[1] < len(passages) else np.full(len(block), -np.inf)
        doubtful = np.flatnonzero(exact[:, -1] <= border + _slack(border)) if k else np.zeros(0, np.int64)
        for row, several in zip(
            doubtful, _above(block[doubtful], passages, exact[doubtful, -1], passage_block), strict=True
        ):
            anew = _again(block[row : row + 1], passages, several)
            exact[row : row + 1], ordered[row : row + 1] = in_order(anew, several, k)
        scores[start : start + len(block)] = exact
        rows[start : start + len(block)] = ordered
    return scores, rows


def pairs_above(
    queries: NDArray[np.float32], passages: Blocks, least: float, *, same: bool, most: int, block: int = 2_048
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """All pairs of a query and a passage whose inner product reaches `least`: rows, rows and scores, each (pairs,).

    `same` says that both are one set; each pair is then given once, the lower row first, and no row with itself. Scores
    are added up again in float64 as in `top_k`. Raises InputError for more than `most` pairs.
    """
    firsts, seconds, scores = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    count, step = 0, max(1, _CELLS // max(1, queries.shape[1]))
    for start in range(0, len(queries), block):
        part = np.ascontiguousarray(queries[start : start + block], np.float32)
        for first in range(start if same else 0, len(passages), block):
            other = np.asarray(passages[first : first + block], np.float32)
            one, two = np.nonzero(part @ other.T >= least - float(_slack(least)))
            if same and first == start:
                one, two = one[one < two], two[one < two]
            if count + len(one) > most:
                raise InputError(f"more than {most:,} pairs reach a similarity of {least:g}", "raise the threshold")
            exact = np.empty(len(one))
            for at in range(0, len(one), step):
                pair = slice(at, at + step)
                exact[pair] = np.einsum("pd,pd->p", part[one[pair]].astype(np.float64), other[two[pair]])
            exact = np.round(exact, 6)
            kept = exact >= round(float(least), 6)
            firsts.append(one[kept] + start)
            seconds.append(two[kept] + first)
            scores.append(exact[kept])
            count += int(kept.sum())
    return np.concatenate(firsts), np.concatenate(seconds), np.concatenate(scores)


def _largest(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k largest of each row with their columns, in no order."""
    width = scores.shape[1]
    if k >= width:
        return scores, np.ascontiguousarray(np.broadcast_to(np.arange(width), scores.shape))
    places = np.argpartition(scores, width - k, axis=1)[:, width - k :]
    return np.take_along_axis(scores, places, axis=1), places


def _merged(
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
    more: NDArray[np.float32],
    places: NDArray[np.int64],
    first: int,
    k: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k largest of what was found so far and of a block that begins at row `first`."""
    if not rows.shape[1]:
        return more, places + first
    kept, columns = _largest(np.concatenate([scores, more], axis=1), k)
    return kept, np.take_along_axis(np.concatenate([rows, places + first], axis=1), columns, axis=1)


def _again(queries: NDArray[np.float32], passages: Blocks, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Inner products of each query with its candidates `rows` (n, c), each added up by itself and rounded."""
    out = np.empty(rows.shape)
    step = max(1, _CELLS // max(1, rows.shape[1] * queries.shape[1]))
    for start in range(0, len(queries), step):
        wanted, where = np.unique(rows[start : start + step], return_inverse=True)
        vectors = np.asarray(passages[wanted], np.float64)
        candidates = vectors[where.reshape(rows[start : start + step].shape)]
        out[start : start + step] = np.einsum(
            "qd,qcd->qc", queries[start : start + step].astype(np.float64), candidates
        )
    return np.round(out, 6)


def in_order(
    scores: NDArray[np.float64], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def _above(
    queries: NDArray[np.float32], passages: Blocks, least: NDArray[np.float64], passage_block: int
) -> list[NDArray[np.int64]]:
    """For each query all rows whose score may come to its `least`: each (1, c)."""
    if len(queries) == 0:
        return []
    floor = least - _slack(least)
    which, rows = [], []
    for first in range(0, len(passages), passage_block):
        part = np.asarray(passages[first : first + passage_block], np.float32)
        query, row = np.nonzero(queries @ part.T >= floor[:, None])
        which.append(query)
        rows.append(row + first)
    order = np.argsort(np.concatenate(which), kind="stable")
    ends = np.cumsum(np.bincount(np.concatenate(which), minlength=len(queries)))[:-1]
    return [found[None, :] for found in np.split(np.concatenate(rows)[order], ends)]


def _slack(scores: Any) -> Any:
    """How far two scores may lie apart and be equal: of unit vectors, and of others by their size."""
    return _NOISE * np.maximum(1.0, np.abs(np.where(np.isfinite(scores), scores, 0.0)))
