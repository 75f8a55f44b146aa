"""What many requests want at once, done in one pass: a queue in front of one thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from fieldtune.serving.pieces import computing
from fieldtune.serving.problems import overloaded, stopping

Item = TypeVar("Item")
Out = TypeVar("Out")
Result = TypeVar("Result")


@dataclass(slots=True)
class _Waiting(Generic[Item, Out]):
    item: Item
    kind: Hashable
    weight: int
    done: asyncio.Future[Out]


class Batcher(Generic[Item, Out]):
    """Runs `work(kind, items)` in one thread on what waits together.

    While the thread is at work, requests gather; when it is free it takes all of the oldest one's kind that fit into
    a batch. A lone request never waits for others. Items of kind None are slow work, cut into pieces by the caller:
    one piece goes between two batches of the others, so that neither starves the other.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Hashable, Sequence[Item]], Sequence[Out]],
        *,
        batch: int,
        most: int,
        cores: int = 0,
    ) -> None:
        """`cores` are what torch may use in the thread; 0 leaves that as it is."""
        self._name, self._work, self._batch, self._most = name, work, batch, most
        self._quick: deque[_Waiting[Item, Out]] = deque()
        self._slow: deque[_Waiting[Item, Out]] = deque()
        self._waiting = 0
        self._thread = computing(name, 1, cores) if cores else ThreadPoolExecutor(1, thread_name_prefix=name)
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._closed = False
        self.sizes: deque[int] = deque(maxlen=1_000)
        """Of the last batches."""

    @property
    def waiting(self) -> int:
        """Items in the queue, by weight."""
        return self._waiting

    async def submit(self, item: Item, *, kind: Hashable, weight: int = 1) -> Out:
        """What `work` makes of the item. Raises what `work` raises, and ApiError 503 when too much waits already
        or after `close`."""
        if self._closed:
            raise stopping()
        self.require_room(weight)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name=self._name)
        entry = _Waiting[Item, Out](item, kind, weight, asyncio.get_running_loop().create_future())
        (self._slow if kind is None else self._quick).append(entry)
        self._waiting += weight
        self._wake.set()
        return await entry.done

    def require_room(self, weight: int) -> None:
        """Raises ApiError 503 where so much more would not fit; an empty queue takes anything."""
        if self._waiting and self._waiting + weight > self._most:
            raise overloaded(f"{self._waiting} wait for {self._name}")

    async def aside(self, call: Callable[[], Result]) -> Result:
        """Run something else in the same thread, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def close(self) -> None:
        """End the thread after what it is working on; what waits, or comes later, is refused."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for entry in (*self._quick, *self._slow):
            if not entry.done.done():
                entry.done.set_exception(stopping())
        self._thread.shutdown(wait=False)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        slow_next = False
        while True:
            await self._wake.wait()
            batch = self._take(slow_next)
            slow_next = bool(batch) and batch[0].kind is not None
            if not batch:
                self._wake.clear()
                continue
            self.sizes.append(len(batch))
            try:
                outs = await loop.run_in_executor(
                    self._thread, self._work, batch[0].kind, [entry.item for entry in batch]
                )
            except asyncio.CancelledError:
                for entry in batch:
                    if not entry.done.done():
                        entry.done.set_exception(stopping())
                raise
            except Exception as error:  # of the model or the index: whoever waits is told, the queue goes on
                for entry in batch:
                    if not entry.done.done():
                        entry.done.set_exception(error)
                continue
            for entry, out in zip(batch, outs, strict=True):
                if not entry.done.done():
                    entry.done.set_result(out)

    def _take(self, slow_next: bool) -> list[_Waiting[Item, Out]]:
        """The next batch, of one kind, without what nobody waits for any more."""
        for queue in (self._slow, self._quick) if slow_next else (self._quick, self._slow):
            batch: list[_Waiting[Item, Out]] = []
            others: list[_Waiting[Item, Out]] = []
            most = 1 if queue is self._slow else self._batch
            while queue and len(batch) < most:
                entry = queue.popleft()
                if entry.done.done():  # its client has gone
                    self._waiting -= entry.weight
                elif batch and entry.kind != batch[0].kind:
                    others.append(entry)
                else:
                    batch.append(entry)
                    self._waiting -= entry.weight
            queue.extendleft(reversed(others))
            if batch:
                return batch
        return []
