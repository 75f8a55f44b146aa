"""What a process has held at most, whatever the process that started it held."""

from __future__ import annotations

import contextlib
import re
import sys
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
