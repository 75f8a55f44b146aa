"""What a run's folder remembers of itself: settings, versions, the course of its training."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from fieldtune.errors import InputError
from fieldtune.stages.run import Run
from fieldtune.versions import versions
from fieldtune.workspace import read_json, read_jsonl, write_json


def write_run(run: Run) -> None:
    """The resolved config with versions and seeds, beside the results they lead to."""
    record = {
        "seed": run.config.seed,
        "platform": platform.platform(),
        "versions": versions(),
        "config": run.config.model_dump(by_alias=True),
    }
    write_json(run.path("run.json"), record)


def recorded_config(folder: Path) -> dict[str, Any]:
    """The resolved settings of an earlier run. Raises InputError if there is none."""
    if not (folder / "run.json").exists():
        raise InputError("no run in it", "fieldtune run CONFIG makes one", path=folder)
    settings: dict[str, Any] = read_json(folder / "run.json")["config"]
    return settings | {"out": str(folder)}


def learning_curve(folder: Path) -> list[dict[str, Any]]:
    """The rows of the training log, oldest first; empty if there is none."""
    path = folder / "training" / "log.jsonl"
    return [row for _, row in read_jsonl(path)] if path.exists() else []
