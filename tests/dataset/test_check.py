from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from fieldtune.config import Negatives
from fieldtune.dataset.check import ABOVE, Checked, check_negatives
from fieldtune.dataset.known import Known
from fieldtune.dataset.mining import Mined

TEXTS = ["answer", "second answer", "labelled wrong", "wrong", "unlabelled answer", "too near", "easy"]
POSITIVE, SECOND, LABELLED, WRONG, HIDDEN, NEAR, EASY = range(7)


def checked(scores: dict[str, float], **settings: object) -> Checked:
    known = Known(
        query_ids=["q"], queries=["question"], styles=["human"], passage_ids=[f"p{n}" for n in range(7)], texts=TEXTS,
        groups=[""] * 7, positives=[[POSITIVE, SECOND]], irrelevant=[[LABELLED]], partly=[[]], twins={},
        held=frozenset(),
    )  # fmt: skip
    mined = Mined(
        negatives=[[LABELLED, HIDDEN, WRONG, EASY]],
        scores=[[0.5, 0.4, 0.3, 0.2]],
        positive_scores=[[0.9, 0.6]],
        labelled=[1],
        alike=[[]],
        close=[[NEAR]],
    )
    asked: list[str] = []

    def score(pairs: Sequence[tuple[str, str]]) -> list[float]:
        asked.extend(text for _, text in pairs)
        return [scores.get(text, 0.1) for _, text in pairs]

    found = check_negatives(known, mined, Negatives(**({"per_query": 3} | settings)), score)  # type: ignore[arg-type]
    assert TEXTS[LABELLED] not in asked  # people's word
    return found


LABELS = {"answer": 0.95, "second answer": 0.6, "labelled wrong": 0.99}


def test_what_scores_above_a_positive_is_dropped_and_what_is_surely_an_answer_becomes_one() -> None:
    found = checked(LABELS | {"unlabelled answer": 0.93, "wrong": 0.7, "too near": 0.95})
    assert found.mined.negatives == [[LABELLED, EASY]]
    assert found.mined.scores == [[0.5, 0.2]]
    assert found.confirmed == [[HIDDEN, NEAR]]
    assert found.mined.alike == [[WRONG]]  # neither for nor against the query
    assert found.dropped == 2
    assert found.mined.skipped[ABOVE] == 2
    assert [row["text"] for row in found.examples] == ["unlabelled answer", "too near"]


def test_the_margin_moves_the_border() -> None:
    scores = LABELS | {"unlabelled answer": 0.93, "wrong": 0.7}
    assert checked(scores, check_margin=0.2).mined.negatives == [[LABELLED, WRONG, EASY]]
    assert checked(scores, check_margin=-0.55).mined.negatives == [[LABELLED]]


def test_above_one_nothing_is_confirmed() -> None:
    found = checked(LABELS | {"unlabelled answer": 1.0}, check_confirm=1.1)
    assert found.confirmed == [[]]
    assert HIDDEN not in found.mined.negatives[0]


def test_more_than_wanted_were_mined_and_the_rest_is_cut() -> None:
    assert checked(LABELS, per_query=2).mined.negatives == [[LABELLED, HIDDEN]]


@pytest.mark.parametrize("silent", [{"wrong": math.nan}, {"answer": math.nan, "second answer": math.nan}])
def test_where_there_is_no_answer_all_stays(silent: dict[str, float]) -> None:
    found = checked(LABELS | silent)
    assert found.mined.negatives == [[LABELLED, HIDDEN, WRONG]]
    assert found.unanswered == ("wrong" in silent)
