from __future__ import annotations

import json
from pathlib import Path

import pytest

from fieldtune.beir import RetrievalData
from fieldtune.config import make_config
from fieldtune.dataset.stage import divide
from fieldtune.errors import InputError
from fieldtune.queries import gather_queries
from fieldtune.queries.held_out import with_test
from fieldtune.queries.made import Made
from fieldtune.types import Passage, Qrels, Query
from fieldtune.workspace import read_json


def made(texts: dict[str, str], qrels: dict[str, Qrels], **other: object) -> Made:
    return Made("structure", {key: Query(key, text) for key, text in texts.items()}, qrels, **other)  # type: ignore[arg-type]


def test_made_queries_become_train_and_the_questions_become_test() -> None:
    ours = made({"a": "one", "b": "two"}, {"all": {"a": {"p": 1}, "b": {"q": 1}}}, counts={"style crop": 2})
    theirs = made({"t": "asked"}, {"train": {"t": {"p": 1}}}, dropped={"broken row": 3})
    both = with_test(ours, theirs)
    assert both.qrels == {"train": {"a": {"p": 1}, "b": {"q": 1}}, "test": {"t": {"p": 1}}}
    assert set(both.queries) == {"a", "b", "t"}
    assert both.counts == {"style crop": 2, "test": 1}
    assert both.dropped == {"queries.test: broken row": 3}
    assert both.made_by == "structure"


def test_a_test_side_of_the_training_labels_gives_way_and_is_counted() -> None:
    ours = made(
        {"a": "one", "d": "two", "x": "three"},
        {"train": {"a": {"p": 1}}, "dev": {"d": {"q": 1}}, "test": {"x": {"p": 1}}},
    )
    both = with_test(ours, made({"t": "asked"}, {"all": {"t": {"q": 1}}}))
    assert {side: set(rows) for side, rows in both.qrels.items()} == {"train": {"a"}, "dev": {"d"}, "test": {"t"}}
    assert "x" not in both.queries
    assert both.dropped == {"test query that queries.test takes the place of": 1}


def test_one_query_in_both_is_kept_in_test_alone_and_one_id_for_two_texts_is_refused() -> None:
    ours = made({"a": "one", "b": "two"}, {"all": {"a": {"p": 1}, "b": {"q": 1}}})
    both = with_test(ours, made({"a": "one"}, {"all": {"a": {"p": 1}}}))
    assert both.qrels == {"train": {"b": {"q": 1}}, "test": {"a": {"p": 1}}}
    assert both.dropped == {"query that queries.test asks too": 1}
    with pytest.raises(InputError, match="'a' belongs to two texts"):
        with_test(ours, made({"a": "other"}, {"all": {"a": {"p": 1}}}))
    with pytest.raises(InputError, match="same grades"):
        with_test(ours, made({"t": "x"}, {"all": {"t": {"p": 2}}}, relevance_threshold=2))


def words(start: int, count: int = 30) -> str:
    return " ".join(f"word{number}" for number in range(start, start + count))


def test_training_queries_that_know_a_test_passage_or_question_are_left_out_and_counted() -> None:
    passages = {f"p{i}": Passage(f"p{i}", "", words(100 * i), group=f"g{i % 10}") for i in range(40)}
    passages["copy"] = Passage("copy", "", words(0, 29) + " other", group="g11")  # nearly p0
    texts = {f"q{i}": f"query number{i} about topic{i} and more{i}" for i in range(40)}
    texts |= {"t0": "what people ask first", "t1": "what people ask next of all things that there may be"}
    texts |= {"same-passage": "quite another wording", "near-passage": "asks for the copy"}
    texts |= {"same-words": "what people ask next of all things that there may be?", "two": "has two answers"}
    train: Qrels = {f"q{i}": {f"p{i}": 1} for i in range(2, 40)}
    train |= {
        "same-passage": {"p0": 1},
        "near-passage": {"copy": 1},
        "same-words": {"p5": 1},
        "two": {"p6": 1, "p1": 1},
    }
    test: Qrels = {"t0": {"p0": 1}, "t1": {"p1": 1}}
    data = RetrievalData(
        passages, {key: Query(key, text) for key, text in texts.items()}, {"train": train, "test": test}
    )
    given = {"queries": {"from": "structure", "test": "questions"}, "split": {"dev": 0.2}}
    split, result = divide(make_config(given), data, {})
    assert split.qrels["test"] == test
    kept = {*split.qrels["train"], *split.qrels["dev"]}
    assert not kept & {"same-passage", "near-passage", "same-words", "two"}
    assert len(kept) >= 30
    assert split.qrels["dev"]
    assert (
        sum(result.counts[kind] for kind in ("shared positives", "near-duplicate positives", "near-duplicate queries"))
        == 0
    )
    assert result.dropped["near-duplicate of a passage labelled on another side"] == 3
    assert result.dropped["near-duplicate of a query on another side"] == 1
    assert any(note.startswith("4 training queries were left out") for note in result.notes)
    # Without queries.test a given split is the user's: kept as it is, its leaks counted.
    untouched, audit = divide(make_config({"split": {"dev": 0.2}}), data, {})
    assert "same-passage" in {*untouched.qrels["train"], *untouched.qrels["dev"]}
    assert audit.counts["shared positives"] == 2


def test_questions_in_a_file_are_the_test_set_of_queries_made_from_the_documents(tmp_path: Path) -> None:
    text = "The landlord must return the deposit within fourteen days after the lease has ended and the keys are back. "
    passages = {
        f"p{i}": Passage(
            f"p{i}", f"Lease > Part {i} on topic{i}", f"{text} Clause{i} of part{i} adds detail{i}.", group=f"g{i}"
        )
        for i in range(12)
    }
    rows = [{"query": f"when is my money back in case {i}", "passage_id": f"p{i}"} for i in range(3)]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = make_config({"queries": {"from": "structure", "test": str(tmp_path / "asked.jsonl")}})
    result = gather_queries(config, passages, tmp_path / "out", tmp_path / "cache")
    assert result.counts["test"] == 3
    assert sorted(path.name for path in (tmp_path / "out" / "qrels").iterdir()) == ["test.tsv", "train.tsv"]
    assert read_json(tmp_path / "out" / "meta.json")["made_by"] == "structure"
