"""The machine-readable outputs: metrics.json, per_query.csv and the rows of the console's table."""

from __future__ import annotations

import csv
import importlib.metadata
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fieldtune import __version__
from fieldtune.beir import RetrievalData
from fieldtune.evaluation.results import Evaluation
from fieldtune.evaluation.verdict import bounds, display, p_value, signed
from fieldtune.workspace import atomic_file, write_json

_PACKAGES = ("torch", "sentence-transformers", "transformers", "numpy", "scipy", "bm25s")
LABELS = {"ndcg": "nDCG", "mrr": "MRR", "map": "MAP"}


def label(name: str) -> str:
    """`ndcg@10` as it is written for people: nDCG@10."""
    family, _, depth = name.partition("@")
    return f"{LABELS.get(family, family.capitalize())}@{depth}"


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
            }
            for row in evaluation.comparisons
        ],
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


def comparison_table(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Columns and rows for the console: a row per measure, a column per system, then the verdict's difference."""
    contest = evaluation.contest()
    columns = ["", *(display(system.name) for system in evaluation.systems)]
    if contest:
        columns += [f"{display(contest[0])} − {display(contest[1])}", "95% interval", "p"]
    rows = []
    for name in evaluation.measures:
        row = [label(name), *(f"{system.mean[name]:.3f}" for system in evaluation.systems)]
        compared = evaluation.compared(*contest, name) if contest else None
        if compared:
            p = p_value(compared.p)[2:].lstrip("= ")
            row += [signed(compared.difference), bounds(compared).strip(), p]
        rows.append(row)
    return columns, rows


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
