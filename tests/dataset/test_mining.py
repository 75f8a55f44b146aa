from __future__ import annotations

import numpy as np
import pytest

from fieldtune.config import Negatives
from fieldtune.dataset.candidates import candidates_from
from fieldtune.dataset.known import Known
from fieldtune.dataset.mining import Mined, mine
from fieldtune.dataset.walk import CLOSE, ENOUGH, FIRST, HELD, JUDGED, KNOWN, NEAR, SAME
from fieldtune.errors import InputError


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


def known(texts: list[str], positives: list[list[int]], **others: object) -> Known:
    count = len(positives)
    given = {
        "query_ids": [f"q{n}" for n in range(count)],
        "queries": [f"query {n}" for n in range(count)],
        "styles": ["human"] * count,
        "passage_ids": [f"p{n}" for n in range(len(texts))],
        "texts": texts,
        "groups": [""] * len(texts),
        "positives": positives,
        "irrelevant": [[]] * count,
        "partly": [[]] * count,
        "twins": {},
        "held": frozenset(),
    }
    return Known(**(given | others))  # type: ignore[arg-type]


def mine_all(
    what: Known, queries: np.ndarray, passages: np.ndarray, config: Negatives, block: int = 1_024, spare: int = 0
) -> Mined:
    ranked = candidates_from(config.candidates, what.queries, what.texts, queries, passages, config.depth)
    return mine(what, ranked, queries, passages, config, block=block, spare=spare)


def mined(
    held: frozenset[int] = frozenset({3}), labelled: tuple[int, ...] = (), spare: int = 0, **settings: object
) -> Mined:
    config = Negatives(**({"per_query": 2, "depth": 8} | settings))  # type: ignore[arg-type]
    what = known(TEXTS, [[0, 7]], irrelevant=[list(labelled)], held=held)
    return mine_all(what, unit([0]), PASSAGES, config, spare=spare)


def test_the_hardest_wrong_passages_are_taken_and_every_skip_has_a_reason() -> None:
    found = mined()
    assert found.negatives == [[4, 5]]
    assert found.skipped == {KNOWN: 1, NEAR: 1, CLOSE: 1, HELD: 1}
    assert found.alike == [[1]]
    np.testing.assert_allclose(found.scores[0], np.cos(np.radians([40, 50])), atol=1e-4)
    np.testing.assert_allclose(found.positive_scores[0], np.cos(np.radians([20, 70])), atol=1e-4)


def test_at_one_only_the_very_same_text_is_a_near_duplicate() -> None:
    assert 1 in mined(max_share_of_positive=2, near_duplicate=1).negatives[0]
    texts = [*TEXTS[:1], TEXTS[0], *TEXTS[2:]]
    what = known(texts, [[0, 7]])
    found = mine_all(
        what, unit([0]), PASSAGES, Negatives(per_query=8, depth=8, max_share_of_positive=2, near_duplicate=1)
    )
    assert 1 not in found.negatives[0] and found.skipped[NEAR] == 1 and found.alike == [[1]]


def test_the_text_of_a_positive_is_never_its_negative_though_it_has_no_words() -> None:
    what = known(["—", "—", "another"], [[0]])
    found = mine_all(what, unit([0]), unit([20, 40, 60]), Negatives(per_query=3, depth=3))
    assert found.negatives == [[2]] and found.alike == [[1]] and found.skipped == {KNOWN: 1, NEAR: 1}


@pytest.mark.parametrize("positives", [[[]], [[0], []]])
def test_a_query_without_a_positive_is_named(positives: list[list[int]]) -> None:
    what = known(TEXTS, positives)
    with pytest.raises(InputError, match=f"first is 'q{len(positives) - 1}'"):
        mine_all(what, unit([0] * len(positives)), PASSAGES, Negatives(per_query=2, depth=8))


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
        return mine_all(known(texts, [[n] for n in range(20)]), lift(queries), lift(own), config)

    plain, lifted = negatives(0.0), negatives(4.0)
    assert min(map(min, lifted.scores)) > 0.9
    assert lifted.negatives == plain.negatives
    assert lifted.skipped == plain.skipped


def test_a_positive_of_dev_or_test_is_never_a_negative() -> None:
    assert mined(held=frozenset()).negatives == [[3, 4]]
    assert 3 not in mined(per_query=8).negatives[0]


def test_a_passage_judged_half_right_is_never_a_negative() -> None:
    what = known(TEXTS, [[0]], partly=[[4]], held=frozenset({3}))
    found = mine_all(what, unit([0]), PASSAGES, Negatives(per_query=2))
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


def test_candidates_ranked_deeper_for_a_teacher_are_mined_no_deeper() -> None:
    what, config = known(TEXTS, [[0, 7]]), Negatives(per_query=8, depth=5)
    deeper = candidates_from("model", what.queries, what.texts, unit([0]), PASSAGES, 8)
    found = mine(what, deeper, unit([0]), PASSAGES, config)
    assert found == mine_all(what, unit([0]), PASSAGES, config)
    assert len(found.negatives[0]) + sum(found.skipped.values()) == 5


def test_known_copies_of_a_positive_are_skipped_too() -> None:
    what = known(TEXTS, [[0]], twins={0: frozenset({4})})
    found = mine_all(what, unit([0]), PASSAGES, Negatives(per_query=1, depth=8))
    assert found.negatives == [[3]]
    assert set(found.alike[0]) == {1, 4}


def test_blocks_of_queries_give_what_one_block_gives() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    texts = [f"text {number} about {number * 7}" for number in range(40)]
    positives = [[number] for number in range(20)]
    for source in ("model", "bm25", "fused"):
        arguments = (known(texts, positives), rows[40:], rows[:40], Negatives(candidates=source))
        assert mine_all(*arguments, block=3) == mine_all(*arguments, block=1000)


def test_labelled_negatives_do_not_come_twice_and_are_counted() -> None:
    found = mined(labelled=(5,))
    assert found.negatives == [[5, 4]]
    assert found.labelled == [1]


def test_what_scores_too_near_is_named_for_a_second_look_and_spare_ones_come_on_top() -> None:
    found = mined(spare=1)
    assert found.close == [[2]]
    assert found.negatives == [[4, 5, 6]]


def test_passages_of_a_positives_own_document_stay_out_if_asked() -> None:
    groups = ["lease", "lease", "x", "x", "lease", "", "", "other"]
    what = known(TEXTS, [[0, 7]], groups=groups, held=frozenset({3}))
    found = mine_all(what, unit([0]), PASSAGES, Negatives(per_query=2, same_document=False))
    assert found.negatives == [[5, 6]]  # an unknown document is nobody's own
    assert found.skipped[SAME] == 1
    assert mine_all(what, unit([0]), PASSAGES, Negatives(per_query=2)).negatives == [[4, 5]]


def test_a_style_may_get_fewer_negatives() -> None:
    what = known(TEXTS, [[0], [0], [0]], styles=["keywords", "human", "vague"])
    limits = {"keywords": 1, "vague": 0, "human": 9}
    found = mine_all(what, unit([0, 0, 0]), PASSAGES, Negatives(per_query=2, style_limits=limits))
    assert [len(rows) for rows in found.negatives] == [1, 2, 0]


def test_of_several_positives_the_best_one_sets_the_limit() -> None:
    # Rows 4 and 5 lie between the positives: nearer than the one at 70 degrees, farther than the one at 20.
    assert mined(per_query=2).negatives == [[4, 5]]
    alone = mine_all(known(TEXTS, [[7]], held=frozenset({3})), unit([0]), PASSAGES, Negatives(per_query=8))
    assert not {0, 2, 4, 5} & set(alone.negatives[0])


def test_candidates_of_bm25_share_words_and_of_the_model_meaning() -> None:
    texts = ["notice of a lease", "notice boards", "cats", "dogs"]
    what = known(texts, [[0]], queries=["notice"])
    vectors = unit([10, 80, 30, 40])
    by = {
        source: mine_all(what, unit([0]), vectors, Negatives(candidates=source, per_query=3, depth=3)).negatives[0]
        for source in ("model", "bm25", "fused")
    }
    assert by["bm25"] == [1]
    assert by["model"] == [2, 3]
    assert set(by["fused"]) == {1, 2}
