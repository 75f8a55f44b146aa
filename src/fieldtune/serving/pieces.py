"""Many texts of one request, computed piece by piece in several threads beside those of other requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from fieldtune.serving.problems import overloaded


def computing(name: str, threads: int, each: int) -> ThreadPoolExecutor:
    """A pool in whose threads torch computes with `each` threads of its own: side by side two passes take less time
    than one after the other over all cores, which wait for each other after every layer."""

    def begin() -> None:
        import torch

        torch.set_num_threads(each)

    return ThreadPoolExecutor(threads, thread_name_prefix=name, initializer=begin)


class Pieces:
    """A pool of threads that takes a little of each request in turn."""

    def __init__(self, name: str, *, threads: int, most: int, beside: Pieces | None = None) -> None:
        """`beside` shares its threads, by turns with those of its requests, yet not its room."""
        self._name, self._threads, self._most = name, threads, most
        self._pool: ThreadPoolExecutor = computing(name, threads, 1) if beside is None else beside._pool
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Texts of the requests under way."""
        return self._waiting

    @contextlib.contextmanager
    def room(self, texts: int) -> Iterator[None]:
        """Keep room for so many texts. Raises ApiError 503 where there is none; with nothing under way there is."""
        if self._waiting and self._waiting + texts > self._most:
            raise overloaded(f"{self._waiting} texts wait for {self._name}")
        self._waiting += texts
        try:
            yield
        finally:
            self._waiting -= texts

    async def run(self, calls: Sequence[Callable[[], None]]) -> None:
        """Do them all, as many at once as there are threads: what comes meanwhile gets its turn after those.

        Raises what the first to fail raises, and begins no more of them then.
        """
        loop, rest = asyncio.get_running_loop(), iter(calls)

        async def some() -> None:
            for call in rest:
                await loop.run_in_executor(self._pool, call)

        tasks = [loop.create_task(some()) for _ in range(min(self._threads, len(calls)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def aside(self, call: Callable[[], None]) -> None:
        """Run one thing in the pool."""
        await asyncio.get_running_loop().run_in_executor(self._pool, partial(call))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
