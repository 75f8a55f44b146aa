"""A request to end is heard as Ctrl-C is, so that answers under way, which are paid for, still come in."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def ending_gently() -> Iterator[None]:
    """Until the block ends, raise KeyboardInterrupt where SIGTERM would end the process at once.

    That is how `kill`, `timeout`, containers and schedulers stop a run. A handler of the caller's own stays, and only
    the main thread can set one.
    """
    of_main = threading.current_thread() is threading.main_thread()
    if not of_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _stop(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt
