"""The tables of a model card, from what metrics.json and the stages' records hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fieldtune.evaluation.results import MAIN
from fieldtune.measures import label
from fieldtune.types import Result


def measured(metrics: Mapping[str, Any]) -> list[str]:
    """Every system's figures with intervals, and the comparisons of nDCG@10."""
    systems = metrics.get("systems") or {}
    if not systems:
        return ["## What was measured\n\nNothing yet: this model was not evaluated.\n"]
    names = list(systems)
    measures = [name for name in systems[names[0]] if "@" in name]
    lines = [
        "## What was measured",
        "",
        f"{metrics['queries']:,} {metrics['split']} queries on {metrics['passages']:,} passages; 95% intervals by "
        f"bootstrap over {metrics['clusters']:,} document groups.",
        "",
        "| measure | " + " | ".join(names) + " |",
        "| --- |" + " ---: |" * len(names),
    ]
    for name in measures:
        cells = [f"{_three(systems[one][name])} {_bracket(systems[one]['ci'][name])}" for one in names]
        lines.append(f"| {label(name)} | " + " | ".join(cells) + " |")
    pairs = [row for row in metrics.get("comparisons", ()) if row["metric"] == MAIN]
    lines += ["", "| nDCG@10 | difference | 95% interval | p |", "| --- | ---: | ---: | ---: |"] if pairs else []
    for row in pairs:
        p = "–" if row["p"] is None else f"{row['p']:.4f}"
        lines.append(f"| {row['a']} − {row['b']} | {row['difference']:+.3f} | {_bracket(row['ci'], '+')} | {p} |")
    return ["\n".join([*lines, ""])]


def trusted(metrics: Mapping[str, Any]) -> list[str]:
    """What speaks for and against believing the figures: the verdict's warnings, the audit, missing labels."""
    lines = [*(metrics.get("verdict") or {}).get("warnings", ())]
    if leakage := metrics.get("leakage"):
        lines.append(leakage["sentence"])
    if judged := metrics.get("judged@10"):
        told = ", ".join(f"{name} {share:.0%}" for name, share in judged.items())
        lines.append(f"Judged among the first ten: {told}. A passage that nobody judged counts as wrong.")
    if not lines:
        return []
    return ["\n".join(["## How far to trust it", "", *(f"- {line}" for line in dict.fromkeys(lines)), ""])]


def elsewhere(general: Mapping[str, Any] | None) -> list[str]:
    """What tuning cost outside the field; nothing where that was not measured."""
    if not general or not general["probes"]:
        return []
    lines = [
        "## Outside its field",
        "",
        general["sentence"],
        "",
        f"| everyday texts | base | tuned | difference | {100 * general['level']:.4g}% interval |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in [*general["probes"], *([general["overall"]] if general["overall"] else [])]:
        scores = f"{row['base']:.3f} | {row['tuned']:.3f} | {row['difference']:+.3f}"
        lines.append(f"| {row['name']}, {row['measure']} | {scores} | {_bracket(row['ci'], '+')} |")
    return ["\n".join([*lines, ""])]


def training_data(stages: Sequence[Result]) -> list[str]:
    """Counts alone: neither names of files nor texts, which may be confidential."""
    counts = {result.stage: result.counts for result in stages}
    wanted = {
        "documents": ("documents", "pages"),
        "corpus": ("passages",),
        "queries": ("queries",),
        "dataset": ("training queries", "training pairs", "hard negatives", "dev", "test"),
    }
    labels = {"dev": "dev queries", "test": "test queries"}
    rows = [
        f"- {labels.get(name, name)}: {counts[stage][name]:,}"
        for stage, names in wanted.items()
        for name in names
        if counts.get(stage, {}).get(name)
    ]
    return rows or ["Not recorded."]


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _bracket(ends: Sequence[float | None], sign: str = "") -> str:
    return "" if None in ends else f"[{', '.join(format(end, f'{sign}.3f') for end in ends)}]"
