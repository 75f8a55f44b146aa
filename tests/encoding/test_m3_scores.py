"""The three scores against slow ones written out text by text, gradients against finite differences."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldtune.encoding.m3 import Signals, joined, multi_scores, scores, sparse_scores
from fieldtune.encoding.m3 import maxsim as maxsim_module


def random_signals(seed: int, counts: list[int], *, words: int = 7, size: int = 3) -> Signals:
    rng = np.random.default_rng(seed)
    total = sum(counts)
    weights = np.maximum(0.0, rng.normal(0.3, 0.5, total))  # some are exactly 0, as after relu

    def unit(rows: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(rows, size))), dim=-1)

    return Signals(
        unit(len(counts)), torch.from_numpy(weights), unit(total),
        torch.from_numpy(rng.integers(0, words, total)), torch.tensor(counts),
    )  # fmt: skip


def texts(signals: Signals) -> list[tuple[list[int], list[float], list[list[float]]]]:
    starts = np.concatenate([[0], np.cumsum(signals.counts.numpy())])
    return [
        (signals.ids[a:b].tolist(), signals.weights[a:b].tolist(), signals.vectors[a:b].tolist())
        for a, b in pairwise(starts)
    ]


def slow_sparse(queries: Signals, passages: Signals) -> list[list[float]]:
    def best(ids: list[int], weights: list[float]) -> dict[int, float]:
        out: dict[int, float] = {}
        for token, weight in zip(ids, weights, strict=True):
            out[token] = max(out.get(token, 0.0), weight)
        return out

    left = [best(ids, weights) for ids, weights, _ in texts(queries)]
    right = [best(ids, weights) for ids, weights, _ in texts(passages)]
    return [[sum(q[token] * p[token] for token in q.keys() & p.keys()) for p in right] for q in left]


def slow_multi(queries: Signals, passages: Signals) -> list[list[float]]:
    def score(q: list[list[float]], p: list[list[float]]) -> float:
        if not q or not p:
            return 0.0
        return math.fsum(max(math.fsum(map(float.__mul__, a, b)) for b in p) for a in q) / len(q)

    return [[score(q, p) for _, _, p in texts(passages)] for _, _, q in texts(queries)]


COUNTS = st.lists(st.integers(0, 5), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(COUNTS, COUNTS, st.integers(0, 1_000))
def test_the_scores_are_those_of_the_definition(left: list[int], right: list[int], seed: int) -> None:
    queries, passages = random_signals(seed, left), random_signals(seed + 1, right)
    found = scores(queries, passages)
    dense = [[float(q @ p) for p in passages.dense] for q in queries.dense]
    np.testing.assert_allclose(found.dense, dense, atol=1e-12)
    np.testing.assert_allclose(found.sparse, slow_sparse(queries, passages), atol=1e-12)
    np.testing.assert_allclose(found.multi, slow_multi(queries, passages), atol=1e-12)
    np.testing.assert_allclose(
        found.ensemble((1.0, 0.3, 2.0)),
        np.array(dense) + 0.3 * found.sparse.numpy() + 2.0 * found.multi.numpy(),
        atol=1e-12,
    )


@pytest.mark.parametrize("cells", [1, 7, 10_000])
def test_gradients_of_token_vectors_are_right_whatever_the_block(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    monkeypatch.setattr(maxsim_module, "_CELLS", cells)
    queries, passages = random_signals(3, [2, 0, 3]), random_signals(4, [4, 1, 0, 2])

    def both(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        with_left = Signals(queries.dense, queries.weights, left, queries.ids, queries.counts)
        with_right = Signals(passages.dense, passages.weights, right, passages.ids, passages.counts)
        return multi_scores(with_left, with_right)

    leaves = queries.vectors.clone().requires_grad_(), passages.vectors.clone().requires_grad_()
    assert torch.autograd.gradcheck(both, leaves)
    np.testing.assert_allclose(both(*leaves).detach(), slow_multi(queries, passages), atol=1e-12)


def test_gradients_of_token_weights_are_right() -> None:
    queries, passages = random_signals(5, [3, 4]), random_signals(6, [5, 2, 6])
    # Away from 0, where relu has a corner and a finite difference would straddle it.
    leaves = [(side.weights + 0.1).requires_grad_() for side in (queries, passages)]

    def both(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return sparse_scores(
            Signals(queries.dense, left, queries.vectors, queries.ids, queries.counts),
            Signals(passages.dense, right, passages.vectors, passages.ids, passages.counts),
        )

    assert torch.autograd.gradcheck(both, tuple(leaves))
    both(*leaves).sum().backward()  # type: ignore[no-untyped-call]
    shared = set(queries.ids.tolist()) & set(passages.ids.tolist())
    outside = [place for place, token in enumerate(passages.ids.tolist()) if token not in shared]
    assert outside
    assert leaves[1].grad is not None
    assert not leaves[1].grad[outside].any()  # a word that no query has gets no gradient


def test_texts_keep_their_tokens_when_they_change_places() -> None:
    whole = random_signals(7, [2, 0, 4, 1])
    order = torch.tensor([2, 3, 1, 0, 2])
    moved = whole.take(order)
    for place, source in enumerate(order.tolist()):
        assert texts(moved)[place] == texts(whole)[source]
        assert torch.equal(moved.dense[place], whole.dense[source])
    both = joined([whole, moved])
    assert texts(both) == [*texts(whole), *texts(moved)]
