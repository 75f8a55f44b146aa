"""The machine-readable outputs: metrics.json, per_query.csv and the rows of the console's table."""

from __future__ import annotations

import csv
import importlib.metadata
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fieldtune import __version__
from fieldtune.beir import RetrievalData
from fieldtune.evaluation.results import Evaluation
from fieldtune.evaluation.verdict import bounds, display, p_value, signed
from fieldtune.measures import label
from fieldtune.workspace import atomic_file, write_json

_FIRST = ("ndcg@10", "mrr@10", "recall@10", "accuracy@1")
_PACKAGES = ("torch", "sentence-transformers", "transformers", "numpy", "scipy", "bm25s")


def versions() -> dict[str, str]:
    """Python, fieldtune, and the packages that the numbers depend on."""
    found = {"python": platform.python_version(), "fieldtune": __version__}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def metrics(evaluation: Evaluation) -> dict[str, Any]:
    """What metrics.json holds; numbers are rounded to 6 digits so that machines agree, NaN becomes null."""
    return {
        "systems": {
            system.name: {name: _number(system.mean[name]) for name in evaluation.measures}
            | {"ci": {name: list(map(_number, system.interval[name])) for name in evaluation.measures}}
            for system in evaluation.systems
        },
        "comparisons": [
            {
                "a": row.a,
                "b": row.b,
                "metric": row.measure,
                "difference": _number(row.difference),
                "ci": list(map(_number, row.interval)),
                "p": _number(row.p),
                "wins": row.wins,
                "ties": row.ties,
                "losses": row.losses,
                "p_adjusted": _number(row.p_adjusted),
                "detectable": _number(row.detectable),
            }
            for row in evaluation.comparisons
        ],
        "about": {system.name: {"kind": system.kind} | asdict(system.about) for system in evaluation.systems},
        "smallest_p": _number(evaluation.smallest_p),
        "split": evaluation.split,
        "queries": len(evaluation.queries),
        "queries_left_out": evaluation.left_out,
        "passages": evaluation.passages,
        "clusters": evaluation.clusters.count,
        "judged_only": evaluation.judged_only,
        "seed": evaluation.seed,
        "notes": list(evaluation.notes),
        "versions": versions(),
    }


def write_metrics(path: Path, evaluation: Evaluation, extra: Mapping[str, Any] | None = None) -> None:
    """Write metrics.json; `extra` adds keys of the caller's own (config, model paths)."""
    write_json(path, metrics(evaluation) | dict(extra or {}))


def write_per_query(path: Path, evaluation: Evaluation, data: RetrievalData) -> None:
    """Write per_query.csv: one row per query and system, so that anyone can redo the statistics."""
    columns = ["query", "system", "text", "style", "group", "cluster", *evaluation.measures]
    with atomic_file(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*columns, "first_relevant_rank", "top_passage"])
        for n, query in enumerate(evaluation.queries):
            asked = data.queries[query]
            for system in evaluation.systems:
                about = [query, system.name, asked.text, asked.style, evaluation.groups[n]]
                values = [f"{system.values[name][n]:.6g}" for name in evaluation.measures]
                first = int(system.first[n]) or ""
                writer.writerow([*about, int(evaluation.clusters.labels[n]), *values, first, system.top[n]])


def comparison_table(evaluation: Evaluation, names: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
    """Columns and rows for the console: a row per measure, a column per system, then the verdict's difference.

    `names` are the measures to show, all when empty. Many systems, or derived ones, get a row each: see `system_table`.
    """
    names = names or evaluation.measures
    if len(evaluation.systems) > 4 or any(system.kind == "derived" for system in evaluation.systems):
        return system_table(evaluation, names)
    contest = evaluation.contest()
    columns = ["", *(display(system.name) for system in evaluation.systems)]
    if contest:
        columns += [f"{display(contest[0])} − {display(contest[1])}", "95% interval", "p"]
    rows = []
    for name in names:
        row = [label(name), *(f"{system.mean[name]:.3f}" for system in evaluation.systems)]
        compared = evaluation.compared(*contest, name) if contest else None
        if compared:
            row += [signed(compared.difference), bounds(compared).strip(), _p(compared.p)]
        rows.append(row)
    return columns, rows


def system_table(evaluation: Evaluation, names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """A row per system: what a vector takes, the measures, and the difference in the first of them from the system it
    is compared with, with the p that Holm's correction leaves."""
    shown = names if len(names) <= len(_FIRST) else [name for name in names if name in _FIRST] or names[:1]
    columns = ["", "bytes", *map(label, shown), "against", f"Δ {label(shown[0])}", "95% interval", "p (Holm)"]
    rows = []
    for system in evaluation.systems:
        size = system.about.bytes_per_vector
        row = [display(system.name), "" if size is None else f"{size:,}"]
        row += [f"{system.mean[name]:.3f}" for name in shown]
        found = next((row for row in evaluation.comparisons if (row.a, row.measure) == (system.name, shown[0])), None)
        if found is None:
            row += [""] * 4
        else:
            row += [display(found.b), signed(found.difference), bounds(found).strip(), _p(found.p_adjusted)]
        rows.append(row)
    return columns, rows


def _p(value: float) -> str:
    return p_value(value)[2:].lstrip("= ")


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
