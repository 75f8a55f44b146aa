"""`fieldtune tune`: from a BEIR folder or a config to the best settings found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fieldtune.config import anchored, load_config, make_config
from fieldtune.console import duration
from fieldtune.standalone import beir_config
from fieldtune.tuning.search import described, search_settings


def tune_settings(
    data: Path, out: Path, overrides: Mapping[str, Any], *, trials: int, minutes: float
) -> tuple[tuple[str, ...], list[tuple[str, ...]], list[str]]:
    """Search and return columns and rows, the base model's and the trials', best first, and what there is to say.

    `data` is a BEIR folder, whose run then lies in `out/run`, or a TOML file. What `overrides` sets stays fixed. Raises
    what `search_settings` raises, and InputError or ConfigError for a folder or file that cannot be used.
    """
    if data.is_dir():
        given = make_config(overrides, where="--set")
        # The winner's file lies elsewhere than where the paths were typed.
        config = anchored(beir_config(given, data.resolve(), out / "run", "tune"), Path.cwd(), overrides)
    else:
        config = load_config(data, overrides)
    found = search_settings(config, out, trials=trials, minutes=minutes, fixed=set(_names(overrides)))
    ordered = sorted(found.trials, key=lambda one: (one.state != "done", -(one.dev or 0.0), one.number))
    base = "" if found.base is None else f"{found.base:.4f}"
    rows: list[tuple[str, ...]] = [("base", "", base, "", "")]
    rows += [
        (
            str(one.number),
            one.state,
            "" if one.dev is None else f"{one.dev:.4f}",
            duration(one.seconds),
            described(one.settings, found.space),
        )
        for one in ordered
    ]
    lines = [
        f"best: trial {found.best.number}, dev {found.best.dev:.4f}{base and f' (base {base})'}: "
        f"{described(found.best.settings, found.space)}",
        *found.notes,
        f"config: {found.config}",
        f"model: {found.model}",
        f"trials: {found.config.with_name('trials.csv')}",
    ]
    return ("trial", "state", "dev", "time", "settings"), rows, lines


def _names(settings: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Dotted names of what is set."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _names(value, f"{before}{name}.")
        else:
            yield before + name
