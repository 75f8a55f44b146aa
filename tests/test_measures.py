from __future__ import annotations

import time

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldtune.errors import ConfigError
from fieldtune.measures import canonical, first_relevant, label, measure, parse

PASSAGES = [f"p{number:02d}" for number in range(24)]
DEPTHS = (1, 3, 6, 10)


def order(scores: dict[str, float]) -> list[str]:
    """Passage ids as trec_eval orders a run: by falling score, equal scores by falling id."""
    return sorted(sorted(scores, reverse=True), key=scores.__getitem__, reverse=True)


@st.composite
def collections(draw: st.DrawFn) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, int]], int]:
    """Runs with ties, unjudged passages and short rankings; graded qrels; a threshold from 1 to 3."""
    threshold = draw(st.integers(1, 3))
    run, qrels = {}, {}
    for number in range(draw(st.integers(1, 6))):
        grades = draw(st.dictionaries(st.sampled_from(PASSAGES), st.integers(0, 3), max_size=12))
        grades[draw(st.sampled_from(PASSAGES))] = 3
        # Few distinct scores, so that ties are the rule.
        scores = draw(st.dictionaries(st.sampled_from(PASSAGES), st.integers(-3, 3), min_size=1, max_size=24))
        qrels[f"q{number}"] = grades
        run[f"q{number}"] = {passage: score / 4 for passage, score in scores.items()}
    return run, qrels, threshold


def peers(threshold: int) -> dict[str, ir_measures.Measure]:
    names: dict[str, ir_measures.Measure] = {"r-precision": ir_measures.Rprec(rel=threshold)}
    for k in DEPTHS:
        names |= {
            f"ndcg@{k}": ir_measures.nDCG @ k,
            f"recall@{k}": ir_measures.R(rel=threshold) @ k,
            f"precision@{k}": ir_measures.P(rel=threshold) @ k,
            f"map@{k}": ir_measures.AP(rel=threshold) @ k,
            f"hit@{k}": ir_measures.Success(rel=threshold) @ k,
            f"accuracy@{k}": ir_measures.Success(rel=threshold) @ k,
        }
    return names


@settings(max_examples=150, deadline=None)
@given(collections())
def test_agrees_with_ir_measures(
    collection: tuple[dict[str, dict[str, float]], dict[str, dict[str, int]], int],
) -> None:
    run, qrels, threshold = collection
    theirs = peers(threshold)
    queries = list(qrels)
    ours = measure(
        [*theirs, "mrr@3"], [order(run[query]) for query in queries], [qrels[query] for query in queries], threshold
    )
    # ir_measures orders equal scores by rising id for RR@k alone; RR without a depth goes by trec_eval, as the rest.
    rank = ir_measures.RR(rel=threshold)
    rows = ir_measures.iter_calc([*theirs.values(), rank], qrels, run)
    expected = {(row.measure, row.query_id): row.value for row in rows}
    cut = [expected[rank, query] * (expected[rank, query] > 0.3) for query in queries]
    np.testing.assert_allclose(ours["mrr@3"], cut, rtol=0, atol=1e-9)
    for name, peer in theirs.items():
        np.testing.assert_allclose(ours[name], [expected[peer, query] for query in queries], rtol=0, atol=1e-9)


def test_threshold_two_counts_grade_two_but_ndcg_gains_from_grade_one() -> None:
    values = measure(["ndcg@10", "mrr@10", "recall@10"], [["a", "b"]], [{"a": 1, "b": 2, "c": 2}], 2)
    assert values["mrr@10"][0] == 0.5
    assert values["recall@10"][0] == 0.5
    discount = 1 / np.log2([2, 3, 4])
    assert values["ndcg@10"][0] == pytest.approx((discount @ [1, 2, 0]) / (discount @ [2, 2, 1]))


def test_a_query_without_relevant_passages_has_no_value() -> None:
    values = measure(["ndcg@10", "hit@10"], [["a"], ["a"], []], [{"a": 1}, {"a": 2}, {"a": 2}], 2)
    for value in values.values():
        assert np.isnan(value[0])
        assert value[1:].tolist() == [1, 0]


def test_integer_rows_padded_with_minus_one() -> None:
    ranked = np.array([[4, 2, -1], [-1, -1, -1], [0, 1, 2]])
    values = measure(["mrr@3", "recall@3"], ranked, [{2: 1, 9: 1}, {0: 1}, {2: 1}])
    assert values["mrr@3"].tolist() == [0.5, 0, pytest.approx(1 / 3)]
    assert values["recall@3"].tolist() == [0.5, 0, 1]


def test_first_relevant_rank() -> None:
    ranked = [["a", "b", "c"], ["a"], []]
    assert first_relevant(ranked, [{"c": 1, "b": 0}, {"z": 1}, {"a": 1}]).tolist() == [3, 0, 0]


def test_equal_scores_are_ordered_by_falling_id() -> None:
    assert order({"a": 1.0, "c": 1.0, "b": 1.0, "z": 0.5, "y": 2.0}) == ["y", "c", "b", "a", "z"]


@pytest.mark.parametrize("name", ["ndcg", "ndcg@", "r-precision@5", "ndcg@0", "ndcg@-1", "f1@10", "ndcg@ten", "ndcg@²"])
def test_a_name_that_is_no_measure_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a measure"):
        parse(name)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("nDCG@10", "ndcg@10"), ("RR@5", "mrr@5"), ("Recall@100", "recall@100"), ("R@7", "recall@7"),
        ("P@5", "precision@5"), ("AP@100", "map@100"), ("Success@10", "hit@10"), ("R-precision", "r-precision"),
        ("Rprec", "r-precision"), (" hit@3 ", "hit@3"),
    ],
)  # fmt: skip
def test_measures_may_be_written_as_people_and_ir_measures_write_them(name: str, found: str) -> None:
    assert canonical(name) == found
    assert canonical(label(found)) == found


def test_many_queries_take_a_moment() -> None:
    generator = np.random.default_rng(0)
    ranked = np.argsort(generator.random((10_000, 400)), axis=1)[:, :100]
    qrels = [dict.fromkeys(row, 1) for row in generator.integers(0, 400, (10_000, 5)).tolist()]
    began = time.process_time()
    found = measure(["ndcg@10", "recall@100", "map@100", "r-precision"], ranked, qrels)
    assert time.process_time() - began < 1.5  # about 0.3 s on one quiet processor
    assert found["recall@100"].mean() == pytest.approx(0.25, abs=0.01)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 rankings"):
        measure(["hit@1"], [["a"], ["b"]], [{"a": 1}])


def test_a_float32_ulp_of_score_decides_the_order() -> None:
    higher = float(np.nextafter(np.float32(0.5), np.float32(1)))
    assert order({"b": 0.5, "a": higher}) == ["a", "b"]
