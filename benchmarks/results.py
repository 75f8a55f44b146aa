"""The file of measured results: every benchmark appends what it found, with the machine, the versions and the date."""

from __future__ import annotations

import datetime
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from fieldtune.encoding.precision import processor_has_bf16
from fieldtune.versions import versions

RESULTS = Path(__file__).with_name("RESULTS.md")


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A table whose first column is text and the others figures."""
    lines = [f"| {' | '.join(columns)} |", "| --- |" + " ---: |" * (len(columns) - 1)]
    return [*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)]


def append(title: str, about: str, lines: Sequence[str], path: Path = RESULTS) -> str:
    """Write one section at the end of the file and return it."""
    features = "bf16 in hardware" if processor_has_bf16() else "no bf16"
    used = ", ".join(f"{name} {version}" for name, version in versions().items())
    section = [
        f"\n## {title} ({datetime.date.today()})\n",
        f"{about} {processor()}, {os.cpu_count()} cores, {features}, {memory():.0f} GB. Versions: {used}.\n",
        *lines,
    ]
    text = "\n".join(section) + "\n"
    with path.open("a", encoding="utf-8") as stream:
        stream.write(text)
    return text


def processor() -> str:
    """Its name as the system gives it."""
    about = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", about.read_text()) if about.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def memory() -> float:
    """GB of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
