"""Search with three kinds of vectors: dense and sparse find candidates, all three score them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.m3.stored import M3Vectors, TokenVectors
from fieldtune.encoding.search import top_k

_CELLS = 16_000_000  # sparse scores in memory at once
_NUMBERS = 4_000_000  # of token vectors in memory at once


def sparse_top(queries: Any, passages: Any, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k passages with the highest sparse score per query, best first, ties to the lower row: (n, min(k, m)) each.

    Both are CSR matrices over the same words. A passage that shares no word is not found: row -1, score 0.
    """
    count = min(k, passages.shape[0])
    scores = np.zeros((queries.shape[0], count), np.float32)
    rows = np.full((queries.shape[0], count), -1, np.int64)
    inverted = passages.T.tocsr()  # word -> passages: an inverted index
    step = max(1, _CELLS // max(1, passages.shape[0]))
    for begin in range(0, queries.shape[0], step):
        block = np.round((queries[begin : begin + step] @ inverted).toarray(), 6)
        order = np.argsort(-block, axis=1, kind="stable")[:, :count]
        best = np.take_along_axis(block, order, axis=1)
        scores[begin : begin + len(block)] = best
        rows[begin : begin + len(block)] = np.where(best > 0, order, -1)
    return scores, rows


def candidates(found: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """(n, widest) the distinct rows that any of several (n, k) rankings found, ascending, -1 behind the last."""
    unions = [np.unique(np.concatenate(each)) for each in zip(*found, strict=True)]
    unions = [union[union >= 0] for union in unions]
    out = np.full((len(unions), max(map(len, unions), default=0)), -1, np.int64)
    for place, union in enumerate(unions):
        out[place, : len(union)] = union
    return out


def find(queries: M3Vectors, passages: M3Vectors, depth: int) -> NDArray[np.int64]:
    """Rows that dense or sparse search ranks among the first `depth`, as `candidates` gives them."""
    return candidates(
        [top_k(queries.dense, passages.dense, depth)[1], sparse_top(queries.sparse, passages.sparse, depth)[1]]
    )


def three_scores(queries: M3Vectors, passages: M3Vectors, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """(3, n, c) dense, sparse and multi-vector score of each query with its candidate rows (n, c); 0 behind the last.

    Rounded to 6 digits, so that equal passages stay equal on every machine.
    """
    out = np.zeros((3, *rows.shape), np.float64)
    for place, candidate in enumerate(rows):
        own = candidate[candidate >= 0]
        if not len(own):
            continue
        out[0, place, : len(own)] = passages.dense[own].astype(np.float64) @ queries.dense[place].astype(np.float64)
        out[1, place, : len(own)] = (passages.sparse[own] @ queries.sparse[place].T).toarray()[:, 0]
        out[2, place, : len(own)] = multi_of(queries.tokens, place, passages.tokens, own)
    return np.round(out, 6).astype(np.float32)


def by_sum(
    rows: NDArray[np.int64],
    scores: NDArray[np.floating[Any]],
    weights: Sequence[float] | NDArray[np.float64],
    depth: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The candidates `rows` (n, c) by the weighted sum of their `scores` (3, n, c): rows and sums, (n, min(depth, c)).

    Equal sums go by the lower row; -1 and 0 behind the last. Sparse scores alone rank what shares a word.
    """
    weights = np.asarray(weights, np.float64)
    sums = np.round(np.tensordot(weights, scores.astype(np.float64), 1), 6)
    there = rows >= 0
    if not weights[0] and not weights[2]:
        there &= scores[1] > 0
    order = np.argsort(-np.where(there, sums, -np.inf), axis=1, kind="stable")[:, :depth]
    ranked = np.take_along_axis(np.where(there, rows, -1), order, axis=1)
    return ranked, np.where(ranked >= 0, np.take_along_axis(sums, order, axis=1), 0.0)


def multi_of(queries: TokenVectors, query: int, passages: TokenVectors, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """(len(rows),) the mean over one query's tokens of the best product with a passage's; 0 where there are none."""
    asked = queries.of(slice(int(queries.starts[query]), int(queries.starts[query + 1])))
    counts = np.diff(passages.starts)[rows]
    out = np.zeros(len(rows), np.float32)
    there = np.flatnonzero(counts)
    if not len(asked) or not len(there):
        return out
    # In parts: all candidates' token vectors as float32 would be hundreds of megabytes.
    parts = np.cumsum(counts[there]) * passages.values.shape[1] // _NUMBERS
    for part in np.split(there, np.flatnonzero(np.diff(parts)) + 1):
        places, own = passages.places(rows[part])
        similar = passages.values[places].astype(np.float32) @ asked.T
        if len(passages.scales):
            similar *= passages.scales[places][:, None]
        out[part] = np.maximum.reduceat(similar, np.cumsum(own) - own, axis=0).mean(axis=1)
    return out
