"""The styles of query that an LLM is asked for, and how they are dealt out by weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fieldtune.config import Styles

WHAT: Mapping[str, str] = {
    "formal": "a complete question in the words that a specialist of the field would use",
    "colloquial": "what a layperson would type in everyday words, without the field's terms, perhaps clumsily",
    "keywords": "two to six words as typed into a search box, no sentence",
    "case": "one to three short sentences on a concrete situation of one's own, with its details, that end in a"
    ' question ("My landlord ...", "我的房东……")',
    "claim": "a short statement that this passage confirms or refutes, or a title that someone would give the subject",
    "comparison": "one question that needs both passages to be answered: how two rules, cases, products or figures"
    " differ, or how they work together",
}
"""What the LLM is told of each."""
SINGLE = tuple(style for style in WHAT if style != "comparison")
PER_PAIR = 2
"""Queries asked for on a pair of passages."""


def deal(weights: Styles, passages: int, each: int) -> list[tuple[str, ...]]:
    """The styles to ask for on each of some passages, in shares as near to the weights as whole numbers allow.

    Any number of passages from the first on gets its fair share, and one passage gets different styles as long as
    there are any (the largest remainder decides each turn).
    """
    given = {style: weight for style in SINGLE if (weight := getattr(weights, style)) > 0}
    if not given:
        return [()] * passages
    whole = sum(given.values())
    credit = dict.fromkeys(given, 0.0)
    dealt = []
    for _ in range(passages):
        chosen: list[str] = []
        for _ in range(each):
            for style, weight in given.items():
                credit[style] += weight / whole
            fresh = [style for style in given if style not in chosen] or list(given)
            best = max(fresh, key=lambda style: credit[style])
            credit[best] -= 1
            chosen.append(best)
        dealt.append(tuple(sorted(chosen, key=SINGLE.index)))
    return dealt


def pairs_wanted(weights: Styles, passages: int, each: int) -> int:
    """How many pairs of passages give comparisons their share of all queries."""
    others: float = sum(getattr(weights, style) for style in SINGLE)
    if not weights.comparison:
        return 0
    if not others:
        return (passages * each + PER_PAIR - 1) // PER_PAIR
    return round(passages * each * weights.comparison / others / PER_PAIR)


def needs_all(style: str) -> bool:
    """Whether a query of the style takes all of its passages together to be answered."""
    return style.removeprefix("llm-") == "comparison"


def count_styles(styles: Sequence[str]) -> dict[str, int]:
    """How many of each, in the order of the config."""
    return {style: styles.count(style) for style in WHAT if style in styles}
