from __future__ import annotations

import numpy as np
import pytest

from fieldtune.config import Negatives
from fieldtune.dataset.mining import CLOSE, ENOUGH, FIRST, HELD, JUDGED, KNOWN, NEAR, Mined, mine


def unit(degrees: list[float]) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


# One query at 0 degrees; the passages in order of distance.
TEXTS = [
    "the right answer about the notice period of a lease",  # 0: positive
    "the right answer about the notice period of a lease indeed",  # 1: near-duplicate of it
    "unlabelled but surely an answer",  # 2: scores above 95% of the positive
    "answer to another query that is held back for testing",  # 3
    "a rule on deposits",  # 4
    "a rule on rent",  # 5
    "a rule on pets",  # 6
    "another positive of the same query",  # 7
]
PASSAGES = unit([20, 21, 5, 30, 40, 50, 60, 70])


def mined(held: frozenset[int] = frozenset({3}), labelled: tuple[int, ...] = (), **settings: object) -> Mined:
    config = Negatives(**({"per_query": 2, "depth": 8} | settings))  # type: ignore[arg-type]
    return mine(unit([0]), PASSAGES, [[0, 7]], [list(labelled)], TEXTS, {}, held, config)


def test_the_hardest_wrong_passages_are_taken_and_every_skip_has_a_reason() -> None:
    found = mined()
    assert found.negatives == [[4, 5]]
    assert found.skipped == {KNOWN: 1, NEAR: 1, CLOSE: 1, HELD: 1}
    assert found.alike == [[1]]
    np.testing.assert_allclose(found.scores[0], np.cos(np.radians([40, 50])), atol=1e-4)
    np.testing.assert_allclose(found.positive_scores[0], np.cos(np.radians([20, 70])), atol=1e-4)


def test_without_the_limit_the_unlabelled_answer_comes_in() -> None:
    assert mined(max_share_of_positive=2.0).negatives == [[2, 4]]


def test_scores_are_counted_from_those_of_unrelated_texts() -> None:
    # The same texts under a model that gives all of them a large part in common, as E5 does: every cosine lies above
    # 0.9, so that 95% of the positive's bare score would rule out all candidates.
    rng = np.random.default_rng(0)
    own = rng.normal(size=(60, 24))
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    queries = own[:20] + 0.8 * rng.normal(size=(20, 24)) / np.sqrt(24)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    texts = [f"passage number {n} about subject {n * 3}" for n in range(60)]

    def negatives(common: float) -> Mined:
        def lift(rows: np.ndarray) -> np.ndarray:
            shared = np.full((len(rows), 1), common)
            return (np.hstack([rows, shared]) / np.sqrt(1 + common**2)).astype(np.float32)

        config = Negatives(per_query=3, depth=60)
        return mine(lift(queries), lift(own), [[n] for n in range(20)], [[]] * 20, texts, {}, frozenset(), config)

    plain, lifted = negatives(0.0), negatives(4.0)
    assert min(map(min, lifted.scores)) > 0.9
    assert lifted.negatives == plain.negatives
    assert lifted.skipped == plain.skipped


def test_a_positive_of_dev_or_test_is_never_a_negative() -> None:
    assert mined(held=frozenset()).negatives == [[3, 4]]
    assert 3 not in mined(per_query=8).negatives[0]


def test_a_passage_judged_half_right_is_never_a_negative() -> None:
    found = mine(unit([0]), PASSAGES, [[0]], [[]], TEXTS, {}, frozenset({3}), Negatives(per_query=2), [[4]])
    assert found.negatives == [[5, 6]]
    assert found.skipped[JUDGED] == 1


def test_labelled_negatives_lead() -> None:
    assert mined(labelled=(6,)).negatives == [[6, 4]]
    found = mined(labelled=(6, 3, 5, 4))
    assert found.negatives == [[4, 5]]  # the hardest of them, never one that is held back
    assert found.skipped[ENOUGH] == 1
    assert found.skipped[HELD] == 1


def test_the_first_wrong_ones_are_left_out_if_asked() -> None:
    found = mined(skip_first=1)
    assert found.negatives == [[4, 5]]
    assert found.skipped[FIRST] == 1
    assert CLOSE not in found.skipped


@pytest.mark.parametrize("depth", [1, 3])
def test_depth_bounds_the_search(depth: int) -> None:
    assert mined(depth=depth).negatives == [[]]


def test_known_copies_of_a_positive_are_skipped_too() -> None:
    found = mine(
        unit([0]), PASSAGES, [[0]], [[]], TEXTS, {0: frozenset({4})}, frozenset(), Negatives(per_query=1, depth=8)
    )
    assert found.negatives == [[3]]
    assert set(found.alike[0]) == {1, 4}


def test_blocks_of_queries_give_what_one_block_gives() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    texts = [f"text {number} about {number * 7}" for number in range(40)]
    positives = [[number] for number in range(20)]
    arguments = (rows[40:], rows[:40], positives, [[] for _ in positives], texts, {}, frozenset[int](), Negatives())
    assert mine(*arguments, block=3) == mine(*arguments, block=1000)
