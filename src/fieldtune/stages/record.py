"""What a run's folder remembers of itself: settings, versions, the course of its training."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from fieldtune import __version__
from fieldtune.errors import InputError
from fieldtune.stages.run import Run
from fieldtune.workspace import read_json, read_jsonl, write_json

PACKAGES = ("torch", "sentence-transformers", "transformers", "tokenizers", "numpy", "scipy", "lancedb", "liteparse")


def write_run(run: Run) -> None:
    """The resolved config with versions and seeds, beside the results they lead to."""
    record = {
        "fieldtune": __version__,
        "seed": run.config.seed,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions(),
        "config": run.config.model_dump(by_alias=True),
    }
    write_json(run.path("run.json"), record)


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


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
