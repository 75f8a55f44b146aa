"""Several files at once in child processes, each of which may crash or hang without harm to the others."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

import fieldtune


class Child:
    """One reading process; it is started at the first task and again after a crash."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, task: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return the child's reply, or a reply with "failed" when it crashed or took longer than `seconds`."""
        process = self._started()
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the reading process has no pipes")
        try:
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
            line = _line(process.stdout, seconds)
        except BrokenPipeError:
            line = b""
        except TimeoutError:
            self.close()
            return _failure(
                task,
                f"reading took longer than {seconds:.0f} s and was stopped",
                "split it or raise documents.max_seconds",
            )
        if not line.endswith(b"\n"):
            process.wait()
            code = process.returncode
            self._process = None
            how = f"by signal {-code}" if code < 0 else f"with status {code}"
            return _failure(task, f"the parser crashed on it ({how})", "print it to a new PDF or save it anew")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            # -P keeps files of the user's folder (json.py, docx.py …) from shadowing modules.
            root = str(Path(fieldtune.__file__).resolve().parent.parent)
            path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "fieldtune.documents.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path},
            )
        return self._process


def read_all(tasks: Sequence[dict[str, Any]], workers: int, seconds: float) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (position of the task, reply) as files get done, in any order."""
    children: SimpleQueue[Child] = SimpleQueue()
    every = [Child() for _ in range(max(1, min(workers, len(tasks))))]
    for child in every:
        children.put(child)

    def ask(task: dict[str, Any]) -> dict[str, Any]:
        child = children.get()
        try:
            return child.ask(task, seconds)
        finally:
            children.put(child)

    pool = ThreadPoolExecutor(len(every))
    try:
        futures = {pool.submit(ask, task): position for position, task in enumerate(tasks)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in every:
            with contextlib.suppress(OSError):
                child.close()
        pool.shutdown()


def _line(stream: IO[bytes], seconds: float) -> bytes:
    """One line of a pipe, or what came of it before the pipe closed; raises TimeoutError."""
    out = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not out.endswith(b"\n"):
            if not selector.select(seconds):
                raise TimeoutError
            block = os.read(stream.fileno(), 1 << 16)
            if not block:
                break
            out += block
    return out


def _failure(task: dict[str, Any], cause: str, cure: str) -> dict[str, Any]:
    return {"failed": {"file": task["source"], "cause": cause, "cure": cure}}
