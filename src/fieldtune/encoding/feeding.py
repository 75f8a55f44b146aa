"""Texts through an engine: tokenised ahead in a thread, batched by length, computed in several threads, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.engine import Engine, Floats
from fieldtune.encoding.tokens import Tokens, TokenStore, budgeted

BLOCK = 4_096
"""Texts sorted by length together: as good as sorting all, and what bounds the memory of a stream."""


def feed(
    engine: Engine,
    tokens: Tokens,
    texts: Iterable[str],
    prompt: str = "",
    *,
    advance: Callable[[int], None] | None = None,
    block: int = BLOCK,
) -> Iterator[Floats]:
    """Unit vectors of the texts block by block, (up to `block`, dimension), in their order.

    While the threads compute one block, the next is tokenised; at most two blocks are in memory, however long the
    stream is. Within a block equal texts are computed once.
    """
    blocks = _blocks(iter(texts), block)
    with ThreadPoolExecutor(1) as ahead, engine.threads() as workers:

        def tokenised() -> tuple[TokenStore, NDArray[np.int64]] | None:
            chosen = next(blocks, None)
            if chosen is None:
                return None
            place: dict[str, int] = {}
            where = np.array([place.setdefault(text, len(place)) for text in chosen], np.int64)
            return tokens.store(list(place), prompt), where

        coming = ahead.submit(tokenised)
        while (ready := coming.result()) is not None:
            coming = ahead.submit(tokenised)
            store, where = ready
            # A progress bar counts the texts that were given, also those that stand for several.
            several = np.bincount(where, minlength=len(store))
            yield _computed(engine, tokens.pad, store, workers, several, advance)[where]


def _computed(
    engine: Engine,
    pad: int,
    store: TokenStore,
    workers: Executor,
    several: NDArray[np.int64],
    advance: Callable[[int], None] | None,
) -> Floats:
    def one(rows: NDArray[np.int64]) -> Floats:
        ids, mask = store.padded_arrays(rows, pad)
        return engine.forward(ids, mask)

    out: Floats | None = None
    waiting: dict[Future[Floats], NDArray[np.int64]] = {
        workers.submit(one, rows): rows for rows in budgeted(store.lengths, engine.budget)
    }
    try:
        for done in as_completed(waiting):
            rows, vectors = waiting[done], done.result()
            if out is None:
                out = np.empty((len(store), vectors.shape[1]), np.float32)
            out[rows] = vectors
            if advance is not None:
                advance(int(several[rows].sum()))
    finally:
        for future in waiting:  # after an error, or Ctrl-C, nothing more is begun
            future.cancel()
    assert out is not None  # a block has at least one text
    return out


def _blocks(texts: Iterator[str], size: int) -> Iterator[Sequence[str]]:
    while block := list(islice(texts, size)):
        yield block
