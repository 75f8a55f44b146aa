from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fieldtune.beir import RetrievalData
from fieldtune.errors import InputError
from fieldtune.evaluation import asked, bm25_ranking, dense_ranking
from fieldtune.types import Passage, Query


def small(evaluation: str = "full-corpus") -> RetrievalData:
    passages = {name: Passage(name, "", f"{name}{name} alpha") for name in ("c", "a", "b", "d")}
    queries = {name: Query(name, "alpha dd") for name in ("q1", "q2")}
    qrels = {"test": {"q1": {"d": 2, "a": 1, "c": 0}, "q2": {"b": 1}}}
    return RetrievalData(passages, queries, qrels, 2, "judged-only" if evaluation == "judged-only" else "full-corpus")


def test_only_queries_with_a_relevant_passage_are_asked() -> None:
    assert asked(small(), "test") == ("q1",)
    assert asked(replace(small(), relevance_threshold=1), "test") == ("q1", "q2")


def test_a_split_without_answers_is_refused() -> None:
    with pytest.raises(InputError, match="no dev qrels"):
        asked(small(), "dev")
    with pytest.raises(InputError, match="no query of the test split") as caught:
        asked(replace(small(), relevance_threshold=9), "test")
    assert "grade 9" in caught.value.hint


def test_dense_ranking_is_by_inner_product_and_ties_keep_corpus_order() -> None:
    passages = np.array([[0, 1], [1, 0], [0, 1], [0.6, 0.8]], np.float32)
    ranking = dense_ranking(small(), "test", np.array([[0, 1]], np.float32), passages)
    assert tuple(ranking.passages) == (("c", "b", "d", "a"),)
    assert ranking.scores[0] == pytest.approx((1, 1, 0.8, 0))
    assert tuple(dense_ranking(small(), "test", np.array([[0, 1]], np.float32), passages, 2).passages) == (("c", "b"),)


def test_judged_only_ranks_the_judged_passages_alone() -> None:
    data = small("judged-only")
    passages = np.array([[0, 1], [1, 0], [0, 1], [0.6, 0.8]], np.float32)
    assert tuple(dense_ranking(data, "test", np.array([[0, 1]], np.float32), passages).passages) == (("c", "d", "a"),)
    assert tuple(bm25_ranking(data, "test").passages) == (("d", "c", "a"),)


def test_bm25_leaves_out_passages_without_a_shared_word() -> None:
    data = small()
    data.queries["q1"] = Query("q1", "dd")
    assert tuple(bm25_ranking(data, "test").passages) == (("d",),)
    assert tuple(bm25_ranking(replace(data, evaluation="judged-only"), "test").passages) == (("d",),)


def test_vectors_of_another_corpus_are_refused() -> None:
    with pytest.raises(ValueError, match="1 query and 3 passage vectors"):
        dense_ranking(small(), "test", np.ones((1, 2), np.float32), np.ones((3, 2), np.float32))
