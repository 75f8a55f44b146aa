from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.evaluation.fusion import best_weight, rank_fusion, weighted_fusion
from fieldtune.evaluation.rankings import Ranking, reordered
from fieldtune.measures import judgements

IDS = tuple("abcdefgh")


def ranking(*rows: dict[str, float]) -> Ranking:
    """A ranking per query from scores by passage; equal scores in the order given."""
    lines = [sorted(row, key=lambda name: -row[name]) for row in rows]
    scores = [[row[name] for name in line] for row, line in zip(rows, lines, strict=True)]
    return Ranking.of([f"q{n}" for n in range(len(rows))], lines, scores, IDS)


runs = st.lists(st.dictionaries(st.sampled_from(IDS), st.integers(0, 5).map(float), max_size=8), min_size=1, max_size=4)


@given(runs, st.data())
def test_rank_fusion_adds_reciprocal_ranks(rows: list[dict[str, float]], draw: st.DataObject) -> None:
    others = draw.draw(
        st.lists(
            st.dictionaries(st.sampled_from(IDS), st.integers(0, 5).map(float), max_size=8),
            min_size=len(rows),
            max_size=len(rows),
        )
    )
    a, b = ranking(*rows), ranking(*others)
    fused = rank_fusion(a, b, k=60)
    for n in range(len(rows)):
        expected: dict[str, float] = {}
        for run in (a, b):
            for place, name in enumerate(run.passages[n], 1):
                expected[name] = expected.get(name, 0.0) + 1 / (60 + place)
        order = sorted(expected, key=lambda name: (-round(expected[name], 12), name))
        assert fused.passages[n] == tuple(order)[: fused.rows.shape[1]]
        np.testing.assert_allclose(fused.scores[n], [expected[name] for name in fused.passages[n]], rtol=1e-6)


def test_weighted_fusion_spreads_scores_over_0_to_1_and_counts_absence_as_0() -> None:
    dense, lexical = ranking({"a": 0.9, "b": 0.8, "c": 0.7}), ranking({"c": 20.0, "d": 10.0})
    fused = weighted_fusion(dense, lexical, 0.6)
    assert fused.passages[0][:3] == ("a", "c", "b")
    assert fused.scores[0][:3] == pytest.approx((0.6, 0.4, 0.3), abs=1e-6)
    assert fused.kind == "derived"


def test_a_query_that_keyword_search_finds_nothing_for_keeps_the_models_order() -> None:
    dense, lexical = ranking({"b": 0.9, "a": 0.8}, {"a": 1.0}), ranking({}, {"c": 3.0})
    assert rank_fusion(dense, lexical).passages[0] == ("b", "a")
    assert weighted_fusion(dense, lexical, 0.3).passages[0] == ("b", "a")
    assert weighted_fusion(dense, lexical, 0.3).passages[1][:1] == ("c",)


def test_the_weight_follows_whoever_is_right_on_dev() -> None:
    good, bad = ranking({"a": 1.0, "b": 0.8, "c": 0.0}), ranking({"b": 1.0, "c": 0.4, "a": 0.0})
    table = judgements([{"a": 1}], {name: n for n, name in enumerate(IDS)}, 1)
    right, mean = best_weight(good, bad, table, "ndcg@10")
    wrong, same = best_weight(bad, good, table, "ndcg@10")
    assert right > 0.8 > 0.2 > wrong
    assert mean == same == 1.0
    assert best_weight(good, good, table, "ndcg@10")[0] == 0.5  # nothing to choose by: the middle


def test_new_scores_reorder_the_first_ranks_alone_and_scores_keep_falling() -> None:
    first = ranking({"a": 9.0, "b": 8.0, "c": 7.0, "d": 6.0, "e": 5.5}, {"f": 2.0, "g": 1.0})
    found = reordered(first, np.array([[0.1, 0.3, 0.1], [-2, -1, 99]], np.float32))
    assert list(found.passages) == [("b", "a", "c", "d", "e"), ("g", "f")]
    assert found.scores[0] == pytest.approx((0.3, 0.1, 0.1, -0.9, -1.4), abs=1e-6)
    assert found.scores[1] == (-1, -2)
