"""What a piece of work takes: time and memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from fieldtune.workspace import Cost

# Peaks that were reached before each new start of the count, oldest first: a piece that holds others needs theirs.
_before_restarts: list[float] = []


def meter(work: str) -> Callable[[], Cost]:
    """Start to measure; the function says what was taken until it is called. Pieces may lie within each other."""
    own = _restart_peak()
    began, first = time.monotonic(), len(_before_restarts)
    at_start = peak_memory()

    def took() -> Cost:
        seconds, now = time.monotonic() - began, peak_memory()
        if now is None:
            return Cost(work, seconds)
        peak = max(now, *_before_restarts[first:], 0.0)
        return Cost(work, seconds, peak, own or (at_start is not None and peak > at_start))

    return took


def peak_memory() -> float | None:
    """Largest resident size of this process since the count began, in GB; None where the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e9, 2)  # kilobytes, but bytes on macOS


def _restart_peak() -> bool:
    """Let the peak begin again at what is held now; Linux alone can (proc(5), clear_refs). Whether it did."""
    peak = peak_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    except OSError:
        return False
    _before_restarts.append(peak or 0.0)
    return True
