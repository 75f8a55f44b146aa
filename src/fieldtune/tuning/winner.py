"""What a search leaves behind: the winner's config as TOML, the table of all trials."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fieldtune.config import Config, anchored, make_config
from fieldtune.starter import toml_value
from fieldtune.tuning.journal import Trial, base_score
from fieldtune.workspace import atomic_file


def write_winner(path: Path, config: Config) -> None:
    """Write what differs from the defaults of preset and method; paths are absolute, so that the file may be moved."""
    method = {"method": config.training.method}
    plain = make_config({"preset": config.preset, "training": method}).model_dump(by_alias=True)
    del plain["training"]["method"]  # always written: the defaults of others follow from it
    given = anchored(config, Path.cwd(), {}).model_dump(by_alias=True)
    lines = [
        "# Written by fieldtune tune: the best of its trials on dev. What is not here is as preset and method set it.",
        f"preset = {toml_value(config.preset)}",
        f"out = {toml_value(given['out'])}",
        f"seed = {toml_value(config.seed)}",
    ]
    for name, section in given.items():
        if isinstance(section, Mapping) and (changed := _changed(section, plain[name])):
            lines += ["", f"[{name}]", *(f"{key} = {toml_value(value)}" for key, value in changed.items())]
    with atomic_file(path) as stream:
        stream.write("\n".join(lines) + "\n")


def _changed(section: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """Keys whose value is not the default; those of a section within have its name before them."""
    out: dict[str, Any] = {}
    for key, value in section.items():
        if value == plain.get(key) or value is None:
            continue
        if isinstance(value, Mapping) and isinstance(plain.get(key), Mapping) and plain[key]:
            out |= {f"{key}.{inner}": changed for inner, changed in _changed(value, plain[key]).items()}
        else:
            out[key] = value
    return out


def write_table(path: Path, trials: Sequence[Trial], names: Sequence[str]) -> None:
    """One row for the base model's dev score, and one per trial: its state, dev score, seconds and settings."""
    base = base_score(trials)
    with atomic_file(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["trial", "state", "dev", "seconds", *names, "why"])
        writer.writerow(["base", "", "" if base is None else f"{base:.4f}", *[""] * (len(names) + 2)])
        for trial in trials:
            dev = "" if trial.dev is None else f"{trial.dev:.5f}"
            values = [trial.settings[name] for name in names]
            writer.writerow([trial.number, trial.state, dev, trial.seconds, *values, trial.why])
