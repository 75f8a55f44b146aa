"""Texts through an engine: tokenised ahead in a thread, batched by length, computed in several threads, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.engine import Engine, Floats
from fieldtune.encoding.tokens import Tokens, TokenStore, budgeted

BLOCK = 4_096
"""Texts sorted by length together: as good as sorting all, and what bounds the memory of a stream."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some texts of a stream, tokenised; equal ones stand in it once."""

    texts: Sequence[str]
    """The distinct ones."""
    store: TokenStore
    """Of these."""
    where: NDArray[np.int64]
    """For each text that was given, its place among them."""

    @property
    def several(self) -> NDArray[np.int64]:
        """How many of the given texts each distinct one stands for: a progress bar counts all."""
        return np.bincount(self.where, minlength=len(self.store))


def tokenised(tokens: Tokens, texts: Iterable[str], prompt: str = "") -> Iterator[Block]:
    """The texts block by block, in order; while one block is used, a thread tokenises the next.

    At most two blocks are in memory, however long the stream is.
    """
    blocks = in_blocks(texts, BLOCK)

    def made() -> Block | None:
        chosen = next(blocks, None)
        if chosen is None:
            return None
        place: dict[str, int] = {}
        where = np.array([place.setdefault(text, len(place)) for text in chosen], np.int64)
        return Block(list(place), tokens.store(list(place), prompt), where)

    first = made()
    if first is None or len(first.where) < BLOCK:  # nothing follows: no thread for a query or two
        yield from () if first is None else (first,)
        return
    with ThreadPoolExecutor(1) as ahead:
        ready: Block | None = first
        while ready is not None:
            coming = ahead.submit(made)
            yield ready
            ready = coming.result()


def feed(
    engine: Engine,
    tokens: Tokens,
    texts: Iterable[str],
    prompt: str = "",
    *,
    advance: Callable[[int], None] | None = None,
) -> Iterator[Floats]:
    """Unit vectors of the texts block by block, (up to `BLOCK`, dimension), in their order, tokenised ahead."""
    with engine.threads() as workers:
        for block in tokenised(tokens, texts, prompt):
            yield _computed(engine, tokens.pad, block, workers, advance)[block.where]


def all_of(
    stream: Callable[..., Iterator[Floats]],
    texts: Sequence[str],
    dimension: int,
    advance: Callable[[int], None] | None,
) -> Floats:
    """(len(texts), dimension) what `stream` gives of the texts; equal texts go through it once, wherever they stand.

    `advance` hears of every text: of a repeated one when the block is done that has it.
    """
    place: dict[str, int] = {}
    where = [place.setdefault(text, len(place)) for text in texts]
    distinct, again = list(place), np.bincount(where, minlength=len(place)) - 1
    vectors = np.zeros((len(distinct), dimension), np.float32)
    begin = 0
    for part in stream(distinct, advance=advance):
        end = begin + len(part)
        vectors[begin:end] = part
        repeated = int(again[begin:end].sum())
        if advance is not None and repeated:
            advance(repeated)
        begin = end
    return vectors if len(distinct) == len(texts) else vectors[where]


def in_blocks(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    left = iter(texts)
    while block := list(islice(left, size)):
        yield block


def _computed(
    engine: Engine,
    pad: int,
    block: Block,
    workers: Executor,
    advance: Callable[[int], None] | None,
) -> Floats:
    """Vectors of the block's distinct texts."""
    store, several = block.store, block.several

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
