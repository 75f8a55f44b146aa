"""All that decides whether the figures can be believed, gathered: leaks, missing labels, slices, the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fieldtune import config as settings
from fieldtune.beir import RetrievalData
from fieldtune.evaluation.ability import General
from fieldtune.evaluation.leakage import Leakage, Pair
from fieldtune.evaluation.outcome import RULES, Verdict
from fieldtune.evaluation.results import Evaluation, System
from fieldtune.evaluation.rounding import json_ready
from fieldtune.evaluation.slices import Slices, slices
from fieldtune.evaluation.unjudged import judged_share
from fieldtune.evaluation.verdict import display, judge, percent

_SHOWN = 3  # pairs of each kind on the console
_LONGEST = 110


@dataclass(frozen=True, slots=True)
class Proof:
    """What stands beside the figures of an evaluation."""

    verdict: Verdict
    leakage: Leakage
    judged: dict[str, float]
    """judged@10 by system: the share of its first ten passages that have a judgement."""
    slices: Slices | None
    general: General | None = None
    """What was lost elsewhere; None where that was not measured."""

    def record(self) -> dict[str, Any]:
        """What metrics.json holds of it, beside the figures; numbers have 6 digits, NaN is null."""
        rows = self.slices.rows if self.slices else ()
        found: dict[str, Any] = json_ready({
            "verdict": {
                "outcome": self.verdict.outcome,
                "rule": self.verdict.rule,
                "condition": RULES[self.verdict.rule][1],
                "headline": self.verdict.headline,
                "sentences": self.verdict.sentences,
                "warnings": self.verdict.warnings,
            },
            "leakage": {
                "failed": self.leakage.failed,
                "over": self.leakage.over,
                "sentence": self.leakage.sentence,
                "exact": self.leakage.exact,
                "near": self.leakage.near,
                "documents": self.leakage.documents,
                "documents_known": self.leakage.documents_known,
                "limits": dict(self.leakage.limits),
                "compared": dict(self.leakage.compared),
                "findings": [asdict(one) | {"queries": sorted(one.queries)} for one in self.leakage.findings],
                "overlaps": [asdict(one) for one in self.leakage.overlaps],
            },
            "judged@10": self.judged,
            "slices": [asdict(row) | {"finding": row.finding} for row in rows],
            "slices_note": self.slices.note if self.slices else "",
        })  # fmt: skip
        return found

    def lines(self) -> list[str]:
        """For the console: the verdict, then the audit, then the finding in sentences."""
        return [
            self.verdict.line,
            *audit_lines(self.leakage),
            *(line for line in self.verdict.warnings if line != self.leakage.sentence),
            *self.verdict.sentences,
            *labels_lines(self.judged),
        ]


def prove(
    data: RetrievalData,
    evaluation: Evaluation,
    systems: Sequence[System],
    leakage: Leakage,
    config: settings.Evaluation,
    *,
    general: General | None = None,
    chosen_on: bool = False,
) -> Proof:
    """Judge an evaluation: `leakage` was found before it, `chosen_on` as in `judge`."""
    return Proof(
        verdict=judge(evaluation, leakage, general, chosen_on=chosen_on),
        leakage=leakage,
        judged=judged_share(data, evaluation.split, systems),
        slices=slices(evaluation, data, config, evaluation.seed, leakage.touched),
        general=general,
    )


def audit_lines(leakage: Leakage) -> list[str]:
    """The audit's finding, each kind of leak, and the worst pairs of each."""
    lines = [leakage.sentence]
    for one in leakage.findings:
        if one.queries:
            lines.append(f"  {one.sentence}")
            lines += [f"    {_pair(pair)}" for pair in one.pairs[:_SHOWN]]
    for overlap in leakage.overlaps:
        if overlap.worst:
            lines.append(
                f"  Nearest {overlap.side} query by {overlap.by}: median similarity {overlap.median:.2f}, "
                f"0.9 or more for {overlap.at_least['0.90']:,} queries; the nearest:"
            )
            lines += [f"    {_pair(pair)}" for pair in overlap.worst[:_SHOWN]]
    return lines


def labels_lines(judged: dict[str, float]) -> list[str]:
    """What is said of missing labels: how many, and whom they may wrong."""
    if not judged or min(judged.values()) >= 1:
        return []
    told = ", ".join(f"{display(name)} {percent(share)}" for name, share in judged.items())
    return [f"Judged among the first ten: {told}. A passage that nobody judged counts as wrong."]


def _pair(pair: Pair) -> str:
    return f"{pair.similarity:.2f}  {pair.query}: {_short(pair.text)}  |  {pair.other}: {_short(pair.other_text)}"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[:_LONGEST].rstrip() + " …"
