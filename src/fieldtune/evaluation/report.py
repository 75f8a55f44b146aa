"""The report: one HTML file that opens offline, for a manager at the top and an engineer below."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fieldtune.beir import RetrievalData
from fieldtune.evaluation import plots
from fieldtune.evaluation.examples import examples_of
from fieldtune.evaluation.outputs import versions
from fieldtune.evaluation.proof import Proof
from fieldtune.evaluation.results import MAIN, Evaluation
from fieldtune.evaluation.verdict import bounds, display, judge, p_value, signed
from fieldtune.measures import label
from fieldtune.types import Result
from fieldtune.workspace import atomic_file


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
    proof: Proof | None = None,
) -> None:
    """Write the report to `path`.

    `funnel` holds the results of the stages in order, `settings` may nest, `training_log` has rows of `step` with
    `loss` or `dev_ndcg@10`, `reproduce` command lines, `proof` the verdict and what it rests on. Without a `date` the
    same input gives the same bytes.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fieldtune.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"label": label, "display": display, "number": _number, "unbroken": _unbroken}
    contest = evaluation.contest()
    text = environment.get_template("report.html.j2").render(
        title=title or "Evaluation",
        date=date.isoformat() if date else "",
        verdict=proof.verdict if proof else judge(evaluation),
        evaluation=evaluation,
        contest=contest,
        table=_table(evaluation),
        colours={name: plots.variable(paint) for name, paint in plots.colours(evaluation).items()},
        figures=[(label(name), plots.measure_plot(evaluation, name)) for name in evaluation.measures],
        gains=_gains(evaluation),
        examples=[
            ("Queries that gained most", examples_of(evaluation, data, examples, best=True)),
            ("Queries that lost most", examples_of(evaluation, data, examples, best=False)),
        ]
        if contest
        else [],
        funnel=funnel,
        learning=plots.learning_plot(training_log) if training_log else "",
        shares=plots.share_plot(training_log),
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


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            listed = isinstance(value, list | tuple)
            text = ", ".join(map(str, value)) if listed else str(value)
            rows.append((f"{prefix}{key}", text or "–"))
    return rows


def _number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _unbroken(sentence: str) -> str:
    """Keep "p < 0.001" and "[a, b]" on one line."""
    return re.sub(r"\bp ([<=]) |, (?=[+−0][\d.]*\])", lambda m: m[0].replace(" ", "\u00a0"), sentence)
