from __future__ import annotations

import numpy as np
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


def test_no_queries() -> None:
    scores, rows = top_k(np.zeros((0, 4), np.float32), np.ones((3, 4), np.float32), 2)
    assert scores.shape == rows.shape == (0, 2)
