"""How a request to end is heard: as Ctrl-C is, and in a training between two steps, where nothing is half done."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

from fieldtune.console import note


@contextlib.contextmanager
def ending_gently() -> Iterator[list[int]]:
    """Until the block ends, raise KeyboardInterrupt where SIGTERM would end the process at once.

    That is how `kill`, `timeout`, containers and schedulers stop a run. A handler of the caller's own stays, and only
    the main thread can set one. The list gets the signal when it comes.
    """
    heard: list[int] = []
    if not _of_main() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield heard
        return

    def stop(number: int, _: FrameType | None) -> None:
        heard.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        yield heard
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class PutOff:
    """Within its block the first Ctrl-C or SIGTERM waits for `heed`, so that the work up to there can be kept; a second
    one counts at once.

    Signals that no Python function handles do what they did, and so do all outside of the main thread, or where
    `idle`.
    """

    def __init__(self, *, idle: bool = False) -> None:
        self._idle = idle or not _of_main()
        self._kept: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._heard = 0

    def __enter__(self) -> PutOff:
        for number in () if self._idle else (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler):
                self._kept[number] = handler
                signal.signal(number, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()
        self.heed()  # after an error too: whoever takes it for the end of this training alone would go on

    @property
    def heard(self) -> bool:
        return self._heard > 0

    def heed(self) -> None:
        """Do what the signal that was put off asks for, if there was one: Ctrl-C raises KeyboardInterrupt."""
        if self._heard:
            number, self._heard = self._heard, 0
            self._kept[number](number, None)

    def _hear(self, number: int, _: FrameType | None) -> None:
        self._heard = number
        self._give_back()
        with contextlib.suppress(RuntimeError):  # it came while a line was being written
            note("stopping when this step is done and kept; once more stops at once")

    def _give_back(self) -> None:
        for number, handler in self._kept.items():
            signal.signal(number, handler)


def _of_main() -> bool:
    return threading.current_thread() is threading.main_thread()
