"""The child of `fieldtune.serving.beside`: reads a call, does it, writes what came of it, until its input ends."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
from typing import Any, BinaryIO

_NICE = 10
_GRACE = 10
"""Seconds after which a call ends this process itself: whoever should have killed it is gone."""


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this one
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(_NICE)
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not end up in an answer
    while (size := _size(source)) is not None:
        seconds, call = pickle.loads(source.read(size))  # noqa: S301  # from our own server
        last = threading.Timer(seconds + _GRACE, os._exit, [1])
        last.daemon = True
        last.start()
        answer: tuple[bool, Any]
        try:
            answer = (True, call())
        except Exception as error:  # told to whoever asked, in the server
            answer = (False, error)
        finally:
            last.cancel()
        try:
            said = pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
        except (pickle.PicklingError, TypeError, AttributeError):
            said = pickle.dumps((False, RuntimeError(f"{type(answer[1]).__name__} cannot be sent")))
        sink.write(len(said).to_bytes(8, "little") + said)
        sink.flush()


def _size(source: BinaryIO) -> int | None:
    head = source.read(8)
    return int.from_bytes(head, "little") if len(head) == 8 else None


if __name__ == "__main__":
    main()
