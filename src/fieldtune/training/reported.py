"""Which run of each tracker a training has, and how much of its log that was sent: kept with the training's state."""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from fieldtune.workspace import digest, read_json, write_json


@dataclass(slots=True)
class Run:
    """One tracker's."""

    id: str
    sent: int = 0
    """Rows of the log."""


@dataclass(slots=True)
class Reported:
    """All of one training, in a file."""

    path: Path
    key: str
    runs: dict[str, Run] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, key: str) -> Reported:
        """What the run's folder holds of the training under this key; nothing of another one."""
        out = cls(folder / "training" / "state" / "reported.json", digest(key))
        if out.path.exists():
            found = read_json(out.path)
            if found["key"] == out.key:
                out.runs = {name: Run(**run) for name, run in found["runs"].items()}
        return out

    def run(self, name: str) -> Run:
        """The tracker's, under a new id where it has none."""
        return self.runs.setdefault(name, Run(uuid.uuid4().hex[:12]))

    def write(self) -> None:
        runs = {name: dataclasses.asdict(run) for name, run in self.runs.items()}
        write_json(self.path, {"key": self.key, "runs": runs})
