"""What every stage is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fieldtune.config import Config
from fieldtune.types import Result
from fieldtune.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Run:
    """The settings, the run's folder, and the names of the stages that are finished when this one begins."""

    config: Config
    workspace: Workspace
    before: tuple[str, ...] = ()

    def path(self, *parts: str) -> Path:
        return self.workspace.path(*parts)

    def funnel(self) -> list[Result]:
        """What the stages before this one said, in their order."""
        return [result for result, _ in self.workspace.results(self.before)]
