"""What the user sees while work goes on: progress and tables. The only file that knows rich."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str = "", *, style: str = "") -> None:
    """Print one line of results on standard output; the text is never read as markup."""
    _out.print(escape(text), style=style or None)


def note(text: str, *, style: str = "") -> None:
    """Print one line about the work itself on standard error."""
    _err.print(escape(text), style=style or None)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    """Print a table; every column but the first is right-aligned."""
    shown = Table(title=title or None, box=None, pad_edge=False, header_style="bold")
    for position, name in enumerate(columns):
        shown.add_column(escape(name), justify="left" if position == 0 else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*map(escape, row))
    # A row that is wider than the terminal wraps there; cut to the terminal's width, it would lose figures.
    needed = Measurement.get(_out, _out.options.update(width=10_000), shown).maximum
    Console(highlight=False, width=max(_out.width, needed)).print(shown, crop=False)


class Progress:
    """A count, a rate and an estimate: one moving line on a terminal, a plain line now and then elsewhere.

    Use as a context manager; call `advance` as work gets done. `total` of 0 means unknown.
    """

    def __init__(self, label: str, total: int = 0, *, unit: str = "", every: float = 10.0) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, 0
        self._live = _err.is_terminal
        self._every = 0.2 if self._live else every
        self._start = self._last = time.monotonic()
        self._first = 0
        self._extra = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            sys.stderr.write("\r\x1b[2K")
        if kind is None and (time.monotonic() - self._start > 1 or not self._live):
            note(self._line(final=True))

    def resume(self, done: int) -> None:
        """Say that `done` items were finished in an earlier run; they do not count in the rate."""
        self.done = self._first = done

    def advance(self, count: int = 1, extra: str = "") -> None:
        self.done += count
        self._extra = extra or self._extra
        now = time.monotonic()
        if now - self._last >= self._every:
            self._last = now
            if self._live:
                sys.stderr.write("\r\x1b[2K" + self._line()[: max(20, _err.width - 1)])
                sys.stderr.flush()
            else:
                note(self._line())

    def _line(self, *, final: bool = False) -> str:
        elapsed = time.monotonic() - self._start
        rate = (self.done - self._first) / elapsed if elapsed > 0 else 0.0
        count = f"{self.done:,}" + (f"/{self.total:,}" if self.total else "") + (f" {self.unit}" if self.unit else "")
        parts = [f"{self.label}: {count}", f"{rate:,.1f}/s"]
        if final:
            parts.append(duration(elapsed))
        elif self.total and rate > 0:
            parts.append(f"{duration((self.total - self.done) / rate)} left")
        return ", ".join(parts + ([self._extra] if self._extra else []))


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count: int) -> str:
    """`712 kB`: decimal units, as hubs show them."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}" if count < 10 * factor else f"{count / factor:.0f} {unit}"
    return f"{count} B"
