"""What tuning cost the model outside its field, as a result that can be read: the changes, the state, the sentence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fieldtune.evaluation.rounding import json_ready
from fieldtune.evaluation.verdict import signed

State = Literal["kept", "lost", "unclear"]


@dataclass(frozen=True, slots=True)
class Change:
    """One probe, before and after; scores lie between 0 and 1 (correlations between -1 and 1)."""

    name: str
    measure: str
    items: int
    """Queries, pairs or texts."""
    base: float
    tuned: float
    difference: float
    """Tuned less base: negative is a loss."""
    interval: tuple[float, float]
    """Of the difference, at `General.level`; NaN where there are too few items."""
    detectable: float
    """The smallest fall that would be called lost four times out of five."""
    state: State


@dataclass(frozen=True, slots=True)
class General:
    """What the tuned model lost elsewhere against the base model."""

    limit: float
    """Fall that is accepted, in the scores' own unit: 0.01 is one point."""
    level: float
    """Of each interval, such that all of them hold together in 95 of 100 runs."""
    probes: tuple[Change, ...]
    overall: Change | None
    """The mean over the probes; None for fewer than two."""
    notes: tuple[str, ...] = ()
    """What was not measured, and why."""

    @property
    def changes(self) -> tuple[Change, ...]:
        return (*self.probes, *([self.overall] if self.overall else []))

    @property
    def failed(self) -> bool:
        """Whether the mean over the probes fell by more than the limit, clear of chance; a single probe that did is
        named, and decides nothing: the more one measures, the surer one of them falls."""
        return bool(self.probes) and (self.overall or self.probes[0]).state == "lost"

    @property
    def state(self) -> State | Literal["not measured"]:
        if not self.probes:
            return "not measured"
        if self.failed:
            return "lost"
        return "kept" if all(change.state == "kept" for change in self.changes) else "unclear"

    @property
    def sentence(self) -> str:
        """The finding, for the report's first screen."""
        limit = _points(self.limit)
        if self.state == "not measured":
            return "General ability was not measured."
        if self.failed:
            lost = [change for change in self.changes if change.state == "lost"]
            what = "; ".join(f"{change.name} fell by {_change(change)}" for change in lost)
            cure = 'training.base_share = "auto" keeps more of it'
            return f"General ability was lost, over the limit of {limit}: {what}. {cure}."
        whole = self.overall or self.probes[0]
        if fallen := [change for change in self.probes if change.state == "lost"]:
            what = "; ".join(f"{change.name} by {_change(change)}" for change in fallen)
            return (
                f"General ability as a whole is within the limit of {limit} ({_change(whole)} over "
                f"{_listed(self.probes)}), but single probes fell by more: {what}."
            )
        if self.state == "kept":
            return (
                f"General ability is kept: {_change(whole)} over {_listed(self.probes)}, the limit is {limit}."
                f"{_power(whole)}"
            )
        open_ = [change.name for change in self.changes if change.state == "unclear"]
        return (
            f"No loss of general ability over the limit of {limit} was shown ({_change(whole)} over "
            f"{_listed(self.probes)}), but for {', '.join(open_)} one cannot be ruled out."
            f"{_power(whole)}"
        )

    def as_json(self) -> dict[str, Any]:
        """What metrics.json holds, numbers rounded to 6 digits, NaN as null."""
        return {
            "state": self.state,
            "failed": self.failed,
            "sentence": self.sentence,
            "limit": self.limit,
            "level": json_ready(self.level),
            "probes": [_row(change) for change in self.probes],
            "overall": _row(self.overall) if self.overall else None,
            "notes": list(self.notes),
        }


def _row(change: Change) -> dict[str, Any]:
    row = dataclasses.asdict(change)
    row["ci"] = row.pop("interval")
    made: dict[str, Any] = json_ready(row)
    return made


def _change(change: Change) -> str:
    """`−4.6 points [−7.1, −2.0]`; a loss that a sentence already calls a fall keeps its sign in the bracket alone."""
    low, high = change.interval
    bracket = "" if math.isnan(low) else f" [{signed(100 * low, 1)}, {signed(100 * high, 1)}]"
    if change.state == "lost":
        return f"{-100 * change.difference:.1f} points{bracket}"
    return f"{signed(100 * change.difference, 1)} points{bracket}"


def _power(change: Change) -> str:
    if math.isnan(change.detectable):
        return ""
    return f" A fall of {100 * change.detectable:.1f} points would have been seen four times in five."


def _points(value: float) -> str:
    return f"{100 * value:g} {'point' if math.isclose(value, 0.01) else 'points'}"


def _listed(probes: Sequence[Change]) -> str:
    names = [probe.name for probe in probes]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
