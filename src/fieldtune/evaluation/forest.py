"""Dots and intervals as rows of a table: SVG in per cent of the cell, sharp and undistorted at any width."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from fieldtune.evaluation.verdict import signed

_EDGE = 6.0  # per cent of the cell left free at either side, for the outermost labels of the axis
_TICKS = 4


@dataclass(frozen=True, slots=True)
class Scale:
    """The axis that all rows of a table share."""

    low: float
    high: float
    ticks: tuple[float, ...]
    zero: bool = False
    """Whether it shows differences: with a line at zero, and signs."""
    limit: float | None = None
    """Where a dashed line is drawn."""

    def place(self, value: float) -> float:
        """Per cent of the cell's width."""
        share = (value - self.low) / (self.high - self.low)
        return round(_EDGE + (100 - 2 * _EDGE) * min(max(share, 0.0), 1.0), 2)


def scale(
    means: Iterable[float],
    intervals: Iterable[tuple[float, float]],
    *,
    zero: bool = False,
    limit: float | None = None,
) -> Scale:
    """A range that holds all means, intervals (NaN apart) and the limit, with round ticks."""
    ends = [*means, *(end for pair in intervals for end in pair)] + [0.0] * zero
    ends += [] if limit is None else [limit]
    known = [end for end in ends if math.isfinite(end)] or [0.0]
    low, high = min(known), max(known)
    if high - low < 1e-3:
        low, high = low - 0.01, high + 0.01
    step = _step((high - low) / _TICKS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(step * n, 9) for n in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], ticks, zero, limit)


def axis(one: Scale) -> str:
    """The head of the column: the values of the ticks."""
    digits = max(1, -math.floor(math.log10(one.ticks[1] - one.ticks[0]) + 1e-9))
    if abs(round(one.ticks[1], digits) - one.ticks[1]) > 1e-9:  # a step such as 0.025
        digits += 1
    shown = one.ticks if len(one.ticks) <= _TICKS + 1 else one.ticks[::2]
    marks = "".join(
        f'<text x="{one.place(tick)}%" y="13" text-anchor="middle">'
        f"{(signed(tick, digits) if tick else '0') if one.zero else f'{tick:.{digits}f}'}</text>"
        for tick in shown
    )
    return f'<svg class="axis" aria-hidden="true" focusable="false" height="18">{marks}</svg>'


def bar(one: Scale, mean: float, interval: tuple[float, float], tone: str, *, hollow: bool = False) -> str:
    """One row: the mean as a dot, the interval as a line; `tone` is a class of the style sheet."""
    grid = "".join(
        f'<line class="{"zero" if one.zero and tick == 0 else "tick"}" x1="{x}%" x2="{x}%" y1="0" y2="100%"/>'
        for tick, x in ((tick, one.place(tick)) for tick in one.ticks)
    )
    if one.limit is not None:
        x = one.place(one.limit)
        grid += f'<line class="limit" x1="{x}%" x2="{x}%" y1="0" y2="100%"/>'
    low, high = interval
    known = math.isfinite(low) and math.isfinite(high)
    # An interval that the axis does not hold goes on beyond an arrow.
    cut = "".join(
        f'<text x="{one.place(edge) + move}%" y="50%" text-anchor="middle">{arrow}</text>'
        for edge, end, move, arrow in ((one.low, low, -1, "◂"), (one.high, high, 1, "▸"))
        if known and not one.low - 1e-9 <= end <= one.high + 1e-9
    )
    line = f'<line class="range" x1="{one.place(low)}%" x2="{one.place(high)}%" y1="50%" y2="50%"/>' if known else ""
    kind = "dot hollow" if hollow else "dot"
    dot = f'<circle class="{kind}" cx="{one.place(mean)}%" cy="50%" r="4.5"/>'
    # The figures stand in the cells beside it: nothing here is news to a screen reader.
    return f'<svg class="bar {tone}" aria-hidden="true" focusable="false">{grid}{line}{cut}{dot}</svg>'


def _step(least: float) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= least * (1 - 1e-9))
