"""The finding in plain sentences, for whoever decides whether the tuned model is used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from fieldtune.evaluation.results import MAIN, Comparison, Evaluation

Outcome = Literal["better", "same", "worse", "single"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out, in a headline and the sentences under it."""

    outcome: Outcome
    headline: str
    sentences: tuple[str, ...]


def judge(evaluation: Evaluation) -> Verdict:
    """Better or worse when the interval of the nDCG@10 difference is clear of zero and p < 0.05, else the same."""
    contest = evaluation.contest()
    count = f"{len(evaluation.queries):,} {evaluation.split} {'query' if len(evaluation.queries) == 1 else 'queries'}"
    if contest is None:
        only = evaluation.systems[0]
        first = f"{display(only.name)} finds a right passage first for {percent(only.mean['accuracy@1'])} of {count}."
        sentence = f"It shows one among the first ten for {percent(only.mean['hit@10'])}."
        return Verdict("single", first, (sentence, "There is nothing to compare it with."))
    a, b = contest
    main, first_ = evaluation.compared(a, b, MAIN), evaluation.compared(a, b, "accuracy@1")
    if main is None or first_ is None:
        raise ValueError(f"{a} was not compared with {b}")
    outcome = outcome_of(main)
    headline = {
        "better": f"{_model(evaluation, a)} finds the right passage more often than {_model(evaluation, b)}.",
        "same": f"No measurable difference between {_model(evaluation, a)} and {_model(evaluation, b)}.",
        "worse": f"{_model(evaluation, a)} is worse than {_model(evaluation, b)}: do not ship it.",
    }[outcome]
    one, other = evaluation.system(a).mean, evaluation.system(b).mean
    sentences = [
        f"{_model(evaluation, a)} puts a right passage first for {percent(one['accuracy@1'])} of {count}, "
        f"{_model(evaluation, b)} for {percent(other['accuracy@1'])}: {points(first_)}.",
        f"Over the first ten results, nDCG@10 is {one[MAIN]:.3f} against {other[MAIN]:.3f} "
        f"({signed(main.difference)}{bounds(main)}, {p_value(main.p)}).",
    ]
    if outcome == "same" and main.interval[0] <= 0 <= main.interval[1]:
        sentences.append(
            f"These queries rule out a change of nDCG@10 below {signed(main.interval[0])} or above "
            f"{signed(main.interval[1])}; anything between remains possible."
        )
    sentences += [text for text in (_against_lexical(evaluation, a, b),) if text]
    return Verdict(outcome, headline[0].upper() + headline[1:], tuple(text[0].upper() + text[1:] for text in sentences))


def outcome_of(comparison: Comparison) -> Literal["better", "same", "worse"]:
    low, high = comparison.interval
    if comparison.p >= 0.05 or not (low > 0 or high < 0):
        return "same"
    return "better" if low > 0 else "worse"


def _against_lexical(evaluation: Evaluation, a: str, b: str) -> str:
    """BM25 costs nothing to run: say it where the tuned model does not beat it."""
    for other in evaluation.systems:
        row = evaluation.compared(a, other.name, MAIN)
        if other.kind != "lexical" or other.name == b or row is None:
            continue
        gap = f"nDCG@10 {other.mean[MAIN]:.3f}, first for {percent(other.mean['accuracy@1'])}"
        name = f"keyword search ({display(other.name)})"
        outcome = outcome_of(row)
        if outcome == "better":
            return f"{name}, which needs no model, stays behind {_model(evaluation, a)}: {gap}."
        if outcome == "worse":
            return f"{name}, which needs no model, is still better: {gap}. Use both together, or keyword search alone."
        return f"{name}, which needs no model, cannot be told apart from {_model(evaluation, a)}: {gap}."
    return ""


def _model(evaluation: Evaluation, name: str) -> str:
    """`the tuned model` for the usual names, else the name itself."""
    return f"the {name} model" if name in ("base", "tuned") else display(name)


def display(name: str) -> str:
    return "BM25" if name == "bm25" else name


def percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share in (0, 1) or 0.01 <= share <= 0.99 else f"{100 * share:.1f}%"


def points(row: Comparison) -> str:
    return f"{signed(100 * row.difference, 0)} points{bounds(row, 100, 0)}, {p_value(row.p)}"


def bounds(row: Comparison, scale: float = 1, digits: int = 3) -> str:
    """The interval in brackets after a space; nothing where there is none."""
    if any(map(math.isnan, row.interval)):
        return ""
    low, high = (signed(scale * value, digits) for value in row.interval)
    return f" [{low}, {high}]"


def signed(value: float, digits: int = 3) -> str:
    """With a true minus sign; a value that rounds to zero has none."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text[1:] if not text.strip("+−0.") else text


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"
