"""Where a report's figures come from, and how to get them again: commands, settings as TOML, what it took."""

from __future__ import annotations

import datetime
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fieldtune.config import Config
from fieldtune.console import duration
from fieldtune.types import Result
from fieldtune.workspace import Cost


@dataclass(frozen=True, slots=True)
class Origin:
    """What the report tells beside the figures; what is left empty has no section."""

    title: str = ""
    stages: Sequence[Result] = ()
    """Results of the finished stages, in order."""
    costs: Sequence[Cost] = ()
    training_log: Sequence[Mapping[str, Any]] = ()
    """Rows of `step` with `loss` or `dev_ndcg@10`."""
    commands: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The resolved config, which may nest."""
    packages: Mapping[str, str] | None = None
    """Versions; None asks what is installed."""
    machine: str = ""
    date: datetime.date | None = None
    """Without one the same input gives the same bytes."""
    examples: int = 10
    """Queries shown on each side."""
    notes: Sequence[str] = ()
    """What was found on the way, as sentences: added judgements, for instance."""


@dataclass(frozen=True, slots=True)
class CostRow:
    """A line of the table of costs."""

    name: str
    seconds: str
    share: float
    """Of the whole time, 0 to 1."""
    memory: str


def cost_rows(costs: Sequence[Cost]) -> list[CostRow]:
    """A row per stage, and their sum where there are several."""
    total = sum(cost.seconds for cost in costs)
    rows = [CostRow(one.stage, _time(one.seconds), one.seconds / (total or 1), _memory(one)) for one in costs]
    if len(costs) > 1:
        known = [cost.peak_gb for cost in costs if cost.peak_gb is not None]
        rows.append(CostRow("all together", _time(total), 1.0, f"{max(known):.2f} GB" if known else ""))
    return rows


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def _memory(cost: Cost) -> str:
    if cost.peak_gb is None:
        return ""
    return f"{cost.peak_gb:.2f} GB" if cost.peak_own else f"at most {cost.peak_gb:.2f} GB"


def changed(settings: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The settings that differ from fieldtune's own defaults, nested as they are."""
    known = Config().model_dump(by_alias=True) if defaults is None else defaults
    out: dict[str, Any] = {}
    for key, value in settings.items():
        default = known.get(key)
        if isinstance(value, Mapping):
            if inner := changed(value, default if isinstance(default, Mapping) else {}):
                out[key] = inner
        elif key not in known or _plain(value) != _plain(default):
            out[key] = value
    return out


def toml(settings: Mapping[str, Any], section: str = "") -> str:
    """Settings as a config file; those without a value are left out, as TOML has no word for that."""
    lines = [
        f"{_key(key)} = {_value(value)}" for key, value in settings.items() if value is not None and not _nested(value)
    ]
    parts = ["\n".join([f"[{section}]", *lines] if section else lines)] if lines else []
    for key, value in settings.items():
        if _nested(value):
            parts.append(toml(value, f"{section}.{_key(key)}" if section else _key(key)))
    return "\n\n".join(part for part in parts if part)


def overrides(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The same as words for a command line: `--set section.key=value`."""
    words: list[str] = []
    for key, value in settings.items():
        if _nested(value):
            words += overrides(value, f"{prefix}{key}.")
        elif value is not None:
            words += ["--set", shlex.quote(f"{prefix}{key}={_value(value)}")]
    return words


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)


def _nested(value: Any) -> bool:
    return isinstance(value, Mapping)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    # JSON's strings, numbers, true and false are TOML's too, but for the sign that JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
