"""How often one client may ask: a token bucket each."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

_MOST_CLIENTS = 10_000


class RateLimit:
    """`per_minute` requests of each client, a quarter of them at once; 0 sets no limit. For one thread."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_minute / 60
        self._most = max(1.0, per_minute / 4)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> int:
        """0 if the request may go on, else whole seconds after which the next one may."""
        if not self._rate:
            return 0
        now = self._clock()
        left, last = self._buckets.pop(client, (self._most, now))
        left = min(self._most, left + (now - last) * self._rate)
        allowed = left >= 1
        self._buckets[client] = (left - 1 if allowed else left, now)
        while len(self._buckets) > _MOST_CLIENTS:  # who was silent longest had a full bucket anyway
            self._buckets.popitem(last=False)
        return 0 if allowed else max(1, math.ceil((1 - left) / self._rate))
