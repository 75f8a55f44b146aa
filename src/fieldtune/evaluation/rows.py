"""The rows of the report's tables, in words and figures that need no further thought."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from fieldtune.evaluation.ability import Change, General
from fieldtune.evaluation.results import MAIN, Comparison, Evaluation, Scores
from fieldtune.evaluation.slices import Slice, Slices
from fieldtune.evaluation.verdict import bounds, outcome_of, p_value, percent, signed
from fieldtune.measures import label

HEADLINE = {
    "ndcg@10": "how near to the top the right passages stand",
    "accuracy@1": "a right passage comes first",
    "hit@10": "a right passage is among the first ten",
    "recall@10": "share of right passages in the first ten",
    "mrr@10": "one over the rank of the first right passage",
}
"""Measures of the first screen, with what they say to someone who does not know them."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure and its 95% interval, "" where there is none."""

    mean: str
    interval: str
    best: bool = False


@dataclass(frozen=True, slots=True)
class Difference:
    """What a paired comparison found."""

    value: str
    interval: str
    p: str
    counts: str
    tone: str
    """"gain" or "loss" where it is clear of chance, else "same"."""
    against: str


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """One measure of the systems of the verdict."""

    label: str
    gloss: str
    main: bool
    cells: tuple[Cell, ...]
    compared: Difference | None


@dataclass(frozen=True, slots=True)
class SystemRow:
    """One system: the measure of the verdict, and whom it is compared with."""

    scores: Scores
    cell: Cell
    tone: str
    size: str
    judged: str
    compared: Difference | None


@dataclass(frozen=True, slots=True)
class Part:
    """The slices of one way of slicing."""

    by: str
    rows: tuple[Slice, ...]


def shown_first(evaluation: Evaluation) -> tuple[str, ...]:
    """The systems of the first screen, before and after, then keyword search; a lone system by itself."""
    contest = evaluation.contest()
    if contest is None:
        return (evaluation.systems[0].name,)
    lexical = (one.name for one in evaluation.systems if one.kind == "lexical" and one.name not in contest)
    return (contest[1], contest[0], *lexical)


def measure_rows(evaluation: Evaluation) -> list[MeasureRow]:
    """The first screen's table, a row per measure of `HEADLINE`."""
    names, contest = shown_first(evaluation), evaluation.contest()
    rows = []
    for name, gloss in HEADLINE.items():
        if name not in evaluation.measures:
            continue
        found = evaluation.compared(*contest, name) if contest else None
        cells = tuple(cell(evaluation.system(one), name) for one in names)
        rows.append(MeasureRow(label(name), gloss, name == MAIN, cells, difference(found) if found else None))
    return rows


def system_rows(evaluation: Evaluation, judged: Mapping[str, float]) -> list[SystemRow]:
    """All systems, the best first, each against the nearest that it is derived from or stands against."""
    tones = tones_of(evaluation)
    ordered = sorted(evaluation.systems, key=lambda one: -round(one.mean[MAIN], 9))
    rows = []
    for one in ordered:
        found = _nearest(evaluation, one)
        size = one.about.bytes_per_vector
        rows.append(
            SystemRow(
                scores=one,
                cell=cell(one, MAIN),
                tone=tones[one.name],
                size="" if size is None else f"{size:,}",
                judged=percent(judged[one.name]) if one.name in judged else "",
                compared=difference(found, corrected=True) if found else None,
            )
        )
    return rows


def _nearest(evaluation: Evaluation, one: Scores) -> Comparison | None:
    """The comparison with the base model or, of a derived system, with what it is derived from."""
    contest = evaluation.contest()
    if one.kind == "derived":
        return next((row for row in evaluation.comparisons if (row.a, row.measure) == (one.name, MAIN)), None)
    return evaluation.compared(one.name, contest[1], MAIN) if contest else None


def full_rows(evaluation: Evaluation) -> list[tuple[str, list[Cell]]]:
    """Every measure of every system, the highest of each measure marked."""
    best = {name: max(one.mean[name] for one in evaluation.systems) for name in evaluation.measures}
    several = len(evaluation.systems) > 1
    return [
        (one.name, [cell(one, name, best=several and one.mean[name] > best[name] - 5e-4) for name in best])
        for one in evaluation.systems
    ]


def slice_parts(found: Slices | None) -> list[Part]:
    """The slices by their way of slicing."""
    rows = found.rows if found else ()
    return [Part(by, tuple(part)) for by, part in groupby(rows, key=lambda row: row.by)]


def ability_rows(general: General | None) -> Sequence[Change]:
    """The probes and, last, their mean."""
    return general.changes if general else ()


def tones_of(evaluation: Evaluation) -> dict[str, str]:
    """A class of the style sheet for each system: the last model stands out, and what is derived from it with it."""
    models = [one.name for one in evaluation.systems if one.kind == "model"]
    last = models[-1] if models else ""
    return {
        one.name: "lexical" if one.kind == "lexical" else "last" if last in (one.name, one.about.model) else "first"
        for one in evaluation.systems
    }


def cell(one: Scores, measure: str, *, best: bool = False) -> Cell:
    return Cell(f"{one.mean[measure]:.3f}", span(one.interval[measure]), best)


def span(interval: tuple[float, float], digits: int = 3) -> str:
    """`0.512–0.613`; "" for an interval that could not be found."""
    return "" if any(map(math.isnan, interval)) else "–".join(f"{end:.{digits}f}" for end in interval)


def brackets(interval: tuple[float, float], scale: float = 1, digits: int = 3) -> str:
    """`[+0.01, +0.03]`, of a difference; "" for an interval that could not be found."""
    if any(map(math.isnan, interval)):
        return ""
    return "[" + ", ".join(signed(scale * end, digits) for end in interval) + "]"


def difference(row: Comparison, *, corrected: bool = False) -> Difference:
    """`corrected` takes the p that Holm's method leaves, where many systems are compared."""
    p = row.p_adjusted if corrected and not math.isnan(row.p_adjusted) else row.p
    tone = {"better": "gain", "worse": "loss", "same": "same"}[outcome_of(row)]
    return Difference(
        value=signed(row.difference),
        interval=bounds(row).strip(),
        p=p_value(p).removeprefix("p ").removeprefix("= "),
        counts=f"{row.wins:,} / {row.ties:,} / {row.losses:,}",
        tone=tone if p < 0.05 else "same",
        against=row.b,
    )
