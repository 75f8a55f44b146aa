"""Long work in a process of its own: it can be ended, and takes neither time nor memory from those who search.

Over the child's standard input and output go a length (8 bytes, little endian) and that many bytes of pickle: a call
with the seconds that it has, and what came of it. Both ends are this program; nothing that a client sent is unpickled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from typing import Any, TypeVar

from fieldtune.serving.problems import ApiError, overloaded, stopping

log = logging.getLogger(__name__)
Result = TypeVar("Result")

_ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM")}


class Beside:
    """Calls done one after the other by a child that starts with the first of them, and anew when one was killed."""

    def __init__(self, *, seconds: float, most: int) -> None:
        """`seconds` a call may take, with the start of the child; `most` calls may be at work and waiting."""
        self.seconds = seconds
        self._most = most
        self._turn = asyncio.Lock()
        self._under_way = 0
        self._child: Process | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the child, while there is one."""
        return None if self._child is None else self._child.pid

    async def run(self, call: Callable[[], Result]) -> Result:
        """What the call gives; it and its result are pickled.

        Raises what the call raises, and ApiError: 504 beyond its time, 503 when too many wait or the server stops, 500
        for a child that died. However this ends early, by its time or because the caller is cancelled, so does the
        child.
        """
        if self._under_way >= self._most:
            raise overloaded(f"{self._under_way} requests for long work are under way", 10)
        self._under_way += 1
        try:
            async with self._turn:
                if self._closed:
                    raise stopping()
                done = False
                try:
                    async with asyncio.timeout(self.seconds):
                        good, result = await self._exchange(call)
                    done = True
                except TimeoutError:
                    why = f"this takes more than {self.seconds:g} s and was given up; send fewer texts or classes"
                    raise ApiError(504, why, code="timeout") from None
                except (asyncio.IncompleteReadError, ConnectionError):
                    if self._closed:
                        raise stopping() from None
                    log.error("the process for long work died")
                    raise ApiError(
                        500, "the work was broken off, perhaps for want of memory", code="internal"
                    ) from None
                finally:
                    if not done:
                        await self._kill()
        finally:
            self._under_way -= 1
        if good:
            return result  # type: ignore[no-any-return]  # of the call that was sent
        raise result

    async def close(self) -> None:
        """Kill the child; whoever waits is refused."""
        self._closed = True
        await self._kill()

    async def _exchange(self, call: Callable[[], Result]) -> tuple[bool, Any]:
        sent = await asyncio.to_thread(pickle.dumps, (self.seconds, call), pickle.HIGHEST_PROTOCOL)
        if self._child is None or self._child.returncode is not None:
            self._child = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "fieldtune.serving.beside_child", stdin=PIPE, stdout=PIPE,
                env=os.environ | _ONE_THREAD,
            )  # fmt: skip
        there, back = self._child.stdin, self._child.stdout
        if self._closed or there is None or back is None:
            raise ConnectionError
        there.write(len(sent).to_bytes(8, "little") + sent)
        await there.drain()
        size = int.from_bytes(await back.readexactly(8), "little")
        answer: tuple[bool, Any] = await asyncio.to_thread(pickle.loads, await back.readexactly(size))
        return answer

    async def _kill(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            if child.stdin is not None:
                child.stdin.close()
            await child.wait()
