"""What a process has held at most, whatever the process that started it held."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path


def peak_memory() -> float:
    """GB that this process has held at most so far: of the GPU where there is one."""
    import resource

    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    status = Path("/proc/self/status")
    # getrusage would not do on Linux: a new process begins with the peak of the one that started it.
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    if found:
        return int(found[1]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def forget_peak() -> None:
    """Let the peak begin anew at what is held now, where the system can do that (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


class Held:
    """What a process holds at most while something runs that the system cannot take back: no pages of mapped files."""

    gb: float = 0.0

    def look(self) -> None:
        status = Path("/proc/self/status")
        found = re.search(r"RssAnon:\s+(\d+) kB", status.read_text()) if status.exists() else None
        self.gb = max(self.gb, int(found[1]) * 1024 / 1e9 if found else peak_memory())


@contextlib.contextmanager
def held(every: float = 0.005) -> Iterator[Held]:
    """Watch that, looking each 5 ms; where the system does not tell it, all that the process has held counts."""
    seen, stop = Held(), threading.Event()
    seen.look()

    def watch() -> None:
        while not stop.wait(every):
            seen.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
        seen.look()
