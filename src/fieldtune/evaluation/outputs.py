"""The machine-readable outputs: metrics.json, per_query.csv and the rows of the console's table."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fieldtune.beir import RetrievalData
from fieldtune.errors import InputError
from fieldtune.evaluation.results import Evaluation, System
from fieldtune.evaluation.rounding import json_ready
from fieldtune.evaluation.verdict import bounds, display, p_value, signed
from fieldtune.measures import label
from fieldtune.versions import versions
from fieldtune.workspace import atomic_file, write_json

_FIRST = ("ndcg@10", "mrr@10", "recall@10", "accuracy@1")


def metrics(evaluation: Evaluation) -> dict[str, Any]:
    """What metrics.json holds; numbers are rounded to 6 digits so that machines agree, NaN becomes null."""
    return {
        "systems": {
            system.name: {name: json_ready(system.mean[name]) for name in evaluation.measures}
            | {"ci": {name: json_ready(system.interval[name]) for name in evaluation.measures}}
            for system in evaluation.systems
        },
        "comparisons": [
            {
                "a": row.a,
                "b": row.b,
                "metric": row.measure,
                "difference": json_ready(row.difference),
                "ci": json_ready(row.interval),
                "p": json_ready(row.p),
                "wins": row.wins,
                "ties": row.ties,
                "losses": row.losses,
                "p_adjusted": json_ready(row.p_adjusted),
                "detectable": json_ready(row.detectable),
            }
            for row in evaluation.comparisons
        ],
        "about": {system.name: {"kind": system.kind} | asdict(system.about) for system in evaluation.systems},
        "smallest_p": json_ready(evaluation.smallest_p),
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


def write_runs(path: Path, systems: Sequence[System]) -> list[tuple[str, Path]]:
    """Write rankings as TREC run files: `query Q0 passage rank score system`; returns (system, file).

    A single system is written to `path`, of several each to a file of its own, `run.trec` becoming `run.BM25.trec`.
    trec_eval orders by score alone and equal scores by id: a score that is not below the one before it is written as
    the next smaller float32, so that every tool sees the ranks that were measured. Raises InputError for an id with
    white space, which the format has no room for.
    """
    out: list[tuple[str, Path]] = []
    for system in systems:
        tag = re.sub(r"[^\w.@+-]+", "_", system.name).strip("_.") or "system"
        target = path if len(systems) == 1 else path.with_name(f"{path.stem}.{tag}{path.suffix}")
        while target in [earlier for _, earlier in out]:
            target = target.with_name(f"{target.stem}_{target.suffix}")
        with atomic_file(target) as stream:
            run = system.run
            for query, found, scores in zip(run.queries, run.passages, run.scores, strict=True):
                last = np.float32(np.inf)
                for rank, (key, score) in enumerate(zip(found, scores, strict=True), 1):
                    if len(query.split()) != 1 or len(key.split()) != 1:
                        raise InputError(f"query {query!r} or passage {key!r} has white space in its id", "rename it")
                    last = min(np.float32(score), np.nextafter(last, np.float32(-np.inf)))
                    stream.write(f"{query} Q0 {key} {rank} {last!s} {tag}\n")
        out.append((system.name, target))
    return out


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
        columns += [f"{display(contest[0])} − {display(contest[1])}", "95% interval", "p", "p (Holm)", "won/tied/lost"]
    rows = []
    for name in names:
        row = [label(name), *(f"{system.mean[name]:.3f}" for system in evaluation.systems)]
        compared = evaluation.compared(*contest, name) if contest else None
        if compared:
            row += [signed(compared.difference), bounds(compared).strip(), _p(compared.p), _p(compared.p_adjusted)]
            row.append(f"{compared.wins}/{compared.ties}/{compared.losses}")
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
