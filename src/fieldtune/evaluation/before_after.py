"""Each way to search by an M3 model's scores, before training and after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fieldtune.evaluation.results import MAIN, Evaluation, Scores, System
from fieldtune.evaluation.rows import Cell, Difference, cell, difference


@dataclass(frozen=True, slots=True)
class WayRow:
    """One way to search, by the first model and by the last."""

    name: str
    before: Cell
    after: Cell
    compared: Difference | None
    size: str
    """Bytes per passage, after."""


def with_before(plain: Sequence[System], derived: Sequence[System]) -> list[System]:
    """The derived systems, those of a later model's scores compared with the same of the first model too."""
    first = plain[0].name if plain else ""
    same = {_way(one): one.name for one in derived if _way(one) and one.about.model == first}
    return [
        replace(one, about=replace(one.about, parents=(*one.about.parents, same[_way(one)])))
        if one.about.model != first and _way(one) in same
        else one
        for one in derived
    ]


def way_rows(evaluation: Evaluation) -> list[WayRow]:
    """Dense and all that was made of three scores; empty where not both models were searched by them."""
    models = [one for one in evaluation.systems if one.kind == "model"]
    if len(models) < 2:
        return []
    before, after = (_ways(evaluation, one) for one in (models[0], models[-1]))
    if len(before) < 2 or before.keys() != after.keys():
        return []
    best = {id(ways): max(one.mean[MAIN] for one in ways.values()) for ways in (before, after)}
    rows = []
    for name, one in after.items():
        found = evaluation.compared(one.name, before[name].name, MAIN)
        size = one.about.bytes_per_vector
        old, new = (
            cell(ways[name], MAIN, best=ways[name].mean[MAIN] > best[id(ways)] - 5e-4) for ways in (before, after)
        )
        compared = difference(found, corrected=True) if found else None
        rows.append(WayRow(name, old, new, compared, "" if size is None else f"{size:,}"))
    return rows


def _ways(evaluation: Evaluation, model: Scores) -> dict[str, Scores]:
    own = [one for one in evaluation.systems if one.about.model == model.name and _way(one)]
    return {"dense": model} | {_way(one): one for one in own}


def _way(one: System | Scores) -> str:
    """What of a model's scores a system ranks by, as its name says; "" for other systems."""
    return one.name.removeprefix(f"{one.about.model} ") if one.about.variant == "signals" else ""
