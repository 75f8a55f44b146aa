"""Each rule of the verdict, alone and against those below it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from fieldtune.beir import RetrievalData
from fieldtune.config import Evaluation as Settings
from fieldtune.errors import ConfigError
from fieldtune.evaluation import Evaluation, Ranking, System, evaluate, judge
from fieldtune.evaluation.leakage import Finding, Leakage
from fieldtune.evaluation.outcome import OUTCOMES, RULES, parse_outcomes
from fieldtune.evaluation.rankings import Kind
from fieldtune.types import Passage, Query

SIZE = 40
DATA = RetrievalData(
    {f"p{n}": Passage(f"p{n}", "", f"text {n}", group=f"g{n}") for n in range(SIZE)},
    {f"q{n}": Query(f"q{n}", f"query {n}") for n in range(SIZE)},
    {"test": {f"q{n}": {f"p{n}": 1} for n in range(SIZE)}},
)
LEAKY = Leakage(
    "test", SIZE, {"train": 10}, (Finding("query", "train", frozenset({"q0", "q1"}), 0.05, ()),), (), 0.05, 0.05, 0.0,
    {"exact": 0.01, "near": 0.05, "documents": 0.1},
)  # fmt: skip
CLEAN = replace(LEAKY, findings=(), exact=0.0, near=0.0)


@dataclass
class Ability:
    failed: bool
    sentence: str = "General ability fell by 3 points."


IDS = (*DATA.passages, "none", "x")


def right(share: float, kind: Kind = "model", start: int = 0) -> Ranking:
    """Finds the passage of so many queries at rank 1, of the others never."""
    found = [(f"p{n}",) if (n - start) % SIZE < share * SIZE else ("none",) for n in range(SIZE)]
    return Ranking.of(tuple(DATA.queries), found, ((1.0,),) * SIZE, IDS, kind, depth=10)


def measured(base: float, tuned: float, bm25: float | None = None) -> Evaluation:
    systems = [System("base", right(base)), System("tuned", right(tuned))]
    systems += [] if bm25 is None else [System("BM25", right(bm25, "lexical"))]
    return evaluate(DATA, "test", systems, Settings(bootstrap=200, permutations=500), 1)


def test_ship_needs_a_gain_that_is_clear_of_zero() -> None:
    verdict = judge(measured(0.3, 0.8), CLEAN, Ability(False, "Nothing lost elsewhere."))
    assert (verdict.outcome, verdict.rule, verdict.tone) == ("ship", "higher", "better")
    assert verdict.line == "SHIP: The tuned model finds the right passage more often than the base model."
    assert "Nothing lost elsewhere." in verdict.sentences
    assert verdict.warnings == ()


def test_a_loss_is_worse_and_a_small_change_is_neither() -> None:
    assert judge(measured(0.8, 0.3)).rule == "lower"
    same = judge(measured(0.5, 0.525))
    assert (same.outcome, same.rule) == ("no measurable difference", "unclear")
    assert any("rule out a change" in sentence for sentence in same.sentences)


def test_a_leak_comes_before_everything() -> None:
    for evaluation in (measured(0.3, 0.8), measured(0.8, 0.3)):
        verdict = judge(evaluation, LEAKY, Ability(True))
        assert (verdict.outcome, verdict.rule, verdict.tone) == ("not trustworthy", "leak", "worse")
        assert verdict.line.startswith("NOT TRUSTWORTHY: The test set is known from training. 5.0% of the test queries")
    assert judge(measured(0.3, 0.8), replace(LEAKY, limits=dict.fromkeys(LEAKY.limits, 0.2))).outcome == "ship"


def test_a_leak_within_the_limits_is_a_warning() -> None:
    verdict = judge(measured(0.3, 0.8), replace(LEAKY, limits=dict.fromkeys(LEAKY.limits, 0.2)))
    assert "some overlap, within the limits" in verdict.warnings[0]


def test_queries_that_chose_the_checkpoint_prove_nothing() -> None:
    verdict = judge(measured(0.3, 0.8), CLEAN, chosen_on=True)
    assert (verdict.outcome, verdict.rule) == ("not trustworthy", "chosen on")


def test_a_loss_elsewhere_undoes_a_gain() -> None:
    verdict = judge(measured(0.3, 0.8), CLEAN, Ability(True))
    assert (verdict.outcome, verdict.rule) == ("worse", "lost elsewhere")
    assert "General ability fell by 3 points." in verdict.sentences
    assert judge(measured(0.5, 0.525), CLEAN, Ability(True)).rule == "lost elsewhere"


def test_behind_keyword_search_it_ships_with_a_warning() -> None:
    verdict = judge(measured(0.2, 0.5, bm25=0.9), CLEAN)
    assert (verdict.outcome, verdict.rule) == ("ship", "higher, behind keyword search")
    assert verdict.warnings[0].startswith("Keyword search alone is still better")
    assert verdict.headline.endswith("but keyword search alone is better than both.")
    assert judge(measured(0.2, 0.9, bm25=0.5), CLEAN).rule == "higher"


def test_a_gain_in_one_document_never_ships_but_one_without_known_documents_does() -> None:
    def of(groups: list[str]) -> Evaluation:
        passages = {key: replace(one, group=groups[n]) for n, (key, one) in enumerate(DATA.passages.items())}
        systems = [System("base", right(0.3)), System("tuned", right(0.9))]
        return evaluate(replace(DATA, passages=passages), "test", systems, Settings(), 1)

    one = judge(of(["the code"] * SIZE), CLEAN)
    assert (one.outcome, one.rule) == ("no measurable difference", "one document")
    assert "in the one document that all queries are about" in one.headline
    assert judge(of([""] * SIZE), CLEAN).outcome == "ship"
    assert judge(of([f"law {n % 12}" for n in range(SIZE)]), CLEAN).outcome == "ship"


def test_train_queries_prove_nothing_of_a_model() -> None:
    verdict = judge(replace(measured(0.3, 0.8), split="train"), CLEAN)
    assert (verdict.outcome, verdict.rule) == ("not trustworthy", "trained on")
    assert verdict.line.startswith("NOT TRUSTWORTHY: These are the train queries")


def test_what_could_not_be_audited_is_said_in_the_headline() -> None:
    verdict = judge(measured(0.3, 0.8), replace(CLEAN, compared={}))
    assert verdict.outcome == "ship" and "Unaudited" in verdict.line
    assert "Unaudited" not in judge(measured(0.3, 0.8), CLEAN).line


def test_the_smallest_difference_is_told_and_no_interval_leaves_the_scale() -> None:
    told = [text for text in judge(measured(0.3, 0.8)).sentences if "smallest true difference" in text]
    row = measured(0.3, 0.8).compared("tuned", "base", "ndcg@10")
    assert row is not None and told[0].endswith(f"{row.detectable:.3f}.")
    few = replace(DATA, qrels={"test": {f"q{n}": {f"p{n}": 1} for n in range(3)}})
    systems = [
        System(name, replace(one, queries=one.queries[:3], rows=one.rows[:3], values=one.values[:3]))
        for name, one in (("base", right(1 / SIZE)), ("tuned", right(1 / SIZE, start=1)))
    ]
    found = evaluate(few, "test", systems, Settings(), 1)
    assert all(-1 <= row.interval[0] <= row.interval[1] <= 1 for row in found.comparisons)
    assert not any("rule out" in text or "smallest true" in text for text in judge(found).sentences)


def test_three_queries_work_and_prove_nothing() -> None:
    few = replace(DATA, qrels={"test": {f"q{n}": {f"p{n}": 1} for n in range(3)}})
    run = {name: right(share) for name, share in (("base", 0), ("tuned", 1))}
    systems = [
        System(name, replace(one, queries=one.queries[:3], rows=one.rows[:3], values=one.values[:3]))
        for name, one in run.items()
    ]
    verdict = judge(evaluate(few, "test", systems, Settings(), 1), CLEAN)
    assert verdict.outcome == "no measurable difference"
    assert "3 test queries can prove next to nothing: label more." in verdict.sentences


def test_every_rule_has_an_outcome_and_every_outcome_a_rule() -> None:
    assert {outcome for outcome, _ in RULES.values()} == set(OUTCOMES)


def test_outcomes_are_read_as_they_are_typed() -> None:
    assert parse_outcomes(["ship", "No-Measurable_difference"]) == ("ship", "no measurable difference")
    with pytest.raises(ConfigError, match="'good' is no verdict") as caught:
        parse_outcomes(["good"])
    assert "no-measurable-difference" in caught.value.hint


def test_a_measure_that_fell_is_named_though_the_main_one_rose() -> None:
    queries = tuple(DATA.queries)
    # The base model has a quarter at rank 1 and the others at rank 10, the tuned model all of them at rank 2.
    systems = []
    for name, above in (("base", [9 * (n % 4 > 0) for n in range(SIZE)]), ("tuned", [1] * SIZE)):
        rows = tuple(("x",) * count + (f"p{n}",) for n, count in enumerate(above))
        systems.append(System(name, Ranking.of(queries, rows, [(1.0,) * len(row) for row in rows], IDS, depth=10)))
    evaluation = evaluate(DATA, "test", systems, Settings(), 1)
    verdict = judge(evaluation, CLEAN)
    assert verdict.outcome == "ship"
    assert "fell measurably in" in verdict.warnings[0] and "accuracy@1" in verdict.warnings[0]
