"""A load generator that costs little itself: bare HTTP/1.1 over kept-open connections, in one event loop."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Seen:
    """What came back: seconds of each good answer, and how many of each bad status."""

    seconds: list[float] = field(default_factory=list)
    bad: dict[int, int] = field(default_factory=dict)
    took: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.seconds) / self.took if self.took else 0.0

    def percentile(self, share: float) -> float:
        """In milliseconds."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("inf")


class Line:
    """One connection."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("http://").partition(":")
        self._host, self._port = host, int(port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: Any) -> tuple[int, bytes]:
        """(status, body); the connection is opened again where the server closed it."""
        return await self.send("POST", path, json.dumps(body).encode(), "application/json")

    async def send(self, method: str, path: str, data: bytes = b"", kind: str = "") -> tuple[int, bytes]:
        """The same for any request; one of a form says that it comes from the server's own page."""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\n"
        if data:
            head += f"Content-Type: {kind}\r\nContent-Length: {len(data)}\r\nSec-Fetch-Site: same-origin\r\n"
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=1 << 24)
        reader, writer = self._streams
        writer.write(head.encode() + b"\r\n" + data)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        if "transfer-encoding: chunked" in answer:
            found = b""
            while size := int(await reader.readuntil(b"\r\n"), 16):
                found += await reader.readexactly(size)
                await reader.readexactly(2)
            await reader.readexactly(2)
        else:
            found = await reader.readexactly(int(answer.partition("content-length:")[2].split("\r\n")[0]))
        if "connection: close" in answer:
            self.close()
        return int(answer.split()[1]), found

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


async def steady(address: str, path: str, bodies: Sequence[Any], rate: float, seconds: float) -> Seen:
    """`rate` requests a second whatever the server does; each is timed from when it was due."""
    seen, idle, tasks = Seen(), [], []
    began = time.perf_counter()

    async def one(number: int, due: float) -> None:
        line = idle.pop() if idle else Line(address)
        try:
            status, _ = await line.post(path, bodies[number % len(bodies)])
        except (OSError, EOFError):
            seen.bad[0] = seen.bad.get(0, 0) + 1
            line.close()
            return
        idle.append(line)
        if status == 200:
            seen.seconds.append(time.perf_counter() - due)
        else:
            seen.bad[status] = seen.bad.get(status, 0) + 1

    for number in range(int(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(number, due)))
    await asyncio.gather(*tasks)
    seen.took = time.perf_counter() - began
    for line in idle:
        line.close()
    return seen


async def saturated(address: str, path: str, bodies: Sequence[Any], clients: int, seconds: float) -> Seen:
    """`clients` connections, each asking again as soon as it has its answer."""
    seen, number = Seen(), 0
    began = time.perf_counter()

    async def one() -> None:
        nonlocal number
        line = Line(address)
        while time.perf_counter() - began < seconds:
            number += 1
            start = time.perf_counter()
            try:
                status, _ = await line.post(path, bodies[number % len(bodies)])
            except (OSError, EOFError):
                status = 0
                line.close()
            if status == 200:
                seen.seconds.append(time.perf_counter() - start)
            else:
                seen.bad[status] = seen.bad.get(status, 0) + 1
        line.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    seen.took = time.perf_counter() - began
    return seen


@contextmanager
def started(command: Sequence[str]) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server process; its address is the last word of the first line that it prints."""
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline() if server.stdout else ""
        if "http://" not in line:
            sys.exit(f"no server came up: {' '.join(command)}")
        threading.Thread(target=server.stdout.read, daemon=True).start()  # type: ignore[union-attr]
        yield line.split()[-1], server
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def ours(run: str, *settings: str) -> list[str]:
    """The command that serves a run on any free port."""
    words = [word for setting in settings for word in ("--set", setting)]
    return [sys.executable, "-m", "fieldtune", "serve", run, "--port", "0", *words]
