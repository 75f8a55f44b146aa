from __future__ import annotations

import random

import numpy as np
import pytest

from fieldtune.beir import RetrievalData
from fieldtune.config import Evaluation as Settings
from fieldtune.evaluation import Evaluation, Ranking, System, evaluate
from fieldtune.evaluation.facets import facets, language
from fieldtune.evaluation.slices import Slice, slices, subset
from fieldtune.evaluation.statistics import cluster
from fieldtune.types import Passage, Query

SIZE = 200
SETTINGS = Settings(bootstrap=200, permutations=2_000)


@pytest.fixture(scope="module")
def data() -> RetrievalData:
    """200 queries; every second one shares its words with its passage. Metadata tell parts apart; two languages."""
    rng = random.Random(2)
    passages, queries, test = {}, {}, {}
    for n in range(SIZE):
        own = f"matter{n} clause{n} deed{n}"
        passages[f"p{n}"] = Passage(
            f"p{n}", "", f"{own} and some more text", group=f"deed {n // 4}", metadata={"court": f"court {n % 3}"}
        )
        text = own if n % 2 else f"something said otherwise {rng.random():.9f}"
        text = "合同到期之后押金什么时候退" if n % 40 == 0 else "what is " + text + " of it" * (n % 5)
        queries[f"q{n}"] = Query(f"q{n}", text, "made" * (n % 4 == 0), {"kind": ["a", "b"][n % 2], "answer": f"x{n}"})
        test[f"q{n}"] = {f"p{n}": 1} | ({f"p{n + 1}": 1} if n % 5 == 0 else {})
    return RetrievalData(passages, queries, {"test": test})


def ranking(data: RetrievalData, rows: tuple[tuple[str, ...], ...]) -> Ranking:
    return Ranking.of(tuple(data.queries), rows, ((1.0,),) * SIZE, [*data.passages, "none", "x"], depth=10)


@pytest.fixture(scope="module")
def evaluation(data: RetrievalData) -> Evaluation:
    """Tuned finds all; base finds those that share their words, and half of the others."""
    found = {"base": [n % 2 == 1 or n % 4 == 0 for n in range(SIZE)], "tuned": [True] * SIZE}
    systems = []
    for name, hits in found.items():
        rows = tuple((f"p{n}",) if hit else ("none",) for n, hit in enumerate(hits))
        systems.append(System(name, ranking(data, rows)))
    return evaluate(data, "test", systems, SETTINGS, 1)


def rows(evaluation: Evaluation, data: RetrievalData, by: str) -> dict[str, Slice]:
    found = slices(evaluation, data, SETTINGS, 1)
    assert found is not None
    return {row.name: row for row in found.rows if row.by == by}


def test_every_way_of_slicing_is_there_and_covers_all_queries(evaluation: Evaluation, data: RetrievalData) -> None:
    ways = facets(data, "test", evaluation.queries)
    assert set(ways) == {
        "document", "query style", "query length", "language", "relevant passages", "words shared with the answer",
        "query kind", "passage court",
    }  # fmt: skip
    assert "query answer" not in ways  # another value for each query is no field
    for way, labels in ways.items():
        assert None not in labels, way
    counts = {way: sum(row.queries for row in rows(evaluation, data, way).values()) for way in ways}
    assert set(counts.values()) == {SIZE}


def test_tuning_pays_where_few_words_are_shared(evaluation: Evaluation, data: RetrievalData) -> None:
    found = rows(evaluation, data, "words shared with the answer")
    few = next(row for name, row in found.items() if name.startswith("few"))
    most = next(row for name, row in found.items() if name.startswith(("most", "some")))
    assert few.finding == "better" and few.difference > 0.3
    assert few.interval[0] > 0 and few.interval[0] <= few.difference <= few.interval[1]
    assert most.difference == 0 and most.finding == "no measurable difference"
    kind = rows(evaluation, data, "query kind")
    assert kind["b"].difference == 0 and kind["a"].tuned - kind["a"].base == pytest.approx(kind["a"].difference)


def test_a_small_slice_proves_nothing(evaluation: Evaluation, data: RetrievalData) -> None:
    chinese = rows(evaluation, data, "language")["Chinese"]
    assert chinese.queries == 5
    assert chinese.small and chinese.finding == "too small" and np.isnan(chinese.adjusted)


def test_many_looks_are_corrected_for(evaluation: Evaluation, data: RetrievalData) -> None:
    found = slices(evaluation, data, SETTINGS, 1)
    assert found is not None
    judged = [row for row in found.rows if not row.small]
    assert all(row.adjusted >= row.p for row in judged)
    assert f"{len(judged)} slices were compared" in found.note


def test_chance_alone_hardly_ever_makes_a_slice_different(data: RetrievalData) -> None:
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(10):
        systems = []
        for name in ("base", "tuned"):
            rows = tuple((f"p{n}",) if hit else ("x",) for n, hit in enumerate(rng.random(SIZE) < 0.5))
            systems.append(System(name, ranking(data, rows)))
        found = slices(evaluate(data, "test", systems, SETTINGS, 1), data, SETTINGS, 1)
        assert found is not None
        wrong += any(row.finding in ("better", "worse") for row in found.rows)
    assert wrong <= 1


def test_leaky_queries_are_a_slice_of_their_own(evaluation: Evaluation, data: RetrievalData) -> None:
    found = slices(evaluation, data, SETTINGS, 1, frozenset({"q1", "q2", "elsewhere"}))
    assert found is not None
    assert {row.name: row.queries for row in found.rows if row.by == "leak"} == {
        "untouched": SIZE - 2, "touched by a leak": 2,
    }  # fmt: skip


def test_a_subset_keeps_its_clusters() -> None:
    whole = cluster([["a"], ["b"], ["c"], ["d"]], {"a": "x", "b": "y", "c": "x", "d": "z"})
    part = subset(whole, np.array([0, 2, 3]))
    assert part.labels.tolist() == [0, 0, 1] and part.count == 2
    assert part.effective == pytest.approx(9 / 5)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("What is the limit for a deposit?", "English"),
        ("Wie hoch ist die Kaution und wer zahlt?", "German"),
        ("Quels sont les délais pour le bail ?", "French"),
        ("平台经济从业者注册为个体工商户 GDPR", "Chinese"),
        ("契約はいつ終わりますか", "Japanese"),
        ("E11.9", "undecided"),
    ],
)
def test_languages_are_told_apart(text: str, name: str) -> None:
    assert language(Query("q", text)) == name
    assert language(Query("q", text, metadata={"lang": "xx"})) == "xx"
