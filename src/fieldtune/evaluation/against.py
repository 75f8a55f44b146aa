"""Regression over time: two runs on the same test set, system by system, with paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fieldtune.errors import InputError
from fieldtune.evaluation.past_runs import PastRun, read_run, set_changes
from fieldtune.evaluation.results import MAIN, Comparison
from fieldtune.evaluation.statistics import Clusters, Floats, intervals, sign_flip, singles
from fieldtune.evaluation.verdict import bounds, outcome_of, p_value, signed
from fieldtune.measures import label


@dataclass(frozen=True, slots=True)
class Against:
    """Run B against run A; a positive difference is in favour of B."""

    queries: int
    rows: tuple[tuple[str, float, float, Comparison], ...]
    """System, mean in A, mean in B, their comparison: for each system that both runs have, and each measure."""
    corrected: tuple[float, ...]
    """p of each row, corrected by Holm over the systems; the measures of a system are no family of their own, since
    the verdict rests on one of them."""
    system: str
    """The system that the finding is about: tuned, where both runs have it."""
    notes: tuple[str, ...] = ()

    @property
    def outcome(self) -> str:
        """ "better", "same" or "worse": of B against A."""
        return outcome_of(self._main)

    @property
    def sentence(self) -> str:
        what = {"better": "is better than", "same": "cannot be told apart from", "worse": "is worse than"}[self.outcome]
        row = self._main
        return (
            f"{self.system} of B {what} {self.system} of A: {label(MAIN)} {signed(row.difference)}{bounds(row)}, "
            f"{p_value(row.p)}, over {self.queries:,} queries."
        )

    @property
    def _main(self) -> Comparison:
        return next(row for system, _, _, row in self.rows if (system, row.measure) == (self.system, MAIN))

    def as_json(self) -> dict[str, Any]:
        rows = [
            {
                "system": system,
                "metric": row.measure,
                "a": round(before, 6),
                "b": round(after, 6),
                "difference": round(row.difference, 6),
                "ci": [round(end, 6) if np.isfinite(end) else None for end in row.interval],
                "p": round(row.p, 6),
                "p_holm": round(p, 6),
                "wins": row.wins,
                "ties": row.ties,
                "losses": row.losses,
            }
            for (system, before, after, row), p in zip(self.rows, self.corrected, strict=True)
        ]
        found = {"outcome": self.outcome, "sentence": self.sentence, "system": self.system, "queries": self.queries}
        return found | {"comparisons": rows, "notes": list(self.notes)}


def compare_runs(a: Path, b: Path, *, resamples: int = 1_000, permutations: int = 10_000, seed: int = 13) -> Against:
    """Compare each system that both runs have, query by query.

    Raises InputError, saying how, when the runs were not measured on the same test set, or share no system.
    """
    one, other = read_run(a), read_run(b)
    changes = set_changes(one, other)
    if changes:
        raise InputError(
            "the test sets differ, so their figures cannot be compared: " + "; ".join(changes),
            "measure both models on one set: fieldtune evaluate --data DATA --model A --model B",
        )
    systems = [name for name in one.values if name in other.values]
    if not any(MAIN in one.values[name] and MAIN in other.values[name] for name in systems):
        raise InputError(
            f"the runs share no system: A has {', '.join(one.values)}, B has {', '.join(other.values)}",
            "give the models the same names in both",
        )
    rows = _rows(one, other, systems, resamples, permutations, seed)
    system = (
        "tuned"
        if "tuned" in systems
        else next(name for name in reversed(systems) if name != "BM25" or len(systems) == 1)
    )
    return Against(len(one.texts), tuple(rows), tuple(_corrected(rows)), system, tuple(_notes(one, other, systems)))


def _rows(
    one: PastRun, other: PastRun, systems: Sequence[str], resamples: int, permutations: int, seed: int
) -> list[tuple[str, float, float, Comparison]]:
    place = {query: n for n, query in enumerate(other.texts)}
    order = np.array([place[query] for query in one.texts])
    named = [(name, measure) for name in systems for measure in one.values[name] if measure in other.values[name]]
    before = np.column_stack([one.values[name][measure] for name, measure in named])
    after = np.column_stack([other.values[name][measure][order] for name, measure in named])
    clusters = _clusters(one)
    change = after - before
    ends = intervals(change, clusters, resamples=resamples, seed=seed)
    p = sign_flip(change, clusters, permutations=permutations, seed=seed)
    out = []
    for column, (name, measure) in enumerate(named):
        each: Floats = change[:, column]
        row = Comparison(
            a="B",
            b="A",
            measure=measure,
            difference=float(each.mean()),
            interval=(float(ends[column, 0]), float(ends[column, 1])),
            p=float(p[column]),
            wins=int((each > 1e-9).sum()),
            ties=int((np.abs(each) <= 1e-9).sum()),
            losses=int((each < -1e-9).sum()),
        )
        out.append((name, float(before[:, column].mean()), float(after[:, column].mean()), row))
    return out


def _clusters(run: PastRun) -> Clusters:
    """As in the run's own intervals: one cluster for all queries cannot be resampled."""
    labels = np.unique(run.clusters, return_inverse=True)[1]
    sizes = np.bincount(labels)
    if len(sizes) < 2:
        return singles(len(labels))
    return Clusters(labels, len(sizes), float(sizes.sum() ** 2 / (sizes**2).sum()))


def _corrected(rows: Sequence[tuple[str, float, float, Comparison]]) -> list[float]:
    """Holm (1979) over the systems, for each measure on its own."""
    out = [0.0] * len(rows)
    for measure in {row.measure for *_, row in rows}:
        family = sorted((n for n, one in enumerate(rows) if one[3].measure == measure), key=lambda n: rows[n][3].p)
        highest = 0.0
        for rank, n in enumerate(family):
            highest = max(highest, min(1.0, rows[n][3].p * (len(family) - rank)))
            out[n] = highest
    return out


def _notes(one: PastRun, other: PastRun, systems: Sequence[str]) -> list[str]:
    notes = [
        f"Only in {run}: {', '.join(missing)}."
        for run, mine in (("A", one), ("B", other))
        if (missing := [name for name in mine.values if name not in systems])
    ]
    if "base" in systems and MAIN in one.values["base"]:
        before, after = (run.metrics["systems"]["base"][MAIN] for run in (one, other))
        if abs(before - after) > 1e-6:
            notes.append("The base models of the runs differ, or were encoded with another precision.")
    versions = [run.metrics.get("versions", {}).get("fieldtune") for run in (one, other)]
    if versions[0] != versions[1]:
        notes.append(f"A was measured by fieldtune {versions[0]}, B by {versions[1]}.")
    return notes
