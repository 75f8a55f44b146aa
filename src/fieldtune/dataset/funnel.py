"""What the stages before have to say on the card: filters with examples, and prompts word for word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fieldtune.types import Result


@dataclass(frozen=True, slots=True)
class FilterStep:
    """One filter on made queries: how many came, how many it dropped, and some of those."""

    name: str
    came: int
    dropped: int
    examples: tuple[tuple[str, str], ...]
    """(query, why it went)."""


def filter_steps(results: Sequence[Result]) -> Iterator[FilterStep]:
    """The filters in the order in which they were gone through."""
    for result in results:
        for step in result.details.get("filters", ()):
            shown = tuple((row["query"], row["why"]) for row in step["dropped examples"])
            yield FilterStep(step["filter"], step["in"], step["dropped"], shown)


def kind_rows(results: Sequence[Result]) -> Iterator[tuple[str, str, str, str, str, str]]:
    """Of each kind of made query: passages that give it and their share, known of those made without an LLM alone;
    queries made; queries that the filters left, and their share."""
    for result in results:
        for kind, one in result.details.get("kinds", {}).items():
            own = (f"{one['passages that give it']:,}", f"{one['yield']:.0%}") if "yield" in one else ("", "")
            yield kind, *own, f"{one['made']:,}", f"{one['kept']:,}", f"{one['share']:.0%}"


def asked_of_models(results: Sequence[Result]) -> dict[str, str]:
    """What each kind of prompt was called -> its messages; the first of each kind stands for all."""
    found: dict[str, str] = {}
    for result in results:
        for sample in result.details.get("prompts", ()):
            found.setdefault(_name(sample), "\n\n".join(f"[{role}] {text}" for role, text in sample["messages"]))
    return found


def _name(sample: Mapping[str, Any]) -> str:
    purpose = sample.get("for", "queries")
    return f"{purpose}, asked on {'one passage' if len(sample['passages']) == 1 else 'several passages together'}"
