"""Nearest neighbours by inner product over vectors on disk, scanned as int8 codes and settled by the vectors.

A product of int8 codes takes a tenth of the time of one of float32 vectors and a quarter of the memory. How far a
code's product can be from the vector's is known (Cauchy and Schwarz): what could still belong to the best is computed
again from the vectors, so that the result is that of exact search. Asked for less (`rescore`), only so many candidates
are computed again.
"""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.disk import mapped_array
from fieldtune.encoding import shortened, top_k
from fieldtune.encoding.search import kept_best
from fieldtune.encoding.threads import one_thread
from fieldtune.index.columns import Mask

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
_BLOCK = 16_384
_MARGIN = 16
_CELLS = 16_000_000
"""Scores of a scan at once."""
_ALONE = 16_000_000
"""Products of bytes that one thread makes: a millisecond."""
_NOISE = 2e-6
_LONGEST = 1.01
"""Length of a vector at most: bf16 rounds to about 3 digits."""


def write_codes(folder: Path, name: str, vectors: Floats, dimension: int) -> None:
    """Write the vectors (n, full) as `NAME-codes.npy`, int8 (n, dimension), a scale and the error of each row."""
    codes = mapped_array(folder / f"{name}-codes.npy", np.int8, (len(vectors), dimension))
    scales, errors = np.zeros(len(vectors), np.float32), np.zeros(len(vectors), np.float32)
    for begin in range(0, len(vectors), _BLOCK):
        rows = slice(begin, begin + _BLOCK)
        cut = shortened(np.asarray(vectors[rows], np.float32), dimension)
        codes[rows], scales[rows], errors[rows] = _coded(cut)
    codes.flush()
    np.save(folder / f"{name}-scales.npy", scales)
    np.save(folder / f"{name}-errors.npy", errors)


def _coded(vectors: Floats) -> tuple[NDArray[np.int8], Floats, Floats]:
    """Codes, scales, and the lengths of what the codes leave out."""
    scales = np.maximum(np.abs(vectors).max(axis=1), np.float32(1e-12)) / np.float32(127)
    codes = np.rint(vectors / scales[:, None]).astype(np.int8)
    errors = np.linalg.norm(vectors - codes * scales[:, None], axis=1)
    return codes, scales, errors.astype(np.float32)


class Dense:
    """Vectors of one model: `NAME.npy` with its codes. Raises OSError or ValueError for files that are gone."""

    def __init__(self, folder: Path, name: str, *, rescore: int = 0) -> None:
        self.vectors: Floats = np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))
        # "c": torch wants memory that could be written; pages stay shared as long as nobody does.
        self._codes: NDArray[np.int8] = np.asarray(np.load(folder / f"{name}-codes.npy", mmap_mode="c"))
        self._scales: Floats = np.load(folder / f"{name}-scales.npy")
        self._errors: Floats = np.load(folder / f"{name}-errors.npy")
        self._rescore = rescore
        self._product: Any = None

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dimension(self) -> int:
        """Of the vectors that decide."""
        return int(self.vectors.shape[1])

    @property
    def scanned_bytes(self) -> int:
        """Of each passage: its code, scale and error."""
        return int(self._codes.shape[1]) + 8

    def best(self, queries: Floats, k: int, mask: Mask | None = None) -> tuple[Floats, Rows]:
        """Scores and rows of the k best for each of the queries (n, dimension): (n, k), ties by lower row.

        Where fewer meet the mask, rows end in -1. Without codes' product on this machine the vectors are compared.
        """
        k = min(k, len(self))
        product = self._codes_product()
        if product is None and mask is None and not self._rescore:
            return top_k(queries, self.vectors, k)
        scores, rows = np.zeros((len(queries), k), np.float32), np.full((len(queries), k), -1, np.int64)
        step = max(1, _CELLS // max(1, len(self)))
        for begin in range(0, len(queries), step):
            block = np.ascontiguousarray(queries[begin : begin + step], np.float32)
            guesses, doubts = self._guesses(block, product)
            for place, (query, guess, doubt) in enumerate(zip(block, guesses, doubts, strict=True), begin):
                if mask is not None:
                    guess[~mask] = -np.inf
                found, exact = self._settled(query, guess, doubt, k)
                scores[place, : len(found)], rows[place, : len(found)] = exact, found
        return scores, rows

    def scores(self, query: Floats, rows: Rows) -> NDArray[np.float64]:
        """Inner products with the vectors of these rows, rounded so that equal vectors tie."""
        found = np.einsum("d,cd->c", query.astype(np.float64), np.asarray(self.vectors[rows], np.float64))
        return np.asarray(np.round(found, 6))

    def _guesses(self, queries: Floats, product: Any) -> tuple[Floats, list[Floats | float]]:
        """Scores of all passages (n, passages), and how far each may be from the truth."""
        if product is None and not self._rescore:
            return queries @ self.vectors.T, [_NOISE] * len(queries)
        codes, scales, errors = _coded(shortened(queries, self._codes.shape[1]))
        whole = (product or _slow_product)(codes, self._codes)
        guesses = np.multiply(whole, self._scales, dtype=np.float32) * scales[:, None]
        lengths = np.linalg.norm(codes * scales[:, None], axis=1)
        return guesses, [
            error * np.float32(_LONGEST) + length * self._errors + np.float32(_NOISE)
            for error, length in zip(errors, lengths, strict=True)
        ]

    def _settled(self, query: Floats, guess: Floats, doubt: Floats | float, k: int) -> tuple[Rows, NDArray[np.float64]]:
        """The k best by their vectors, from guesses; -inf is what must not be found."""
        first = min(len(guess), self._rescore * k if self._rescore else k + _MARGIN)
        some = np.argpartition(guess, len(guess) - first)[len(guess) - first :].astype(np.int64)
        some = some[np.isfinite(guess[some])]
        exact = self.scores(query, some)
        if not self._rescore and len(some) >= k:
            worst = np.partition(exact, len(exact) - k)[len(exact) - k] - _NOISE
            some = np.flatnonzero(guess + doubt >= worst)
            if len(some) > first:
                return self._best_among(query, some, k)
            exact = self.scores(query, some)
        order = np.lexsort((some, -exact))[:k]
        return some[order], exact[order]

    def _best_among(self, query: Floats, rows: Rows, k: int) -> tuple[Rows, NDArray[np.float64]]:
        """The k best of many rows, which rise, a block at a time: where most passages are equal these are most."""
        exact, found = np.zeros(0), np.zeros(0, np.int64)
        for begin in range(0, len(rows), _BLOCK):
            part = rows[begin : begin + _BLOCK]
            exact, found = kept_best(exact, found, self.scores(query, part), part, k)
        return found, exact

    def _codes_product(self) -> Any:
        """The faster of two: int8 products by torch, where that is loaded and right, else None for float32."""
        if "torch" not in sys.modules:  # its import costs more than it saves
            return None
        if self._product is None:
            self._product = (_faster(self._codes, self.vectors),)
        return self._product[0]


def _slow_product(codes: NDArray[np.int8], passages: NDArray[np.int8]) -> NDArray[np.float32]:
    """In blocks, through float32, in which sums of so few products of bytes are exact."""
    parts = [
        codes.astype(np.float32) @ passages[begin : begin + _BLOCK].astype(np.float32).T
        for begin in range(0, len(passages), _BLOCK)
    ]
    return np.concatenate(parts, axis=1)


def _fast_product(codes: NDArray[np.int8], passages: NDArray[np.int8]) -> NDArray[np.int32]:
    import torch

    multiply: Any = torch._int_mm  # no public name yet; checked below before it is used
    # Where another process is at work, a product that one thread is through with in a millisecond takes several times
    # as long while two wait for each other.
    with one_thread() if len(codes) * passages.size <= _ALONE else nullcontext():
        found: NDArray[np.int32] = multiply(torch.from_numpy(codes), torch.from_numpy(passages).T).numpy()
    return found


def _faster(codes: NDArray[np.int8], vectors: Floats) -> Any:
    """`_fast_product` where it is right and faster than float32 vectors, on a few thousand passages; else None."""
    asked, part, full = np.ascontiguousarray(codes[:1]), codes[:_BLOCK], vectors[:_BLOCK]
    try:
        if not np.array_equal(_fast_product(asked, part), _slow_product(asked, part)):
            return None
    except Exception:  # a torch without it, or for another processor: whatever it raises, the other way is there
        return None
    times = []
    for run in (lambda: _fast_product(asked, part), lambda: np.asarray(vectors[:1]) @ full.T):
        took = []
        for _ in range(3):
            begin = time.perf_counter()
            run()
            took.append(time.perf_counter() - begin)
        times.append(min(took))
    return _fast_product if times[0] < times[1] else None
