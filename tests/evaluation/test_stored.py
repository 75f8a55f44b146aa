from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.encoding import top_k
from fieldtune.evaluation.stored import Floats32, rescored, shortened, stored


def unit(count: int, size: int, seed: int) -> Floats32:
    found = np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_shortened_vectors_have_unit_length_and_the_first_directions() -> None:
    full = unit(20, 16, 1)
    cut = shortened(full, 6)
    np.testing.assert_allclose(np.linalg.norm(cut, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(cut / cut[:, :1], full[:, :6] / full[:, :1], rtol=1e-4)
    assert shortened(full, 16) is full
    assert not np.isnan(shortened(np.array([[0, 0, 1]], np.float32), 2)).any()


@pytest.mark.parametrize(("precision", "size"), [("float32", 4 * 12), ("int8", 12), ("binary", 2)])
def test_bytes_per_vector(precision: str, size: int) -> None:
    assert stored(unit(3, 24, 1), 12, precision).bytes_per_vector == size  # type: ignore[arg-type]


def test_int8_keeps_each_value_to_half_a_step_and_clips_queries_outside_the_range() -> None:
    full = unit(500, 8, 2)
    passages = stored(full, 8, "int8")
    step = (full.max(axis=0) - full.min(axis=0)) / 255
    assert (np.abs(passages[:] - full) <= step / 2 + 1e-6).all()
    assert len(np.unique(passages[:][:, 0])) <= 256
    np.testing.assert_allclose(passages.decoded(np.full((1, 8), 9, np.float32))[0], full.max(axis=0), atol=1e-6)


def test_int8_of_a_dimension_that_never_varies() -> None:
    full = np.tile(np.array([[0.6, 0.8]], np.float32), (4, 1))
    np.testing.assert_allclose(stored(full, 2, "int8")[:], full, atol=1e-6)


@given(st.integers(1, 40), st.integers(2, 30), st.integers(0, 1_000))
def test_binary_search_is_by_hamming_distance(count: int, size: int, seed: int) -> None:
    passages, queries = unit(count, size, seed), unit(3, size, seed + 1)
    compact = stored(passages, size, "binary")
    _, rows = top_k(compact.decoded(queries), compact, count, passage_block=7)
    distance = (np.packbits(queries > 0, axis=1)[:, None] ^ np.packbits(passages > 0, axis=1)[None]).astype(np.uint8)
    bits = np.bitwise_count(distance).sum(axis=2)
    np.testing.assert_array_equal(rows, np.argsort(bits, axis=1, kind="stable"))


def test_rescoring_takes_the_query_in_full_precision() -> None:
    passages, queries = unit(30, 16, 3), unit(5, 16, 4)
    rows = np.tile(np.arange(10), (5, 1))
    rows[0, 9] = -1
    signs = np.where(passages[:, :8] > 0, 1, -1)
    found = rescored(queries, stored(passages, 8, "binary"), rows, block=2)
    np.testing.assert_allclose(found[:, :9], (shortened(queries, 8) @ signs.T)[:, :9], atol=1e-5)
