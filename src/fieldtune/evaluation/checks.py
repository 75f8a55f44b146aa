"""What else a reader should know before believing the verdict: six short findings for the first screen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from fieldtune.evaluation.proof import Proof
from fieldtune.evaluation.results import MAIN, Evaluation
from fieldtune.evaluation.verdict import display, outcome_of, percent, signed

State = Literal["good", "care", "bad", "note"]
MARKS: dict[State, str] = {"good": "✓", "care": "!", "bad": "✗", "note": "–"}
WORDS: dict[State, str] = {"good": "in order", "care": "take care", "bad": "failed", "note": "for your information"}


@dataclass(frozen=True, slots=True)
class Check:
    """One finding, with the section that tells more."""

    title: str
    state: State
    said: str
    anchor: str

    @property
    def mark(self) -> str:
        return MARKS[self.state]

    @property
    def word(self) -> str:
        """The mark for those who hear the page."""
        return WORDS[self.state]


def checks(evaluation: Evaluation, proof: Proof) -> list[Check]:
    """In the order worth reading; what was not compared has no check."""
    found = [_leaks(proof), _labels(evaluation, proof)]
    if evaluation.contest() is not None:
        found += [_power(evaluation), *_keywords(evaluation), _elsewhere(proof), *_slices(proof)]
    return found


def _leaks(proof: Proof) -> Check:
    leakage = proof.leakage
    title = "Test kept apart from training"
    if leakage.failed:
        return Check(title, "bad", leakage.sentence.removeprefix("Leakage audit: "), "leaks")
    if not leakage.compared:
        return Check(title, "care", "Not known: there were no training queries to compare with.", "leaks")
    if any(one.queries for one in leakage.findings):
        said = f"Some overlap, within the limits: {percent(leakage.near)} of the queries are copies or nearly so."
        return Check(title, "care", said, "leaks")
    return Check(title, "good", f"No leak found among {leakage.queries:,} queries.", "leaks")


def _labels(evaluation: Evaluation, proof: Proof) -> Check:
    title = "Labels"
    if evaluation.judged_only or not proof.judged:
        return Check(title, "good", "Each query ranks the passages judged for it, and no others.", "labels")
    contest = evaluation.contest()
    named = [proof.judged[name] for name in contest or tuple(proof.judged)[:1] if name in proof.judged]
    if not named or min(named) >= 1:
        return Check(title, "good", "Every passage among the first ten was judged.", "labels")
    said = f"{percent(named[0])} of the first ten passages were judged; the others count as wrong"
    if contest and abs(named[0] - named[-1]) > 0.05:
        return Check(title, "care", f"{said} ({display(contest[1])}: {percent(named[-1])}).", "labels")
    return Check(title, "note", f"{said}.", "labels")


def _power(evaluation: Evaluation) -> Check:
    title = "Size of the test"
    if evaluation.smallest_p > 0.05:
        said = f"Too small to prove anything: {evaluation.clusters.count} independent groups of queries."
        return Check(title, "bad", said, "verdict-rules")
    contest = evaluation.contest()
    row = evaluation.compared(*contest, MAIN) if contest else None
    if row is None or math.isnan(row.detectable):
        return Check(title, "note", "The systems never differed.", "verdict-rules")
    seen = row.detectable <= 0.05
    said = f"A true change of {row.detectable:.3f} in nDCG@10 would have been seen four times in five."
    return Check(title, "good" if seen else "care", said, "verdict-rules")


def _keywords(evaluation: Evaluation) -> list[Check]:
    contest = evaluation.contest()
    if contest is None:
        return []
    for one in evaluation.systems:
        row = evaluation.compared(contest[0], one.name, MAIN)
        if one.kind != "lexical" or one.name in contest or row is None:
            continue
        found = outcome_of(row)
        states: dict[str, State] = {"better": "good", "same": "note", "worse": "care"}
        what = {"better": "Beaten", "same": "Cannot be told apart", "worse": "Still better than the model"}[found]
        said = f"{what}: {display(one.name)} has nDCG@10 {one.mean[MAIN]:.3f}, the model {signed(row.difference)}."
        return [Check("Keyword search", states[found], said, "systems")]
    return []


def _elsewhere(proof: Proof) -> Check:
    title, general = "General ability", proof.general
    if general is None or general.state == "not measured":
        return Check(title, "note", "Not measured.", "general" if general else "verdict-rules")
    whole = general.overall or general.probes[0]
    change = f"{signed(100 * whole.difference, 1)} points over {len(general.probes)} everyday probes"
    limit = f"the limit is a fall of {100 * general.limit:g}"
    if general.failed:
        return Check(title, "bad", f"Lost: {change}; {limit}.", "general")
    if general.state == "kept":
        return Check(title, "good", f"Kept: {change}; {limit}.", "general")
    return Check(title, "care", f"No loss shown, none ruled out: {change}; {limit}.", "general")


def _slices(proof: Proof) -> list[Check]:
    if proof.slices is None or not proof.slices.rows:
        return []
    findings = [row.finding for row in proof.slices.rows if not row.small]
    if not findings:
        return [Check("Parts of the test", "note", "None is large enough to be judged by itself.", "slices")]
    better, worse = findings.count("better"), findings.count("worse")
    said = f"Of {len(findings)} parts, {better} got measurably better, {worse} worse."
    return [Check("Parts of the test", "care" if worse else "good" if better else "note", said, "slices")]
