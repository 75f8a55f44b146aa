"""The same search with the base model and the tuned one, and where each passage went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fieldtune.serving.page.shown import excerpts, in_title, split_title
from fieldtune.types import Hit

DEPTH = 100
"""How far down a passage is looked for."""
ROWS = 10


@dataclass(frozen=True, slots=True)
class Row:
    rank: int
    id: str
    path: str
    name: Markup
    text: Markup
    source: str
    page: int | None
    right: bool
    other: int | None
    """Its rank with the other model; None where it is not that far up."""

    @property
    def move(self) -> int:
        """Ranks that the other model has it further down; 0 where that is not known."""
        return self.other - self.rank if self.other is not None else 0


@dataclass(frozen=True, slots=True)
class Line:
    """From a place in the left list to one in the right, or a stub where it stands in one of them alone."""

    x1: float
    y1: float
    x2: float
    y2: float
    kind: str
    """up, down, same, in, out; with " right" for a right passage."""
    id: str


@dataclass(frozen=True, slots=True)
class Compared:
    base: list[Row]
    tuned: list[Row]
    lines: list[Line]
    new: int
    """Of the tuned model's first rows, those that the base model did not have among its own."""
    judged: bool
    """Whether it is known which passages are right."""
    first_base: int | None
    """Rank of the first right passage."""
    first_tuned: int | None

    @property
    def height(self) -> int:
        return 10 * max(len(self.base), len(self.tuned), 1)


def compare(base: Sequence[Hit], tuned: Sequence[Hit], query: str, right: frozenset[str]) -> Compared:
    """Both rankings side by side; `right` are ids of passages known to be right, none where nothing is known."""
    ranks = [{hit.passage.id: rank for rank, hit in enumerate(hits, 1)} for hits in (base, tuned)]
    before = [_row(hit, rank, query, right, ranks[1]) for rank, hit in enumerate(base[:ROWS], 1)]
    after = [_row(hit, rank, query, right, ranks[0]) for rank, hit in enumerate(tuned[:ROWS], 1)]
    first = [min((ranking[one] for one in right if one in ranking), default=None) for ranking in ranks]
    return Compared(
        before, after, [*_joined(after), *_left(before)], sum(row.other is None or row.other > ROWS for row in after),
        bool(right), first[0], first[1],
    )  # fmt: skip


def _row(hit: Hit, rank: int, query: str, right: frozenset[str], other: dict[str, int]) -> Row:
    one = hit.passage
    path, name = split_title(one)
    return Row(
        rank, one.id, path, in_title(name, query), excerpts(one.text, query), one.source, one.page, one.id in right,
        other.get(one.id),
    )  # fmt: skip


def _joined(rows: Sequence[Row]) -> list[Line]:
    lines = []
    for row in rows:
        tone = " right" if row.right else ""
        here = 10 * row.rank - 5
        if row.other is not None and row.other <= ROWS:
            kind = "up" if row.move > 0 else "down" if row.move < 0 else "same"
            lines.append(Line(0, 10 * row.other - 5, 100, here, kind + tone, row.id))
        else:
            lines.append(Line(60, here + 4, 100, here, "in" + tone, row.id))
    return lines


def _left(rows: Sequence[Row]) -> list[Line]:
    gone = [row for row in rows if row.other is None or row.other > ROWS]
    return [
        Line(0, 10 * row.rank - 5, 40, 10 * row.rank - 1, "out" + (" right" if row.right else ""), row.id)
        for row in gone
    ]
