"""Exact nearest neighbours by inner product, in blocks, so that the whole similarity matrix never exists."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import InputError, ModelError

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
    they are put in order. Memory beyond the result is a few blocks of scores and vectors. Raises ModelError for a
    vector with NaN or an infinite number: among scores it would stand anywhere.
    """
    k = min(k, len(passages))
    scores = np.full((len(queries), k), -np.inf, np.float32)
    rows = np.zeros((len(queries), k), np.int64)
    for start in range(0, len(queries), query_block):
        block = np.ascontiguousarray(queries[start : start + query_block], np.float32)
        require_finite(block, start, "query")
        best = np.full((len(block), 0), -np.inf, np.float32)
        found = np.zeros((len(block), 0), np.int64)
        for first in range(0, len(passages), passage_block):
            part = np.asarray(passages[first : first + passage_block], np.float32)
            more, places = _largest(_products(block, part, first), k + _MARGIN)
            best, found = _merged(best, found, more, places, first, k + _MARGIN)
        exact, ordered = in_order(_again(block, passages, found), found, k)
        # Whose k-th candidate scores as what was left behind may have kept the wrong ones of many equals.
        border = best.min(axis=1) if found.shape[1] < len(passages) else np.full(len(block), -np.inf)
        doubtful = np.flatnonzero(exact[:, -1] <= border + _slack(border)) if k else np.zeros(0, np.int64)
        if len(doubtful):
            anew = _above(block[doubtful], passages, found[doubtful], exact[doubtful, -1], passage_block, k)
            exact[doubtful], ordered[doubtful] = anew
        scores[start : start + len(block)] = exact
        rows[start : start + len(block)] = ordered
    return scores, rows


def pairs_above(
    queries: NDArray[np.float32], passages: Blocks, least: float, *, same: bool, most: int, block: int = 2_048
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """All pairs of a query and a passage whose inner product reaches `least`: rows, rows and scores, each (pairs,).

    `same` says that both are one set; each pair is then given once, the lower row first, and no row with itself. Scores
    are added up again in float64 as in `top_k`. Raises InputError for more than `most` pairs, and ModelError as `top_k`
    does.
    """
    firsts, seconds, scores = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    count, step = 0, max(1, _CELLS // max(1, queries.shape[1]))
    for start in range(0, len(queries), block):
        part = np.ascontiguousarray(queries[start : start + block], np.float32)
        require_finite(part, start, "query")
        for first in range(start if same else 0, len(passages), block):
            other = np.asarray(passages[first : first + block], np.float32)
            one, two = np.nonzero(_products(part, other, first) >= least - float(_slack(least)))
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


def _products(queries: NDArray[np.float32], passages: NDArray[np.float32], first: int) -> NDArray[np.float32]:
    """Inner products (n, m) with the passages from row `first` on. Raises ModelError where one is not finite."""
    found = queries @ passages.T
    if not np.isfinite(found[0]).all():  # a damaged passage shows with any query: nothing else is gone through
        require_finite(passages, first, "passage")
    return found


def require_finite(vectors: NDArray[np.float32], first: int, kind: str, step: int = 1) -> None:
    """Raises ModelError naming the first of the vectors (n, dim), each `step`-th from row `first` on, with NaN or an
    infinite number."""
    damaged = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(damaged):
        raise ModelError(
            f"the vector of {kind} number {first + step * int(damaged[0]) + 1:,} has numbers that are not finite "
            "(NaN or infinite)",
            "what is stored is damaged, or the model's weights are: encode again, in fp32",
        )


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
    wide = max(1, _CELLS // max(1, queries.shape[1]))  # candidates of one query
    step = max(1, wide // max(1, rows.shape[1]))
    for start in range(0, len(queries), step):
        asked = queries[start : start + step].astype(np.float64)
        for at in range(0, rows.shape[1], wide):
            some = rows[start : start + step, at : at + wide]
            wanted, where = np.unique(some, return_inverse=True)
            candidates = np.asarray(passages[wanted], np.float64)[where.reshape(some.shape)]
            out[start : start + step, at : at + wide] = np.einsum("qd,qcd->qc", asked, candidates)
    return np.round(out, 6)


def in_order(
    scores: NDArray[np.float64], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def kept_best(
    scores: NDArray[np.float64],
    rows: NDArray[np.int64],
    more: NDArray[np.float64],
    places: NDArray[np.int64],
    k: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k best, best first, of what was found so far and of more, whose rows rise and all come later.

    Where k are found, others must score above the last of them: of any number of equals no more than k are kept.
    """
    if len(scores) == k:
        above = more > scores[-1]
        more, places = more[above], places[above]
    scores, rows = np.concatenate([scores, more]), np.concatenate([rows, places])
    order = np.argsort(-scores, kind="stable")[:k]
    return scores[order], rows[order]


def _above(
    queries: NDArray[np.float32],
    passages: Blocks,
    candidates: NDArray[np.int64],
    least: NDArray[np.float64],
    passage_block: int,
    k: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores and rows, (n, k), of the k best of the candidates (n, c) and all whose score may come to `least`, (n,).

    The product is one in float64: where most passages are equal, each pair added up by itself would take hours.
    """
    floor = least - _slack(least)
    asked = queries.astype(np.float64)
    found = [(np.zeros(0), np.zeros(0, np.int64)) for _ in queries]
    reached = np.full(len(queries), -np.inf)
    step = max(1, _CELLS // max(1, *queries.shape))
    for first in range(0, len(passages), passage_block):
        part = np.asarray(passages[first : first + passage_block], np.float32)
        may = (queries @ part.T >= floor[:, None]).any(axis=0)
        may[candidates[(candidates >= first) & (candidates < first + len(part))] - first] = True
        columns = np.flatnonzero(may)
        for at in range(0, len(columns), step):
            some = columns[at : at + step]
            exact = asked @ part[some].astype(np.float64).T
            np.round(exact, 6, out=exact)
            for query in np.flatnonzero(exact.max(axis=1) > reached):
                found[query] = kept_best(*found[query], exact[query], first + some, k)
                if len(found[query][0]) == k:
                    reached[query] = found[query][0][-1]
    return np.stack([scores for scores, _ in found]), np.stack([rows for _, rows in found])


def _slack(scores: Any) -> Any:
    """How far two scores may lie apart and be equal: of unit vectors, and of others by their size."""
    return _NOISE * np.maximum(1.0, np.abs(np.where(np.isfinite(scores), scores, 0.0)))
