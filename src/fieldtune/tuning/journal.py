"""The trials on disk, a line each: what a search goes on from after it was killed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

from fieldtune.errors import ConfigError
from fieldtune.workspace import digest, read_json, read_jsonl, write_json, write_jsonl


@dataclass(frozen=True, slots=True)
class Trial:
    """One training with settings of its own."""

    number: int
    """1-based."""
    settings: dict[str, Any]
    state: Literal["done", "stopped", "failed"]
    dev: float | None
    """The best dev measure on the way; None if there is none."""
    rungs: tuple[float, ...]
    """The dev measure at each evaluation."""
    seconds: float
    why: str = ""
    """Of a trial that was stopped or failed."""
    base: float | None = None
    """The base model's own dev measure, to four places; None where training did not come to its end."""
    notes: tuple[str, ...] = ()
    """What training said at its end."""


def read_journal(path: Path, key: str) -> list[Trial]:
    """The finished trials. Raises ConfigError if they are of other data or another search."""
    if not path.exists():
        return []
    rows = [row for _, row in read_jsonl(path)]
    if not rows or rows[0].get("search") != key:
        raise ConfigError(
            f"{path.parent} holds a search over other data, another model or other settings",
            "give another --out, or remove that folder",
        )
    return [Trial(**row | {"rungs": tuple(row["rungs"]), "notes": tuple(row.get("notes", ()))}) for row in rows[1:]]


def write_journal(path: Path, key: str, trials: Sequence[Trial]) -> None:
    """Write all trials anew, atomically: there are never many."""
    write_jsonl(path, [{"search": key}, *map(asdict, trials)])


def base_score(trials: Sequence[Trial]) -> float | None:
    """The base model's own dev measure, the same in all trials."""
    return next((trial.base for trial in trials if trial.base is not None), None)


def hopeless(rungs: Sequence[float], trials: Sequence[Trial], evaluations: int) -> bool:
    """Whether a trial with these dev scores so far should be stopped (median rule of Vizier, Golovin et al. 2017).

    From half of its evaluations on, a trial is stopped whose best score lies below the median of the earlier trials'
    best at the same point. All trials have equally many evaluations, so the same point is the same share of the way,
    at which the learning rate has fallen equally far. At least three earlier trials must have got there.
    """
    place = len(rungs)
    if 2 * place < evaluations or place >= evaluations:
        return False
    others = [max(trial.rungs[:place]) for trial in trials if len(trial.rungs) >= place]
    return len(others) >= 3 and max(rungs) < median(others)


def budget_left(trials: Sequence[Trial], count: int, minutes: float) -> bool:
    """Whether another trial may begin: not more than `count`, and in the time that one took so far (0: no limit)."""
    if count and len(trials) >= count:
        return False
    if not minutes or not trials:
        return True
    spent = sum(trial.seconds for trial in trials)
    return spent + median(trial.seconds for trial in trials) <= 60 * minutes


@dataclass(slots=True)
class Begun:
    """What a trial on its way has come to, in a file: one that was killed goes on with it."""

    path: Path
    of: str
    """Names the search and the trial's settings."""
    scores: list[tuple[int, float]] = field(default_factory=list)
    """Step and dev score of each evaluation."""
    seconds: float = 0.0

    @classmethod
    def read(cls, path: Path, search: str, settings: Mapping[str, Any]) -> Begun:
        """Nothing of a trial of another search or with other settings, whose scores are not this one's."""
        begun = cls(path, digest([search, settings]))
        found = read_json(path) if path.exists() else None
        if isinstance(found, dict) and found.get("of") == begun.of:
            begun.scores = [(int(step), float(score)) for step, score in found["scores"]]
            begun.seconds = float(found["seconds"])
        return begun

    def measured(self, step: int, score: float) -> None:
        """Add a score. What a training that was killed before its next checkpoint measures anew stands there once."""
        self.scores = [one for one in self.scores if one[0] < step] + [(step, score)]

    def write(self, settings: Mapping[str, Any]) -> None:
        rows = {"of": self.of, "settings": settings, "scores": self.scores, "seconds": round(self.seconds, 1)}
        write_json(self.path, rows)
