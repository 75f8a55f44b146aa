from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fieldtune.encoding import proposals, top_k
from fieldtune.encoding.proposals import nearest


def drawn(count: int, seed: int, spread: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(40, 48))
    found = (centres[rng.integers(0, 40, count)] + spread * rng.normal(size=(count, 48))).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize(("count", "k"), [(9_001, 20), (12_345, 7), (140_000, 10)])
def test_what_is_proposed_is_what_exact_search_finds(
    count: int, k: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "_multiplies_bytes", lambda: True)
    passages, queries = drawn(count, 1), drawn(150, 2)
    np.save(tmp_path / "p.npy", passages)
    scores, rows = nearest(np.load(tmp_path / "p.npy", mmap_mode="r"), k)(queries)
    exact_scores, exact_rows = top_k(queries, passages, k)
    assert (rows == exact_rows).mean() > 0.999
    np.testing.assert_allclose(scores, exact_scores, atol=1e-3)


def test_scores_are_exact_whatever_proposed_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "_multiplies_bytes", lambda: True)
    passages, queries = drawn(9_000, 1), drawn(20, 2)
    scores, rows = nearest(passages, 5)(queries)
    for query in range(20):
        exact = passages[rows[query]].astype(np.float64) @ queries[query].astype(np.float64)
        np.testing.assert_allclose(scores[query], exact, atol=1e-6)


def test_the_number_of_threads_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "_multiplies_bytes", lambda: True)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        nearest(drawn(9_000, 1), 5)(drawn(20, 2))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_small_corpora_are_searched_exactly() -> None:
    passages, queries = drawn(300, 1), drawn(10, 2)
    for ours, exact in zip(nearest(passages, 5)(queries), top_k(queries, passages, 5), strict=True):
        assert np.array_equal(ours, exact)
