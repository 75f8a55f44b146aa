"""What a stage takes: time and memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from fieldtune.workspace import Cost


def meter(stage: str) -> Callable[[], Cost]:
    """Start to measure; the function says what was taken until it is called."""
    began, before = time.monotonic(), peak_memory()

    def took() -> Cost:
        peak = peak_memory()
        return Cost(stage, time.monotonic() - began, peak, peak is not None and before is not None and peak > before)

    return took


def peak_memory() -> float | None:
    """Largest resident size of this process so far, in GB; None where the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e9, 2)  # kilobytes, but bytes on macOS
