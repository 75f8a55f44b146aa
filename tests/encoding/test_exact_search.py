from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.encoding import top_k


@given(st.integers(1, 12), st.integers(1, 60), st.integers(1, 70), st.integers(1, 20), st.integers(0, 10_000))
def test_blocks_find_what_a_full_sort_finds(queries: int, passages: int, k: int, block: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Few distinct values, so that equal scores are common and the rule for ties is tested.
    left = rng.integers(-2, 3, (queries, 3)).astype(np.float32)
    right = rng.integers(-2, 3, (passages, 3)).astype(np.float32)
    scores, rows = top_k(left, right, k, query_block=5, passage_block=block)
    full = left @ right.T
    expected = np.argsort(-full, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(scores, np.take_along_axis(full, expected, axis=1))


@pytest.mark.parametrize("passages", [37, 1003, 20_011])
@pytest.mark.parametrize("copies", [5, 60])
def test_equal_vectors_tie_wherever_they_stand(passages: int, copies: int) -> None:
    rng = np.random.default_rng(passages)
    right = rng.standard_normal((passages, 96)).astype(np.float32)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    places = np.sort(rng.choice(passages, min(copies, passages - 5), replace=False))
    right[places] = right[places[0]]
    left = (0.05 * rng.standard_normal((40, 96)) + right[places[0]]).astype(np.float32)
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    _, rows = top_k(left, right, 10)
    first = min(10, len(places))
    np.testing.assert_array_equal(rows[:, :first], np.broadcast_to(places[:first], (40, first)))
    _, other = top_k(left, right, 10, query_block=7, passage_block=333)
    np.testing.assert_array_equal(rows, other)


def test_no_queries() -> None:
    scores, rows = top_k(np.zeros((0, 4), np.float32), np.ones((3, 4), np.float32), 2)
    assert scores.shape == rows.shape == (0, 2)
