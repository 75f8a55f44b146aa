from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.encoding import search, top_k
from fieldtune.errors import ModelError


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


def plainly(left: np.ndarray, right: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    full = np.round(np.einsum("qd,pd->qp", left.astype(np.float64), right.astype(np.float64)), 6)
    rows = np.argsort(-full, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(full, rows, axis=1), rows


@given(
    distinct=st.integers(1, 30),
    passages=st.integers(1, 900),
    k=st.integers(1, 40),
    apart=st.sampled_from([0.0, 1e-7, 1e-6, 3e-6, 1e-2]),
    block=st.integers(20, 400),
    seed=st.integers(0, 10_000),
)
def test_of_many_equal_and_nearly_equal_passages_the_best_are_found(
    distinct: int, passages: int, k: int, apart: float, block: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    kinds = rng.standard_normal((distinct, 32))
    right = kinds[rng.integers(0, distinct, passages)] + apart * rng.standard_normal((passages, 32))
    right = (right / np.linalg.norm(right, axis=1, keepdims=True)).astype(np.float32)
    left = rng.standard_normal((9, 32))
    left = (left / np.linalg.norm(left, axis=1, keepdims=True)).astype(np.float32)
    scores, rows = top_k(left, right, k, query_block=5, passage_block=block)
    expected_scores, expected = plainly(left, right, k)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(scores, expected_scores.astype(np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("block", [7, 100])
def test_a_damaged_vector_is_named(bad: float, block: int) -> None:
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((count, 8)).astype(np.float32) for count in (9, 40))
    for vectors, row, named in ((left, 8, "query number 9 "), (right, 31, "passage number 32 ")):
        kept = vectors[row, 3]
        vectors[row, 3] = bad
        with np.errstate(invalid="ignore"), pytest.raises(ModelError, match=named):
            top_k(left, right, 3, query_block=block, passage_block=block)
        with np.errstate(invalid="ignore"), pytest.raises(ModelError, match=named):
            search.pairs_above(left, right, 0.5, same=False, most=1_000, block=block)
        vectors[row, 3] = kept
    huge = np.full((40, 8), 2e19, np.float32)  # whose products alone are beyond float32
    with np.errstate(over="ignore"):
        assert top_k(huge[:1], huge, 3)[1].tolist() == [[0, 1, 2]]


class Watched:
    """Passages that remember how many numbers were taken at once."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors, self.most = vectors, 0

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: object) -> np.ndarray:
        found: np.ndarray = self.vectors[rows]
        self.most = max(self.most, found.size)
        return found


def test_no_more_than_a_block_is_gathered_where_all_passages_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_CELLS", 20_000)
    passages = Watched(np.tile(np.float32([[0.6, 0.8]]), (60_000, 1)))
    left = np.float32([[0.6, 0.8], [0.8, 0.6], [-1, 0]])
    tracemalloc.start()
    try:
        _, rows = top_k(left, passages, 40, passage_block=1_000)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(rows, np.broadcast_to(np.arange(40), (3, 40)))
    assert passages.most <= 2 * 1_000
    assert most < 60_000 * 8  # not even a row number of all that tie
    monkeypatch.setattr(search, "_CELLS", 100)
    np.testing.assert_array_equal(top_k(left, passages, 90)[1], np.broadcast_to(np.arange(90), (3, 90)))
    assert search._again(left, passages, rows).tolist() == [[1.0] * 40, [0.96] * 40, [-0.6] * 40]


def test_long_vectors_whose_scores_are_noise_find_as_many_as_were_asked_for() -> None:
    rng = np.random.default_rng(0)
    base = np.linalg.qr(rng.standard_normal((64, 32)))[0].T
    right = (1e4 * base[rng.integers(0, 2, 2_000)]).astype(np.float32)
    left = rng.standard_normal((30, 64))
    left = (1e4 * (left - left @ base.T @ base)).astype(np.float32)
    rows = top_k(left, right, 12, query_block=7, passage_block=333)[1]
    assert all(len(set(found)) == 12 for found in rows.tolist())


def test_no_queries() -> None:
    scores, rows = top_k(np.zeros((0, 4), np.float32), np.ones((3, 4), np.float32), 2)
    assert scores.shape == rows.shape == (0, 2)
