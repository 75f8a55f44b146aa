"""How long to wait before a request is sent again; one pause for all threads where the endpoint limits the rate."""

from __future__ import annotations

import threading
import time

from fieldtune.errors import EndpointError
from fieldtune.llm.failures import AGAIN

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 60.0
"""Of our own choosing; a longer one that the endpoint asks for is kept to."""
_LONGEST_OBEYED = 3_600.0
"""An endpoint that asks for more patience than this is done for today."""


class Pace:
    """When the endpoint at `address` may be asked next; each prompt has `retries` tries after its first."""

    def __init__(self, address: str, retries: int) -> None:
        self._address = address
        self._retries = retries
        self._lock = threading.Lock()
        self._not_before = 0.0

    def wait(self, stop: threading.Event) -> None:
        """Sit out the common pause; `stop` ends it."""
        while (left := self._not_before - time.monotonic()) > 0 and not stop.is_set():
            stop.wait(left)

    def hold(self, tried: int, asked: float | None, stop: threading.Event, *, common: bool = False) -> None:
        """Wait before the next try; where the endpoint limits the rate or names a time, all requests wait.

        `tried` counts the tries before this one, `asked` is the pause in seconds that the endpoint asks for. Raises
        EndpointError where that is too long.
        """
        if asked is not None and asked > _LONGEST_OBEYED:
            raise EndpointError(
                f"the LLM endpoint {self._address} asks to wait for {asked / 3600:.1f} hours",
                f"when that time is over, {AGAIN}",
            )
        seconds = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**tried) if asked is None else asked
        if common or asked is not None:
            with self._lock:
                self._not_before = max(self._not_before, time.monotonic() + seconds)
        elif tried < self._retries:
            stop.wait(seconds)
