"""The finding in plain sentences, for whoever decides whether the tuned model is used."""

from __future__ import annotations

import math
from typing import Literal

from fieldtune.evaluation.leakage import Leakage
from fieldtune.evaluation.outcome import RULES, Ability, Verdict
from fieldtune.evaluation.results import MAIN, Comparison, Evaluation, Scores

_HARDLY_ANY = 10  # fewer queries are said to prove next to nothing


def judge(
    evaluation: Evaluation,
    leakage: Leakage | None = None,
    general: Ability | None = None,
    *,
    chosen_on: bool = False,
) -> Verdict:
    """Whether the tuned model should replace the base model, by the first of RULES that holds.

    `chosen_on` says that the best checkpoint was chosen by the very queries that are measured. Without an audit or a
    general-ability check their rules do not apply; an audit that had nothing to compare with is told in the headline.
    """
    contest = evaluation.contest()
    rule = _rule(evaluation, leakage, general, chosen_on)
    outcome = RULES[rule][0]
    if contest is None:
        headline, sentences = _alone(evaluation)
    else:
        headline, sentences = _headline(evaluation, contest, rule), _sentences(evaluation, contest)
        if outcome == "ship" and leakage is not None and not leakage.compared:
            headline += " Unaudited: what the models were trained on is not known, and it may hold these queries."
    if rule == "leak" and leakage is not None:
        known = "its documents are known" if leakage.over == ("documents",) else "the test set is known"
        headline = f"{known} from training. {leakage.sentence.removeprefix('Leakage audit: ')}"
    elif rule == "chosen on":
        headline = (
            f"these are the {evaluation.split} queries that the best checkpoint was chosen by; keep a test split."
        )
    elif rule == "trained on":
        headline = "these are the train queries, which models learn by heart; measure on a test split."
    if general is not None:
        sentences.append(general.sentence)
    warnings = _warnings(evaluation, contest, leakage, rule)
    return Verdict(outcome, rule, _upper(headline), tuple(map(_upper, sentences)), tuple(map(_upper, warnings)))


def _rule(evaluation: Evaluation, leakage: Leakage | None, general: Ability | None, chosen_on: bool) -> str:
    if evaluation.split == "train" and any(system.kind == "model" for system in evaluation.systems):
        return "trained on"
    if leakage is not None and leakage.failed:
        return "leak"
    if chosen_on:
        return "chosen on"
    contest = evaluation.contest()
    if contest is None:
        return "alone"
    found = outcome_of(_main(evaluation, contest))
    if found == "worse":
        return "lower"
    if general is not None and general.failed:
        return "lost elsewhere"
    if found == "same":
        return "unclear"
    if evaluation.one_document:
        return "one document"
    behind = any(outcome_of(row) == "worse" for _, row in _lexical(evaluation, contest))
    return "higher, behind keyword search" if behind else "higher"


def _main(evaluation: Evaluation, contest: tuple[str, str], measure: str = MAIN) -> Comparison:
    row = evaluation.compared(*contest, measure)
    if row is None:
        raise ValueError(f"{contest[0]} was not compared with {contest[1]}")
    return row


def _headline(evaluation: Evaluation, contest: tuple[str, str], rule: str) -> str:
    a, b = map(_model, contest)
    if rule == "lower":
        return f"{a} is worse than {b}: do not ship it."
    if rule == "lost elsewhere":
        return f"{a} lost too much elsewhere: do not ship it."
    if rule == "unclear":
        return f"No measurable difference between {a} and {b}."
    if rule == "one document":
        return (
            f"{a} finds the right passage more often than {b} in the one document that all queries are about; whether "
            "it does in others cannot be told: label queries on more documents."
        )
    if rule == "higher, behind keyword search":
        return f"{a} finds the right passage more often than {b}, but keyword search alone is better than both."
    return f"{a} finds the right passage more often than {b}."


def _alone(evaluation: Evaluation) -> tuple[str, list[str]]:
    only = evaluation.systems[0]
    first = f"{display(only.name)} finds a right passage first for {percent(only.mean['accuracy@1'])}"
    shown = f"It shows one among the first ten for {percent(only.mean['hit@10'])}."
    return f"{first} of {_count(evaluation)}.", [shown, "There is nothing to compare it with."]


def _sentences(evaluation: Evaluation, contest: tuple[str, str]) -> list[str]:
    a, b = contest
    main, first = _main(evaluation, contest), _main(evaluation, contest, "accuracy@1")
    one, other = evaluation.system(a).mean, evaluation.system(b).mean
    sentences = [
        f"{_model(a)} puts a right passage first for {percent(one['accuracy@1'])} of {_count(evaluation)}, "
        f"{_model(b)} for {percent(other['accuracy@1'])}: {points(first)}.",
        f"Over the first ten results, nDCG@10 is {one[MAIN]:.3f} against {other[MAIN]:.3f} "
        f"({signed(main.difference)}{bounds(main)}, {p_value(main.p)}).",
    ]
    proves_nothing = evaluation.smallest_p > 0.05
    if outcome_of(main) == "same" and main.interval[0] <= 0 <= main.interval[1] and not proves_nothing:
        sentences.append(
            f"These queries rule out a change of nDCG@10 below {signed(main.interval[0])} or above "
            f"{signed(main.interval[1])}; anything between remains possible."
        )
    if not math.isnan(main.detectable):
        sentences.append(
            f"The smallest true difference in nDCG@10 that these queries would show four times in five is "
            f"{main.detectable:.3f}."
        )
    if len(evaluation.queries) < _HARDLY_ANY:
        sentences.append(f"{_count(evaluation)} can prove next to nothing: label more.")
    return sentences + [text for text in (_against_lexical(evaluation, a, b),) if text]


def _warnings(
    evaluation: Evaluation,
    contest: tuple[str, str] | None,
    leakage: Leakage | None,
    rule: str,
) -> list[str]:
    found = []
    if rule == "higher, behind keyword search":
        found.append("keyword search alone is still better: use both together, or keyword search alone.")
    if rule in ("leak", "chosen on", "trained on") and contest is not None:
        found.append("the figures below are shown for diagnosis; they do not say how the model does on new queries.")
    if leakage is not None and rule != "leak" and (not leakage.compared or any(f.queries for f in leakage.findings)):
        found.append(leakage.sentence)
    if contest is not None and rule.startswith("higher"):
        lower = [name for name in evaluation.measures if outcome_of(_main(evaluation, contest, name)) == "worse"]
        if lower:
            found.append(f"though nDCG@10 rose, it fell measurably in {', '.join(lower)}.")
    return found


def _lexical(evaluation: Evaluation, contest: tuple[str, str]) -> list[tuple[Scores, Comparison]]:
    """Keyword systems that the verdict's model was compared with beside its opponent."""
    a, b = contest
    rows = [(one, evaluation.compared(a, one.name, MAIN)) for one in evaluation.systems]
    return [(one, row) for one, row in rows if one.kind == "lexical" and one.name != b and row is not None]


def _count(evaluation: Evaluation) -> str:
    return f"{len(evaluation.queries):,} {evaluation.split} {'query' if len(evaluation.queries) == 1 else 'queries'}"


def _upper(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def outcome_of(comparison: Comparison) -> Literal["better", "same", "worse"]:
    low, high = comparison.interval
    if comparison.p >= 0.05 or not (low > 0 or high < 0):
        return "same"
    return "better" if low > 0 else "worse"


def _against_lexical(evaluation: Evaluation, a: str, b: str) -> str:
    """BM25 costs nothing to run: say it where the tuned model does not beat it."""
    for other, row in _lexical(evaluation, (a, b)):
        gap = f"nDCG@10 {other.mean[MAIN]:.3f}, first for {percent(other.mean['accuracy@1'])}"
        name = f"keyword search ({display(other.name)})"
        outcome = outcome_of(row)
        if outcome == "better":
            return f"{name}, which needs no model, stays behind {_model(a)}: {gap}."
        if outcome == "worse":
            return f"{name}, which needs no model, is still better: {gap}. Use both together, or keyword search alone."
        return f"{name}, which needs no model, cannot be told apart from {_model(a)}: {gap}."
    return ""


def _model(name: str) -> str:
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
