"""One version of an index, opened: everything a search reads, which no rebuild changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.m3 import M3Vectors
from fieldtune.errors import InputError
from fieldtune.fusion import add_gains, spread
from fieldtune.index.columns import Mask
from fieldtune.index.dense import Dense
from fieldtune.index.meta import REBUILD, read_meta, stamp
from fieldtune.index.signals import Signals
from fieldtune.index.store import Store
from fieldtune.index.table import connect, nearest
from fieldtune.index.three import MEMBERS, Three, weights_of
from fieldtune.index.where import Columns
from fieldtune.lexical import BM25, best_of

DEPTH = 100
"""Passages of each of two rankings that are made one: as deep as evaluation measures it."""
Row = tuple[int, float, dict[str, float]]
"""Where the passage is, its score, and the parts that it came from."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What `meta.json` named at one moment. Searching from several threads is safe."""

    meta: dict[str, Any]
    stamp: tuple[int, int, int] | None
    store: Store
    columns: Columns
    words: BM25
    dense: Dense
    base: Dense | None
    table: Any
    """The LanceDB table where it is searched by lists, else None."""
    three: Three | None = None
    """Sparse and token vectors beside the dense ones, where the model gives them."""

    def find(
        self,
        vectors: NDArray[np.float32] | None,
        texts: Sequence[str] | None,
        k: int,
        mode: str,
        mask: Mask | None,
        *,
        base: bool = False,
    ) -> list[list[Row]]:
        """The k best rows of each query by a mode; `vectors` are unit vectors of the model (or the base's)."""
        dense = self.base if base and self.base is not None else self.dense
        depth = k if mode == "dense" else max(k, DEPTH)
        near = None
        if mode != "words" and vectors is not None:
            scores, rows = self._near(dense, vectors, depth, mask, lists=not base)
            near = (np.round(scores.astype(np.float64), 6), rows)
            if mode == "dense":
                return [_dense_rows(*pair) for pair in zip(*near, strict=True)]
        found = []
        for place, text in enumerate(texts or ()):
            scored = self.words.scores(text)
            if mask is not None:
                scored = np.where(mask, scored, np.float32(0))
            best = best_of(scored, depth)
            if near is None or vectors is None:
                ranked = enumerate(best[:k].tolist(), 1)
                found.append([(row, float(scored[row]), _parts(None, None, scored[row], rank)) for rank, row in ranked])
            else:
                vector = vectors[place]
                found.append(self._fused(dense, vector, near[0][place], near[1][place], scored, best, k))
        return found

    def find_three(
        self,
        queries: M3Vectors,
        vectors: NDArray[np.float32],
        texts: Sequence[str],
        k: int,
        mode: str,
        mask: Mask | None,
    ) -> list[list[Row]]:
        """The k best rows of each query by a mode of `three.MODES`; `vectors` are its dense ones as the index is cut.

        Raises InputError where the index has no sparse and token vectors.
        """
        if self.three is None:
            raise InputError(f"this index has no vectors for {mode}", REBUILD)
        depth, weights = max(k, int(self.meta["m3"]["depth"])), weights_of(self.meta, mode)
        near = None if mode == "sparse" else self._near(self.dense, vectors, depth, mask, lists=True)[1]
        out = []
        for query, text in enumerate(texts):
            vector, own = vectors[query], np.zeros(0, np.int64) if near is None else near[query]
            found = self.three.candidates(queries, query, vector, own, depth, mask, mode=mode)
            rows, sums = found.ranked(weights, depth if mode == "m3-words" else k)
            lexical: dict[int, tuple[float, int | None]] = {}
            if mode == "m3-words":
                rows, sums, lexical = self._with_words(rows, sums, text, k, mask)
            scores = self.three.scores(queries, query, vector, rows, found.sparse, multi=2 in MEMBERS[mode])
            out.append([
                (row, total, found.parts(row, each, mode) | _parts(None, None, *lexical.get(row, (None, None))))
                for row, total, each in zip(rows.tolist(), sums.tolist(), scores.T.tolist(), strict=True)
            ])  # fmt: skip
        return out

    def _with_words(
        self, rows: NDArray[np.int64], sums: NDArray[np.float64], text: str, k: int, mask: Mask | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], dict[int, tuple[float, int | None]]]:
        """A ranking made one with BM25's: rows, sums, and the words' score and rank of each row."""
        scored = self.words.scores(text)
        if mask is not None:
            scored = np.where(mask, scored, np.float32(0))
        best, weight = best_of(scored, max(k, len(rows), DEPTH)), float(self.meta["m3"]["words_weight"])
        gains = [weight * spread(rows[None], sums[None]), (1 - weight) * spread(best[None], scored[best][None])]
        fused, totals = add_gains([rows[None], best[None]], gains, k)
        there = fused[0] >= 0
        ranks = {row: rank for rank, row in enumerate(best.tolist(), 1)}
        lexical = {row: (float(scored[row]), ranks.get(row)) for row in fused[0][there].tolist()}
        return fused[0][there], totals[0][there], lexical

    def _near(
        self, dense: Dense, vectors: NDArray[np.float32], k: int, mask: Mask | None, *, lists: bool
    ) -> tuple[NDArray[np.floating[Any]], NDArray[np.int64]]:
        # A filter is met exactly: lists that were measured without it promise nothing about what it leaves.
        if self.table is None or mask is not None or not lists:
            return dense.best(vectors, k, mask)
        k = min(k, len(self.store))
        scores, rows = np.zeros((len(vectors), k)), np.full((len(vectors), k), -1, np.int64)
        for place, vector in enumerate(vectors):
            found = nearest(self.table, vector, k, nprobes=self.meta["nprobes"])
            exact = dense.scores(vector, found)
            order = np.lexsort((found, -exact))
            scores[place, : len(found)], rows[place, : len(found)] = exact[order], found[order]
        return scores, rows

    def _fused(
        self,
        dense: Dense,
        vector: NDArray[np.float32],
        near_scores: NDArray[np.float64],
        near: NDArray[np.int64],
        scored: NDArray[np.float32],
        best: NDArray[np.int64],
        k: int,
    ) -> list[Row]:
        weight = float(self.meta["weight"])
        near, near_scores = near[near >= 0], near_scores[near >= 0]
        rankings = [near[None], best[None]]
        gains = [weight * spread(near[None], near_scores[None]), (1 - weight) * spread(best[None], scored[best][None])]
        fused, sums = add_gains(rankings, gains, k)
        rows = fused[0][fused[0] >= 0]
        cosines = dense.scores(vector, rows)
        near_ranks = {row: rank for rank, row in enumerate(near.tolist(), 1)}
        word_ranks = {row: rank for rank, row in enumerate(best.tolist(), 1)}
        return [
            (row, total, _parts(cosine, near_ranks.get(row), scored[row], word_ranks.get(row)))
            for row, total, cosine in zip(rows.tolist(), sums[0].tolist(), cosines.tolist(), strict=False)
        ]


def _dense_rows(scores: NDArray[np.float64], rows: NDArray[np.int64]) -> list[Row]:
    found = zip(scores.tolist(), rows.tolist(), strict=True)
    return [(row, score, _parts(score, rank, None, None)) for rank, (score, row) in enumerate(found, 1) if row >= 0]


def _parts(dense: float | None, dense_rank: int | None, words: Any, words_rank: int | None) -> dict[str, float]:
    known: Mapping[str, Any] = {
        "dense": dense, "dense_rank": dense_rank, "words": words, "words_rank": words_rank
    }  # fmt: skip
    return {
        name: int(value) if name.endswith("rank") else float(value)
        for name, value in known.items()
        if value is not None
    }


def open_snapshot(path: Path) -> Snapshot:
    """What meta.json names now. Raises InputError where files that it names are gone or damaged."""
    for _ in range(3):
        mark = stamp(path)
        meta = read_meta(path)
        try:
            return _opened(path, meta, mark)
        except InputError:
            raise
        except Exception as error:  # numpy and LanceDB raise what they like
            if stamp(path) == mark:
                why = (str(error).strip().splitlines() or [type(error).__name__])[0]
                what = f"{meta['table']} or {meta['files']} is gone or damaged: {why}"
                raise InputError(what, REBUILD, path=path) from error
            # Rebuilt twice since meta.json was read: the newer one is whole.
    raise InputError("is rebuilt faster than it can be opened", "open it again", path=path)


def _opened(path: Path, meta: dict[str, Any], mark: tuple[int, int, int] | None) -> Snapshot:
    files = path / meta["files"]
    dense = Dense(files, "vectors", rescore=meta["rescore"])
    return Snapshot(
        meta,
        mark,
        Store(files),
        Columns(files, meta["columns"], meta["count"]),
        BM25.load(files / "words"),
        dense,
        Dense(files, "base", rescore=meta["rescore"]) if meta["base"] else None,
        connect(path, meta["uri"]).open_table(meta["table"]) if meta["nprobes"] else None,
        Three(dense, Signals(files)) if meta.get("m3") else None,
    )
