"""Long work in a process of its own: ended when its time, its caller or the server ends."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial

import numpy as np
import pytest
from serving_cases import alive

from fieldtune.errors import InputError
from fieldtune.serving.batching import Batcher
from fieldtune.serving.beside import Beside
from fieldtune.serving.problems import ApiError
from fieldtune.uses import outliers


def checked(work: Callable[[Beside], Awaitable[None]], seconds: float = 60) -> None:
    async def run() -> None:
        beside = Beside(seconds=seconds, most=2)
        try:
            await work(beside)
        finally:
            await beside.close()

    asyncio.run(run())


def test_one_niced_child_does_all_and_says_what_is_wrong() -> None:
    async def work(beside: Beside) -> None:
        assert beside.pid is None
        child = await beside.run(os.getpid)
        assert child == beside.pid != os.getpid()
        assert await beside.run(partial(os.nice, 0)) >= 10
        assert await beside.run(partial(print, "to standard output")) is None
        with pytest.raises(ZeroDivisionError):
            await beside.run(partial(divmod, 1, 0))
        with pytest.raises(InputError) as found:
            await beside.run(partial(outliers, ["a"], np.zeros((1, 4), np.float32), ["b"], false_alarms=2))
        assert found.value.message
        assert await beside.run(os.getpid) == child

    checked(work)


def test_a_caller_that_gives_up_ends_the_work_and_one_too_many_is_refused() -> None:
    async def work(beside: Beside) -> None:
        first = await beside.run(os.getpid)
        task = asyncio.create_task(beside.run(partial(time.sleep, 600)))
        waits = asyncio.create_task(beside.run(os.getpid))
        await asyncio.sleep(0.2)
        with pytest.raises(ApiError) as refused:
            await beside.run(os.getpid)
        assert refused.value.status == 503 and not waits.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await waits != first and not alive(first)

    checked(work)


def test_a_stop_kills_the_work_and_refuses_what_waits_and_what_comes() -> None:
    async def work(beside: Beside) -> None:
        child = await beside.run(os.getpid)
        tasks = [asyncio.create_task(beside.run(partial(time.sleep, 600))) for _ in range(2)]
        await asyncio.sleep(0.2)
        await asyncio.wait_for(beside.close(), 10)
        ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        with pytest.raises(ApiError) as late:
            await beside.run(os.getpid)
        for end in (*ends, late.value):
            assert isinstance(end, ApiError) and end.status == 503 and "stopping" in end.message
        assert not alive(child)

    checked(work)


def test_a_child_that_dies_is_said_and_replaced() -> None:
    async def work(beside: Beside) -> None:
        with pytest.raises(ApiError) as died:
            await beside.run(partial(os._exit, 9))
        assert died.value.status == 500
        assert await beside.run(os.getpid) == beside.pid

    checked(work)


def test_a_closed_queue_refuses_instead_of_waiting_for_ever() -> None:
    async def run() -> None:
        queue: Batcher[int, int] = Batcher("q", lambda _, items: items, batch=1, most=4)
        assert await queue.submit(1, kind="a") == 1
        slow: Batcher[int, None] = Batcher("s", lambda _, items: [time.sleep(0.3) for _ in items], batch=1, most=4)
        under_way = asyncio.create_task(slow.submit(1, kind="a"))
        await asyncio.sleep(0.1)
        for one in (queue, slow):
            await one.close()
        for late in (queue.submit(1, kind="a"), slow.submit(1, kind="a"), under_way):
            with pytest.raises(ApiError) as refused:
                await asyncio.wait_for(late, 5)
            assert refused.value.status == 503

    asyncio.run(run())
