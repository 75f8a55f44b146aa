"""How long a command takes to start: `--help`, and a search in an index that lies on disk, each in a fresh process.

    python benchmarks/start.py RUN [--query TEXT] [--repeats 7] [--cold] [--check]

RUN is the folder of a finished run, such as the demo's. Taken is the time by the clock from the start of the process to
its end, in alternation; the first one of each is not counted, unless --cold is given, which drops the system's cache of
files before every process (it must be allowed to: on Linux, as root). Bars: 0.3 s and 2 s, of the median. With --check
nothing is written, and the exit status is 1 where a bar is missed.

A search starts this fast for models of the BERT and RoBERTa kinds, whose passes need NumPy alone; of another kind, or
with sparse and token vectors, torch or all of the model's library is loaded, and the bar does not hold.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from results import RESULTS, append, markdown

BARS = {"--help": 0.3, "search": 2.0}
CACHES = Path("/proc/sys/vm/drop_caches")


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--query", default="sudden pain")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    if given.cold and not os.access(CACHES, os.W_OK):
        parser.error(f"--cold writes to {CACHES}, which is not allowed here")
    return given


def seconds(command: list[str], cold: bool) -> float:
    if cold:
        os.sync()
        CACHES.write_text("3")
    # Where Python is told to keep no compiled modules, each start would compile ours again.
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=own)
    took = time.perf_counter() - began
    if done.returncode or not done.stdout.strip():
        sys.exit(f"{' '.join(command)}: {done.stderr[-2_000:] or 'it printed nothing'}")
    return took


def main(words: list[str] | None = None) -> int:
    given = arguments(words)
    program = [sys.executable, "-m", "fieldtune"]
    commands = {"--help": [*program, "--help"], "search": [*program, "search", str(given.run), given.query]}
    took: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(given.repeats + 1):
        for name, command in commands.items():
            once = seconds(command, given.cold)
            if number or given.cold:
                took[name].append(once)
    middle = {name: statistics.median(times) for name, times in took.items()}
    rows = [
        (name, f"{middle[name]:.2f} s", f"{min(times):.2f} to {max(times):.2f}", f"{BARS[name]:g} s")
        for name, times in took.items()
    ]
    table = markdown(("command", "median", "spread", "bar"), rows)
    files = "dropped before each" if given.cold else "holds what the first processes read"
    about = f"{len(took['search'])} fresh processes of each, in alternation; the system's cache of files {files}."
    if given.check:
        print("\n".join(table))
    else:
        print(append("Start-up", about, table, given.results))
    print("; ".join(f"{name} {middle[name]:.2f} s (bar {BARS[name]:g})" for name in middle))
    return int(any(middle[name] > BARS[name] for name in middle))


if __name__ == "__main__":
    sys.exit(main())
