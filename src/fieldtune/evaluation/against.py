"""Regression over time: two runs on the same test set, system by system, with paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fieldtune.errors import InputError
from fieldtune.evaluation.paired import paired
from fieldtune.evaluation.past_runs import PastRun, read_run, set_changes
from fieldtune.evaluation.results import BM25_NAME, MAIN, Comparison
from fieldtune.evaluation.rounding import json_ready
from fieldtune.evaluation.statistics import Clusters, clusters_of, holm, singles
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
    untrusted: tuple[str, ...] = ()
    """Of the runs A and B those whose own verdict is "not trustworthy"."""

    @property
    def outcome(self) -> str:
        """ "better", "same" or "worse": of B against A."""
        return outcome_of(self._main)

    @property
    def sentence(self) -> str:
        what = {"better": "is better than", "same": "cannot be told apart from", "worse": "is worse than"}[self.outcome]
        row = self._main
        warned = f"NOT TRUSTWORTHY, as the verdict of {' and '.join(self.untrusted)} says: " if self.untrusted else ""
        return (
            f"{warned}{self.system} of B {what} {self.system} of A: {label(MAIN)} "
            f"{signed(row.difference)}{bounds(row)}, {p_value(row.p)}, over {self.queries:,} queries."
        )

    @property
    def _main(self) -> Comparison:
        return next(row for system, _, _, row in self.rows if (system, row.measure) == (self.system, MAIN))

    def as_json(self) -> dict[str, Any]:
        rows = [
            {
                "system": system,
                "metric": row.measure,
                "a": before,
                "b": after,
                "difference": row.difference,
                "ci": row.interval,
                "p": row.p,
                "p_holm": p,
                "wins": row.wins,
                "ties": row.ties,
                "losses": row.losses,
                "detectable": row.detectable,
            }
            for (system, before, after, row), p in zip(self.rows, self.corrected, strict=True)
        ]
        found = {"outcome": self.outcome, "sentence": self.sentence, "system": self.system, "queries": self.queries}
        made: dict[str, Any] = json_ready(
            found | {"comparisons": rows, "notes": list(self.notes), "not_trustworthy": list(self.untrusted)}
        )
        return made


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
        else next(name for name in reversed(systems) if name != BM25_NAME or len(systems) == 1)
    )
    main = next(row for name, _, _, row in rows if (name, row.measure) == (system, MAIN))
    notes = _notes(one, other, systems)
    if np.isfinite(main.detectable):
        notes.append(
            f"The smallest true difference in {label(MAIN)} that these queries would show four times in five is "
            f"{main.detectable:.3f}."
        )
    untrusted = [run for run, mine in (("A", one), ("B", other)) if _verdict(mine).get("outcome") == "not trustworthy"]
    return Against(len(one.texts), tuple(rows), tuple(_corrected(rows)), system, tuple(notes), tuple(untrusted))


def _rows(
    one: PastRun, other: PastRun, systems: Sequence[str], resamples: int, permutations: int, seed: int
) -> list[tuple[str, float, float, Comparison]]:
    place = {query: n for n, query in enumerate(other.texts)}
    order = np.array([place[query] for query in one.texts])
    named = [(name, measure) for name in systems for measure in one.values[name] if measure in other.values[name]]
    before = np.column_stack([one.values[name][measure] for name, measure in named])
    after = np.column_stack([other.values[name][measure][order] for name, measure in named])
    columns = [("B", "A", measure) for _, measure in named]
    found = paired(columns, after - before, _clusters(one), resamples=resamples, permutations=permutations, seed=seed)
    means = zip(before.mean(axis=0).tolist(), after.mean(axis=0).tolist(), strict=True)
    return [(name, *mean, row) for (name, _), mean, row in zip(named, means, found, strict=True)]


def _clusters(run: PastRun) -> Clusters:
    """As in the run's own intervals: one cluster for all queries cannot be resampled."""
    found = clusters_of(run.clusters)
    return found if found.count > 1 else singles(len(run.clusters))


def _corrected(rows: Sequence[tuple[str, float, float, Comparison]]) -> list[float]:
    """Holm (1979) over the systems that changed, for each measure on its own: base and BM25 are the same in both runs
    as a rule, and what cannot differ is no comparison."""
    out = [row.p for *_, row in rows]
    same = {system for system, *_ in rows} - {system for system, _, _, row in rows if row.wins or row.losses}
    for measure in {row.measure for *_, row in rows}:
        family = [n for n, (system, _, _, row) in enumerate(rows) if row.measure == measure and system not in same]
        for n, p in zip(family, holm(np.array([out[n] for n in family])).tolist(), strict=True):
            out[n] = p
    return out


def _verdict(run: PastRun) -> Mapping[str, Any]:
    return run.metrics.get("verdict") or {}


def _notes(one: PastRun, other: PastRun, systems: Sequence[str]) -> list[str]:
    notes = [
        f"Only in {run}: {', '.join(missing)}."
        for run, mine in (("A", one), ("B", other))
        if (missing := [name for name in mine.values if name not in systems])
    ]
    for run, mine in (("A", one), ("B", other)):
        if "outcome" in (verdict := _verdict(mine)):
            notes.append(f"{run} was judged: {verdict['outcome']}. {verdict.get('headline', '')}".rstrip())
        if general := mine.metrics.get("general"):
            notes.append(f"{run}: {general['sentence']}")
    # What limits the test set limits the comparison on it; both runs say it of the same queries.
    notes += dict.fromkeys(text for run in (one, other) for text in run.metrics.get("notes", ()))
    if "base" in systems and MAIN in one.values["base"]:
        before, after = (run.metrics["systems"]["base"][MAIN] for run in (one, other))
        if abs(before - after) > 1e-6:
            notes.append("The base models of the runs differ, or were encoded with another precision.")
    versions = [run.metrics.get("versions", {}).get("fieldtune") for run in (one, other)]
    if versions[0] != versions[1]:
        notes.append(f"A was measured by fieldtune {versions[0]}, B by {versions[1]}.")
    return notes
