"""The outcomes that a verdict can have, and the rules that lead to them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from fieldtune.errors import ConfigError

Outcome = Literal["ship", "no measurable difference", "worse", "not trustworthy", "not compared"]
OUTCOMES: tuple[Outcome, ...] = ("ship", "no measurable difference", "worse", "not trustworthy", "not compared")

RULES: dict[str, tuple[Outcome, str]] = {
    "trained on": ("not trustworthy", "The queries measured are those of the train split, which models learn from."),
    "leak": ("not trustworthy", "More of the test set leaks from the training data than the limits let pass."),
    "chosen on": ("not trustworthy", "The queries measured are those that the best checkpoint was chosen by."),
    "alone": ("not compared", "There is one system and nothing to compare it with."),
    "lower": ("worse", "The 95% interval of the nDCG@10 difference lies below zero, and p < 0.05."),
    "lost elsewhere": ("worse", "General ability fell by more than its limit, whatever was gained in the field."),
    "unclear": ("no measurable difference", "The 95% interval of the nDCG@10 difference holds zero, or p >= 0.05."),
    "one document": (
        "no measurable difference",
        "The 95% interval of the nDCG@10 difference lies above zero, and p < 0.05, but all queries are about one "
        "document, which says nothing of others.",
    ),
    "higher, behind keyword search": (
        "ship",
        "The 95% interval of the nDCG@10 difference lies above zero, and p < 0.05; BM25 alone is measurably better.",
    ),
    "higher": ("ship", "The 95% interval of the nDCG@10 difference lies above zero, and p < 0.05."),
}
"""Rule -> outcome and condition. The first rule that holds, from the top, decides."""


class Ability(Protocol):
    """What the verdict needs to know of the general-ability check."""

    @property
    def failed(self) -> bool: ...

    @property
    def sentence(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out, in a headline and the sentences under it."""

    outcome: Outcome
    rule: str
    """The key of RULES that decided."""
    headline: str
    sentences: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    """What speaks for care although it decided nothing."""

    @property
    def line(self) -> str:
        """The first line of a report and of a command's output: the outcome in capitals, and the headline."""
        return f"{self.outcome.upper()}: {self.headline}"

    @property
    def tone(self) -> Literal["better", "same", "worse"]:
        """How the report colours it."""
        if self.outcome == "ship":
            return "better"
        return "worse" if self.outcome in ("worse", "not trustworthy") else "same"


def parse_outcomes(names: Sequence[str]) -> tuple[Outcome, ...]:
    """Outcomes as typed, with spaces, hyphens or underscores. Raises ConfigError for an unknown one."""
    known = {name.replace(" ", "-"): name for name in OUTCOMES}
    out = []
    for name in names:
        key = re.sub(r"[\s_-]+", "-", name.strip().lower())
        if key not in known:
            raise ConfigError(f"--fail-unless {name!r} is no verdict", f"verdicts: {', '.join(known)}")
        out.append(known[key])
    return tuple(out)
