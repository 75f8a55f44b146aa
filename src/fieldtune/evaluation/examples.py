"""Queries worth looking at: those that gained and lost most, what each system put first, and where it went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fieldtune.beir import RetrievalData
from fieldtune.evaluation.highlight import excerpt, highlighted, script, sought
from fieldtune.evaluation.rankings import DEPTH, Ranking
from fieldtune.evaluation.results import MAIN, Evaluation, System
from fieldtune.evaluation.verdict import display, signed
from fieldtune.types import Passage

if TYPE_CHECKING:
    from markupsafe import Markup

_TOP = 3  # passages shown of each system


@dataclass(frozen=True, slots=True)
class Shown:
    """A passage in one system's column."""

    rank: str
    """"1", or "not in 100"."""
    other: str
    """Where the other system has it: "rank 14 in tuned"."""
    relevant: bool
    id: str
    title: Markup
    text: Markup
    """A part of the text, the words of the query marked."""
    where: str
    lang: str


@dataclass(frozen=True, slots=True)
class Column:
    """What one system found."""

    system: str
    passages: tuple[Shown, ...]
    """Its first ones, then the best right one where that is none of them."""


@dataclass(frozen=True, slots=True)
class Example:
    """A query with the rank of its first right passage before and after, and both systems' columns."""

    query: str
    lang: str
    style: str
    group: str
    before: str
    after: str
    change: str
    columns: tuple[Column, Column]


def movers(evaluation: Evaluation, count: int, *, best: bool = True) -> list[int]:
    """Positions of the queries whose nDCG@10 rose (or fell) most; of equals, those whose rank moved furthest first."""
    contest = evaluation.contest()
    if contest is None:
        return []
    a, b = (evaluation.system(name) for name in contest)
    sign = 1 if best else -1
    change = np.round(sign * (a.values[MAIN] - b.values[MAIN]), 9)
    ranks = [np.where(one.first > 0, one.first, DEPTH + 1) for one in (a, b)]
    order = np.lexsort((-sign * (ranks[1] - ranks[0]), -change))
    return [n for n in order[:count].tolist() if change[n] > 0]


def examples_of(
    evaluation: Evaluation, data: RetrievalData, systems: Sequence[System], count: int, *, best: bool = True
) -> list[Example]:
    """The movers, ready to be shown: the earlier system's column first. `systems` are those that were evaluated."""
    contest = evaluation.contest()
    if contest is None:
        return []
    a, b = (evaluation.system(name) for name in contest)
    runs = {system.name: system.run for system in systems}
    positives = data.positives(evaluation.split)
    out = []
    for n in movers(evaluation, count, best=best):
        query = data.queries[evaluation.queries[n]]
        wanted, right = sought(query.text), positives[query.id]
        columns = [
            Column(display(one.name), tuple(_column(data, runs, n, one.name, other.name, right, wanted)))
            for one, other in ((b, a), (a, b))
        ]
        out.append(
            Example(
                query=query.text,
                lang=script(query.text),
                style=query.style,
                group=evaluation.groups[n],
                before=_rank(int(b.first[n]), runs[b.name]),
                after=_rank(int(a.first[n]), runs[a.name]),
                change=signed(float(a.values[MAIN][n] - b.values[MAIN][n]), 2),
                columns=(columns[0], columns[1]),
            )
        )
    return out


def _column(
    data: RetrievalData,
    runs: dict[str, Ranking],
    n: int,
    name: str,
    other: str,
    right: Sequence[str],
    wanted: frozenset[str],
) -> list[Shown]:
    here, there = ({key: rank for rank, key in enumerate(runs[system].passages[n], 1)} for system in (name, other))
    chosen = list(here)[:_TOP]
    if not any(key in chosen for key in right):  # what should have been there
        chosen.append(min(right, key=lambda key: (here.get(key, len(here) + 1), right.index(key))))
    return [
        _shown(
            data.passages[key],
            _rank(here.get(key, 0), runs[name]),
            f"{_rank(there.get(key, 0), runs[other])} {'in' if key in there else 'of'} {display(other)}",
            key in right,
            wanted,
        )
        for key in chosen
    ]


def _rank(rank: int, run: Ranking) -> str:
    return f"rank {rank}" if rank else f"not among the first {run.rows.shape[1]}"


def _shown(passage: Passage, rank: str, other: str, relevant: bool, wanted: frozenset[str]) -> Shown:
    where = [passage.source] if passage.source else []
    where += [f"page {passage.page}"] if passage.page is not None else []
    return Shown(
        rank=rank,
        other=other,
        relevant=relevant,
        id=passage.id,
        title=highlighted(passage.title, wanted),
        text=highlighted(excerpt(passage.text, wanted), wanted),
        where=", ".join(where),
        lang=script(passage.text),
    )
