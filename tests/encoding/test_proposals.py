from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fieldtune.encoding import proposals, top_k
from fieldtune.encoding.proposals import nearest
from fieldtune.errors import ModelError


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


@pytest.mark.parametrize("row", [8_500, 8_501])  # in the sample that bytes are fitted to, and not
def test_a_damaged_vector_is_named(row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "_multiplies_bytes", lambda: True)
    passages, queries = drawn(9_001, 1), drawn(20, 2)
    search = nearest(passages, 5)
    queries[7, 3] = np.nan
    with pytest.raises(ModelError, match="query number 8 "):
        search(queries)
    passages[row, 5] = np.nan
    with pytest.raises(ModelError, match=f"passage number {row + 1:,} "):
        nearest(passages, 5)(drawn(20, 2))


def test_small_corpora_are_searched_exactly() -> None:
    passages, queries = drawn(300, 1), drawn(10, 2)
    for ours, exact in zip(nearest(passages, 5)(queries), top_k(queries, passages, 5), strict=True):
        assert np.array_equal(ours, exact)


@pytest.mark.parametrize("part", [65_536, 8_192])
@pytest.mark.parametrize("distinct", [1, 40])
def test_of_equal_passages_the_first_are_found_and_no_more_are_looked_at(
    monkeypatch: pytest.MonkeyPatch, part: int, distinct: int
) -> None:
    monkeypatch.setattr(proposals, "_multiplies_bytes", lambda: True)
    monkeypatch.setattr(proposals, "_PART", part)
    k, queries = 20, drawn(300, 2)
    passages = np.tile(drawn(distinct, 1), (20_000 // distinct, 1))
    looked: list[int] = []
    rescored: list[tuple[int, ...]] = []
    reaching, again = proposals._reaching, proposals._rescored

    def counted(scores: torch.Tensor, reached: torch.Tensor, *rest: object) -> tuple[torch.Tensor, torch.Tensor]:
        looked.append(len(reached) * proposals._GROUP)
        values, rows = reaching(scores, reached, *rest)  # type: ignore[arg-type]
        assert values.shape == rows.shape and rows.shape[1] <= k + 16
        return values, rows

    def gathered(asked: np.ndarray, all_of: np.ndarray, rows: np.ndarray, piece: slice) -> np.ndarray:
        rescored.append((*rows[piece].shape, asked.shape[1]))
        return again(asked, all_of, rows, piece)

    monkeypatch.setattr(proposals, "_reaching", counted)
    monkeypatch.setattr(proposals, "_rescored", gathered)
    scores, rows = nearest(passages, k)(queries)
    exact_scores, exact_rows = top_k(queries, passages, k)
    # Of two kinds of passages that bytes cannot tell apart the wrong one may be taken, but then its first ones.
    assert (rows == exact_rows).all(axis=1).mean() > (0.95 if distinct > 1 else 0.999)
    np.testing.assert_allclose(scores, exact_scores, atol=1e-2)
    assert (rows == rows[:, :1] + distinct * np.arange(k)).all() and (rows[:, 0] < distinct).all()
    assert max(looked) <= proposals._LOOKED_UP
    assert max(width for _, width, _ in rescored) == k + 16
    assert sum(count for count, _, _ in rescored) == 300


def test_vectors_are_brought_together_for_few_queries_where_each_has_many_candidates() -> None:
    rows = np.zeros((100, 2_000), np.int64)
    pieces = proposals._pieces(np.zeros((100, 500), np.float32), rows)
    assert [piece.stop - piece.start for piece in pieces] == [4] * 25
    assert proposals._pieces(np.zeros((1, 5_000), np.float32), rows[:1]) == [slice(0, 1)]
    assert len(proposals._pieces(np.zeros((100, 48), np.float32), rows[:, :40])) == 2
