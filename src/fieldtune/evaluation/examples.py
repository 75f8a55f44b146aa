"""Queries worth looking at: those that gained and lost most, with the passages that explain it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fieldtune.beir import RetrievalData
from fieldtune.evaluation.rankings import DEPTH
from fieldtune.evaluation.results import MAIN, Evaluation
from fieldtune.evaluation.verdict import display, signed
from fieldtune.types import Passage

_LONGEST = 420  # characters of a passage shown


@dataclass(frozen=True, slots=True)
class Shown:
    """A passage as an example shows it."""

    role: str
    """"first from base", "first from both" or "right passage"."""
    relevant: bool
    id: str
    title: str
    text: str
    where: str


@dataclass(frozen=True, slots=True)
class Example:
    """A query with its rank before and after, and the passages each system put first."""

    query: str
    style: str
    group: str
    before: str
    after: str
    change: str
    passages: tuple[Shown, ...]


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


def examples_of(evaluation: Evaluation, data: RetrievalData, count: int, *, best: bool = True) -> list[Example]:
    """The movers, ready to be shown."""
    contest = evaluation.contest()
    if contest is None:
        return []
    a, b = (evaluation.system(name) for name in contest)
    positives = data.positives(evaluation.split)
    out = []
    for n in movers(evaluation, count, best=best):
        query = data.queries[evaluation.queries[n]]
        right = positives[query.id]
        roles: dict[str, list[str]] = {}
        for one in (b, a):
            if one.top[n]:
                roles.setdefault(one.top[n], []).append(f"first from {display(one.name)}")
        if not any(name in right for name in roles):
            roles[right[0]] = ["right passage"]
        out.append(
            Example(
                query=query.text,
                style=query.style,
                group=evaluation.groups[n],
                before=_rank(int(b.first[n])),
                after=_rank(int(a.first[n])),
                change=signed(float(a.values[MAIN][n] - b.values[MAIN][n]), 2),
                passages=tuple(_show(data.passages[name], role, name in right) for name, role in roles.items()),
            )
        )
    return out


def _rank(rank: int) -> str:
    return f"rank {rank}" if rank else f"not in {DEPTH}"


def _show(passage: Passage, roles: Sequence[str], relevant: bool) -> Shown:
    role = roles[0] if len(roles) == 1 else "first from both"
    text = passage.text if len(passage.text) <= _LONGEST else passage.text[:_LONGEST].rstrip() + " …"
    where = passage.source + (f", page {passage.page}" if passage.page is not None else "")
    return Shown(role, relevant, passage.id, passage.title, text, where.removeprefix(", "))
