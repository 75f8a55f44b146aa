"""The report: one HTML file that opens offline, for a manager at the top and an engineer below."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune.beir import RetrievalData
from fieldtune.evaluation import forest, plots, rows, trade_off
from fieldtune.evaluation.before_after import way_rows
from fieldtune.evaluation.calibration import calibration_plot, calibrations, score_range
from fieldtune.evaluation.checks import checks
from fieldtune.evaluation.examples import examples_of
from fieldtune.evaluation.highlight import script
from fieldtune.evaluation.origin import Origin, changed, cost_rows, toml
from fieldtune.evaluation.outcome import RULES
from fieldtune.evaluation.proof import Proof
from fieldtune.evaluation.results import MAIN, Evaluation, System
from fieldtune.evaluation.test_set import digests
from fieldtune.evaluation.verdict import display, p_value, percent, signed
from fieldtune.measures import label
from fieldtune.versions import versions
from fieldtune.workspace import atomic_file

if TYPE_CHECKING:
    from jinja2 import Environment


def write_report(
    path: Path,
    evaluation: Evaluation,
    data: RetrievalData,
    systems: Sequence[System],
    proof: Proof,
    origin: Origin | None = None,
) -> None:
    """Write the report to `path`; `systems` are those that were evaluated, `proof` what the verdict rests on."""
    origin = origin or Origin()
    contest = evaluation.contest()
    text = (
        _environment()
        .get_template("report.html.j2")
        .render(
            origin=origin,
            evaluation=evaluation,
            proof=proof,
            verdict=proof.verdict,
            condition=RULES[proof.verdict.rule][1],
            contest=contest,
            checks=checks(evaluation, proof),
            first=rows.shown_first(evaluation),
            tones=rows.tones_of(evaluation),
            measures=rows.measure_rows(evaluation),
            full=rows.full_rows(evaluation),
            **_systems(evaluation, proof),
            gains=_gains(evaluation),
            examples=_examples(evaluation, data, systems, origin.examples),
            **_slices(proof),
            calibration=_calibration(evaluation, data, systems),
            **_general(proof),
            learning=[*plots.learning_plot(origin.training_log), *plots.share_plot(origin.training_log)],
            costs=cost_rows(origin.costs),
            changed=toml(changed(origin.settings)),
            settings=toml(origin.settings),
            versions=origin.packages if origin.packages is not None else versions(),
            test_set=digests(data, evaluation.split),
        )
    )
    with atomic_file(path) as stream:
        stream.write(text)


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fieldtune.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "label": label,
        "display": display,
        "number": _number,
        "percent": percent,
        "signed": signed,
        "brackets": rows.brackets,
        "p": lambda p: "" if p != p else p_value(p).removeprefix("p ").removeprefix("= "),
        "script": script,
        "unbroken": _unbroken,
    }
    return environment


def _systems(evaluation: Evaluation, proof: Proof) -> dict[str, Any]:
    """All systems on one axis, and what smaller vectors cost."""
    found = rows.system_rows(evaluation, proof.judged)
    shared = forest.scale(
        (one.mean[MAIN] for one in evaluation.systems), (one.interval[MAIN] for one in evaluation.systems)
    )
    return {
        "systems": [(row, _bar(shared, row)) for row in found],
        "systems_axis": forest.axis(shared),
        "ways": way_rows(evaluation),
        "figures": [(label(name), plots.measure_plot(evaluation, name)) for name in evaluation.measures],
        "sizes": [one for one in (trade_off.dimension_plot(evaluation), trade_off.bytes_plot(evaluation)) if one],
        "sized": list(trade_off.sized(evaluation)),
    }


def _bar(shared: forest.Scale, row: rows.SystemRow) -> str:
    one = row.scores
    return forest.bar(shared, one.mean[MAIN], one.interval[MAIN], row.tone, hollow=one.kind == "derived")


def _gains(evaluation: Evaluation) -> dict[str, Any] | None:
    contest = evaluation.contest()
    row = evaluation.compared(*contest, MAIN) if contest else None
    if contest is None or row is None:
        return None
    a, b = (evaluation.system(name).values[MAIN] for name in contest)
    return {"figure": plots.gains_plot(a - b), "wins": row.wins, "ties": row.ties, "losses": row.losses}


def _examples(evaluation: Evaluation, data: RetrievalData, systems: Sequence[System], count: int) -> list[Any]:
    if evaluation.contest() is None or not count:
        return []
    return [
        ("gained", examples_of(evaluation, data, systems, count, best=True)),
        ("lost", examples_of(evaluation, data, systems, count, best=False)),
    ]


def _slices(proof: Proof) -> dict[str, Any]:
    parts = rows.slice_parts(proof.slices)
    every = [row for part in parts for row in part.rows]
    # The interval of a handful of queries would leave the others no room.
    shared = forest.scale(
        (row.difference for row in every), (row.interval for row in every if not row.small), zero=True
    )
    tones = {"better": "gain", "worse": "loss"}

    def bar(row: Any) -> str:
        return forest.bar(shared, row.difference, row.interval, tones.get(row.finding, "same"), hollow=row.small)

    return {
        "slices": [(part.by, [(row, bar(row)) for row in part.rows]) for part in parts],
        "slices_axis": forest.axis(shared),
    }


def _general(proof: Proof) -> dict[str, Any]:
    changes = rows.ability_rows(proof.general)
    drawn = [(100 * one.difference, (100 * one.interval[0], 100 * one.interval[1])) for one in changes]
    limit = -100 * proof.general.limit if proof.general else None
    shared = forest.scale((mean for mean, _ in drawn), (ends for _, ends in drawn), zero=True, limit=limit)
    tones = {"lost": "loss", "kept": "last", "unclear": "same"}
    return {
        "general": [
            (one, forest.bar(shared, *place, tones[one.state])) for one, place in zip(changes, drawn, strict=True)
        ],
        "general_axis": forest.axis(shared),
    }


def _calibration(evaluation: Evaluation, data: RetrievalData, systems: Sequence[System]) -> list[Any]:
    contest = evaluation.contest()
    names = contest[::-1] if contest else tuple(one.name for one in evaluation.systems)
    found = calibrations(data, evaluation.split, systems, names)
    if not found:
        return []
    ends = score_range(found)
    return [(one, calibration_plot(one, *ends)) for one in found]


def _number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _unbroken(sentence: str) -> str:
    """Keep "p < 0.001" and "[a, b]" on one line."""
    return re.sub(r"\bp ([<=]) |, (?=[+−0][\d.]*\])", lambda m: m[0].replace(" ", "\u00a0"), sentence)
