from __future__ import annotations

import json
from pathlib import Path

import pytest

from fieldtune.beir import load_beir, read_corpus, read_meta, read_qrels, require_split, said_lines, write_corpus
from fieldtune.errors import InputError


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("meta.json", "[1]", "meta.json: expected a JSON object, found list"),
        ("meta.json", '{"relevance_threshold": "2"}', "relevance_threshold must be a whole number"),
        ("meta.json", '{"evaluation": "some"}', "evaluation 'some' is unknown"),
        ("corpus.jsonl", '{"_id": "1", "text": 5}', 'corpus.jsonl:1: no "text" text'),
        ("queries.jsonl", '{"_id": "q", "text": " "}', "queries.jsonl:1: the query has no text"),
        ("qrels/test.tsv", "q\t1\tone\n", "test.tsv:1: score 'one' is not a whole number"),
        ("qrels/test.tsv", "q\t1\t-1\n", "test.tsv:1: negative grade -1"),
        ("qrels/test.tsv", "q\t1\t1\nq\t1\t2\n", "test.tsv:2: passage '1' has two grades for query 'q': 1 and 2"),
        (
            "qrels/test.tsv",
            "query-id\tcorpus-id\tscore\nnobody\t1\t1\nq\t1\t1\nq\t2\t1\nq\t1\n",
            "test.tsv:2: query 'nobody' is not in queries.jsonl; line 4: passage '2' is not in the corpus; line 5",
        ),
        ("qrels/test.tsv", "q\t2\t1\n", "test.tsv:1: passage '2' is not in the corpus"),
    ],
)
def test_a_damaged_folder_is_refused_with_file_and_line(name: str, text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "1", "text": "alpha"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "alpha?"}\n')
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\t1\t1\n")
    assert load_beir(tmp_path).positives("test") == {"q": ["1"]}
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        load_beir(tmp_path)
    assert says in caught.value.message


def test_a_page_that_is_no_number_stays_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"_id": "1", "text": "a", "metadata": {"page": "iv", "start": 3}}\n')
    passage = read_corpus(path)["1"]
    assert (passage.page, passage.start, passage.metadata) == (None, 3, {"page": "iv"})
    write_corpus(path, [passage])
    assert read_corpus(path)["1"] == passage


def test_an_id_may_hold_any_sign_but_tabs_and_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "test.tsv"
    path.write_text("query-id\tcorpus-id\tscore\r\nq\tone\u2028two\x0bthree\t1\r\n", encoding="utf-8", newline="")
    assert read_qrels(path, {"one\u2028two\x0bthree"}, {"q"}) == ({"q": {"one\u2028two\x0bthree": 1}}, ())


def test_repeated_rows_and_empty_splits_are_named(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "1", "text": "alpha"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "alpha?"}\n')
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\t1\t1\nq\t1\t1\n\nq\t1\t1\n")
    (tmp_path / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n")
    (tmp_path / "qrels" / "train.tsv").write_text("q\t1\t0\n")
    data = load_beir(tmp_path)
    empty, repeated = data.notes
    assert empty.endswith("dev.tsv: holds no judgement.")
    assert repeated.endswith("test.tsv: lines 3 and 5 repeat an earlier row and are counted once.")
    require_split(tmp_path, data, "test")
    for split, says in (("dev", "holds no judgement"), ("train", "no query in it has"), ("other", "no such file")):
        with pytest.raises(InputError, match=f"{split}.tsv: {says}"):
            require_split(tmp_path, data, split)
    assert said_lines([7]) == "line 7"
    assert said_lines(range(1, 24)).endswith("19, 20 and 3 more")


def test_a_set_fit_for_both_evaluations_ranks_the_whole_corpus(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text('{"evaluation": "full-corpus and judged-only", "relevance_threshold": 2}')
    assert read_meta(tmp_path) == (2, "full-corpus")


def test_doubtful_rows_are_named_and_any_usual_header_is_read(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "1", "text": "alpha"}\n{"_id": "2", "title": " ", "text": ""}\n')
    asked = ("Is it alpha?", "is it  alpha?", "beta?")
    rows = "".join(json.dumps({"_id": f"q{n}", "text": text}) + "\n" for n, text in enumerate(asked))
    (tmp_path / "queries.jsonl").write_text(rows)
    path = tmp_path / "qrels" / "test.tsv"
    path.write_text("Query ID\tPassage\tScore\nq0\t1\t1\nq1\t1\t1\nq2\t1\t1\nq2\t1\t1\n")
    data = load_beir(tmp_path)
    assert len(data.qrels["test"]) == 3
    assert [note.partition(": ")[2] for note in data.notes] == [
        "line 5 repeats an earlier row and is counted once.",
        "1 query has the text of another: q1 = q0.",
        "1 passage has neither title nor text: 2.",
    ]
    path.write_text("q0\t1\t1\n")
    assert list(load_beir(tmp_path).qrels["test"]) == ["q0"]  # no header, and no row lost
