"""The report: one HTML file that opens offline, for a manager at the top and an engineer below."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fieldtune.beir import RetrievalData
from fieldtune.evaluation import plots
from fieldtune.evaluation.outputs import label, versions
from fieldtune.evaluation.results import MAIN, Evaluation
from fieldtune.evaluation.verdict import bounds, display, judge, p_value, signed
from fieldtune.types import Passage, Result
from fieldtune.workspace import atomic_file

_LONGEST = 420  # characters of a passage shown


@dataclass(frozen=True, slots=True)
class _Shown:
    """A passage as an example shows it."""

    role: str
    id: str
    title: str
    text: str
    where: str
    relevant: bool


@dataclass(frozen=True, slots=True)
class _Example:
    """A query that gained or lost, with the passages that explain it."""

    query: str
    style: str
    group: str
    before: str
    after: str
    change: str
    passages: tuple[_Shown, ...]


def write_report(
    path: Path,
    evaluation: Evaluation,
    data: RetrievalData,
    funnel: Sequence[Result] = (),
    settings: Mapping[str, Any] | None = None,
    *,
    title: str = "",
    examples: int = 10,
    training_log: Sequence[Mapping[str, Any]] = (),
    reproduce: Sequence[str] = (),
    package_versions: Mapping[str, str] | None = None,
    date: datetime.date | None = None,
) -> None:
    """Write the report to `path`.

    `funnel` holds the results of the stages in order, `settings` may nest, `training_log` has rows of `step` with
    `loss` or dev `ndcg@10`, `reproduce` command lines. Without a `date` the same input gives the same bytes.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fieldtune.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"label": label, "display": display, "number": _number}
    contest = evaluation.contest()
    text = environment.get_template("report.html.j2").render(
        title=title or "Evaluation",
        date=date.isoformat() if date else "",
        verdict=judge(evaluation),
        evaluation=evaluation,
        contest=contest,
        table=_table(evaluation),
        colours={name: plots.variable(paint) for name, paint in plots.colours(evaluation).items()},
        figures=[(label(name), plots.measure_plot(evaluation, name)) for name in evaluation.measures],
        gains=_gains(evaluation),
        examples=[
            ("Queries that gained most", _examples(evaluation, data, examples, best=True)),
            ("Queries that lost most", _examples(evaluation, data, examples, best=False)),
        ]
        if contest
        else [],
        funnel=funnel,
        learning=plots.learning_plot(training_log) if training_log else "",
        settings=list(_flat(settings or {})),
        versions=package_versions if package_versions is not None else versions(),
        reproduce=reproduce,
    )
    with atomic_file(path) as stream:
        stream.write(text)


def _table(evaluation: Evaluation) -> list[dict[str, Any]]:
    contest = evaluation.contest()
    rows = []
    for name in evaluation.measures:
        best = max(system.mean[name] for system in evaluation.systems)
        cells = [
            {
                "mean": f"{system.mean[name]:.3f}",
                "interval": "–".join(f"{end:.3f}" for end in system.interval[name] if not math.isnan(end)),
                "best": len(evaluation.systems) > 1 and system.mean[name] > best - 5e-4,
            }
            for system in evaluation.systems
        ]
        row = evaluation.compared(*contest, name) if contest else None
        compared = None
        if row is not None:
            sure = row.p < 0.05 and (row.interval[0] > 0 or row.interval[1] < 0)
            compared = {
                "difference": signed(row.difference),
                "interval": bounds(row).strip(),
                "p": p_value(row.p).removeprefix("p ").removeprefix("= "),
                "counts": f"{row.wins:,} / {row.ties:,} / {row.losses:,}",
                "sign": ("up" if row.difference > 0 else "down") if sure else "",
            }
        rows.append({"label": label(name), "main": name == MAIN, "cells": cells, "compared": compared})
    return rows


def _gains(evaluation: Evaluation) -> dict[str, Any] | None:
    contest = evaluation.contest()
    row = evaluation.compared(*contest, MAIN) if contest else None
    if contest is None or row is None:
        return None
    a, b = (evaluation.system(name).values[MAIN] for name in contest)
    return {"figure": plots.gains_plot(a - b), "wins": row.wins, "ties": row.ties, "losses": row.losses}


def _examples(evaluation: Evaluation, data: RetrievalData, count: int, *, best: bool) -> list[_Example]:
    contest = evaluation.contest()
    if contest is None:
        return []
    a, b = (evaluation.system(name) for name in contest)
    change = (a.values[MAIN] - b.values[MAIN]) * (1 if best else -1)
    positives = data.positives(evaluation.split)
    out = []
    for n in np.argsort(-change, kind="stable")[:count].tolist():
        if change[n] <= 1e-9:
            break
        query = evaluation.queries[n]
        right = positives[query]
        shown = [(name, f"first from {display(one.name)}") for one, name in ((b, b.top[n]), (a, a.top[n])) if name]
        if not any(name in right for name, _ in shown):
            shown.append((right[0], "right passage"))
        merged: dict[str, list[str]] = {}
        for name, role in shown:
            merged.setdefault(name, []).append(role)
        out.append(
            _Example(
                query=data.queries[query].text,
                style=data.queries[query].style,
                group=evaluation.groups[n],
                before=_rank(int(b.first[n])),
                after=_rank(int(a.first[n])),
                change=signed(float(a.values[MAIN][n] - b.values[MAIN][n]), 2),
                passages=tuple(
                    _show(data.passages[name], _roles(roles), name in right) for name, roles in merged.items()
                ),
            )
        )
    return out


def _roles(roles: Sequence[str]) -> str:
    return roles[0] if len(roles) == 1 else "first from both"


def _rank(rank: int) -> str:
    return f"rank {rank}" if rank else "not found"


def _show(passage: Passage, role: str, relevant: bool) -> _Shown:
    text = passage.text if len(passage.text) <= _LONGEST else passage.text[:_LONGEST].rstrip() + " …"
    where = passage.source + (f", page {passage.page}" if passage.page is not None else "")
    return _Shown(role, passage.id, passage.title, text, where.removeprefix(", "), relevant)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            listed = isinstance(value, list | tuple)
            rows.append((f"{prefix}{key}", ", ".join(map(str, value)) if listed else str(value)))
    return rows


def _number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
