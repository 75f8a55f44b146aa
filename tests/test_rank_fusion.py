from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.fusion import add_gains, reciprocal_rank_fusion

RANKED = st.lists(st.integers(0, 9), max_size=6, unique=True)


def ranking(rows: list[int], depth: int = 6) -> np.ndarray:
    return np.array([rows + [-1] * (depth - len(rows))], np.int64)


def test_fusing_prefers_what_several_rank_and_breaks_ties_by_row() -> None:
    one, other = np.array([[5, 3, 7]]), np.array([[3, 9, -1]])
    assert reciprocal_rank_fusion([one, other], 4)[0].tolist() == [[3, 5, 9, 7]]
    rows, sums = reciprocal_rank_fusion([one, other], 6)
    assert rows.tolist() == [[3, 5, 9, 7, -1, -1]] and sums[0, 4:].tolist() == [0, 0]
    assert reciprocal_rank_fusion([np.array([[8, 2]]), np.array([[2, 8]])], 2)[0].tolist() == [[2, 8]]


@given(st.lists(RANKED, min_size=1, max_size=4))
def test_each_passage_gets_what_its_ranks_are_worth(rankings: list[list[int]]) -> None:
    rows, sums = reciprocal_rank_fusion([ranking(rows) for rows in rankings], 12)
    worth = {
        row: sum(1 / (61 + ranked.index(row)) for ranked in rankings if row in ranked)
        for row in sorted({row for ranked in rankings for row in ranked})
    }
    best = sorted(worth, key=lambda row: (-round(worth[row], 12), row))
    assert rows[0].tolist() == best + [-1] * (12 - len(best))
    np.testing.assert_allclose(sums[0, : len(best)], [worth[row] for row in best])


def test_gains_of_any_kind_add_up() -> None:
    rows, sums = add_gains(
        [np.array([[4, 1]]), np.array([[1, 0]])], [np.array([[1.0, 0.2]]), np.array([[0.9, 0.3]])], 2
    )
    assert rows.tolist() == [[1, 4]] and sums.tolist() == [[1.1, 1.0]]
