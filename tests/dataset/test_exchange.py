"""Out and back in: what other tools read is what we wrote, and what comes back is what went out."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from fieldtune.beir import RetrievalData, load_beir, write_beir
from fieldtune.config import make_config
from fieldtune.dataset import build_dataset, read_examples, write_examples
from fieldtune.dataset.export import FORMATS, export_dataset
from fieldtune.dataset.importing import import_dataset
from fieldtune.encoding import Encoder
from fieldtune.errors import ConfigError, InputError
from fieldtune.types import Example, Passage, Query
from fieldtune.workspace import read_json, write_json

ROWS = [
    Example("谁付押金？", ("租客\n付押金。",), ("n1", "n2"), (3.5,), (-1.0, 0.25), "query: "),
    Example("two answers", ("a", 'b, "quoted"'), ("n1", "n2", "n3"), (2.0, 1.5), (0.5, 0.25, 0.125)),
    Example("aside", ("c",), ("n4", "drawn"), (1.0,), (0.75, 0.9), known=("drawn", "other")),
    Example("no negatives", ("d",), (), (1.0,)),
]
CARD = """---
license: cc-by-4.0
---
# Leases

## From documents to training rows

the funnel
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    data = tmp_path / "run" / "data"
    passages = {f"p{n}": Passage(f"p{n}", "", text) for n, text in enumerate(["dev answer", "test answer", "other"])}
    queries = {"d": Query("d", "dev question"), "t": Query("t", "test question")}
    write_beir(data, RetrievalData(passages, queries, {"dev": {"d": {"p0": 1}}, "test": {"t": {"p1": 1, "p2": 0}}}))
    write_examples(data / "train.jsonl", ROWS)
    write_json(data / "teacher.json", {"kind": "cross-encoder"})
    (data / "README.md").write_text(CARD)
    return tmp_path / "run"


def loaded(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What the `datasets` library makes of a folder, or pyarrow where it is not installed."""
    try:
        import datasets
    except ImportError:
        import pyarrow.parquet

        return {path.stem: pyarrow.parquet.read_table(path).to_pylist() for path in folder.glob("*.parquet")}
    datasets.disable_progress_bars()
    found = datasets.load_dataset(str(folder), cache_dir=str(folder.parent / "hf-cache"))
    return {name: part.to_list() for name, part in found.items()}


def test_pairs_with_dev_and_test_load_under_their_splits(run: Path, tmp_path: Path) -> None:
    result = export_dataset(run, "pairs", tmp_path / "out")
    splits = loaded(tmp_path / "out")
    assert splits["train"] == [{"anchor": row.query, "positive": text} for row in ROWS for text in row.pos]
    assert splits["validation"] == [{"anchor": "dev question", "positive": "dev answer"}]
    assert splits["test"] == [{"anchor": "test question", "positive": "test answer"}]
    assert result.counts == {"train rows": 5, "validation rows": 1, "test rows": 1}
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-4.0\nconfigs:")
    assert card.endswith("## From documents to training rows\n\nthe funnel\n")


def test_triplets_carry_both_scores_and_nothing_that_was_set_aside(run: Path, tmp_path: Path) -> None:
    export_dataset(run, "triplets", tmp_path / "out")
    rows = loaded(tmp_path / "out")["train"]
    assert len(rows) == 2 + 2 * 3 + 1
    assert rows[0] == {"anchor": ROWS[0].query, "positive": ROWS[0].pos[0], "negative": "n1", "score": [3.5, -1.0]}
    assert "drawn" not in {row["negative"] for row in rows}


def test_tuples_have_as_many_negatives_each_and_the_rest_is_counted(run: Path, tmp_path: Path) -> None:
    result = export_dataset(run, "tuples", tmp_path / "out", negatives=2)
    rows = loaded(tmp_path / "out")["train"]
    assert [row["anchor"] for row in rows] == ["谁付押金？", "two answers", "two answers"]
    assert rows[1] == {
        "anchor": "two answers", "positive": "a", "negative_1": "n1", "negative_2": "n2", "score": [2.0, 0.5, 0.25],
    }  # fmt: skip
    assert result.dropped == {"training rows with fewer than 2 negatives": 2}


def test_scored_pairs_hold_the_teachers_scores_or_else_labels(run: Path, tmp_path: Path) -> None:
    export_dataset(run, "scored-pairs", tmp_path / "scored")
    rows = loaded(tmp_path / "scored")["train"]
    assert {"sentence1": "aside", "sentence2": "drawn", "score": 0.9} in rows
    write_json(run / "data" / "teacher.json", {"kind": "cosine of the base model"})
    export_dataset(run, "scored-pairs", tmp_path / "plain")
    rows = loaded(tmp_path / "plain")["train"]
    assert {row["score"] for row in rows} == {0.0, 1.0}
    assert "drawn" not in {row["sentence2"] for row in rows}


def test_flagembedding_goes_out_whole_and_comes_back_with_scores_and_prompts(run: Path, tmp_path: Path) -> None:
    export_dataset(run, "flagembedding", tmp_path / "rows.jsonl")
    assert read_examples(tmp_path / "rows.jsonl") == ROWS
    import_dataset(tmp_path / "rows.jsonl", tmp_path / "beir")
    data = load_beir(tmp_path / "beir")
    back = {query.text: query for query in data.queries.values()}
    for row in ROWS:
        query = back[row.query]
        grades = {data.passages[key].text: grade for key, grade in data.qrels["all"][query.id].items()}
        judged = [text for text in row.neg if text not in row.known]  # the others were scored, but never judged
        assert grades == dict.fromkeys(row.pos, 1) | dict.fromkeys(judged, 0)
        scores = {data.passages[key].text: score for key, score in query.metadata["scores"].items()}
        all_scores = dict(zip((*row.pos, *row.neg), (*row.pos_scores, *row.neg_scores), strict=True))
        assert scores == {text: all_scores[text] for text in (*row.pos, *judged)}
        assert query.metadata.get("prompt", "") == row.prompt


@pytest.mark.parametrize("to", ["triplets", "tuples", "csv"])
def test_other_formats_come_back_as_the_same_judgements(run: Path, tmp_path: Path, to: str) -> None:
    out = tmp_path / ("out.csv" if to == "csv" else "out")
    export_dataset(run, to, out, negatives=2)
    import_dataset(out, tmp_path / "beir")
    data = load_beir(tmp_path / "beir")
    side = "all" if to == "csv" else "train"
    found = {
        (data.queries[query].text, data.passages[passage].text, grade)
        for query, grades in data.qrels[side].items()
        for passage, grade in grades.items()
    }
    rows = [row for row in ROWS if to == "csv" or len([text for text in row.neg if text not in row.known]) > 0]
    rows = [row for row in rows if to != "tuples" or row.query in ("谁付押金？", "two answers")]
    expected = {(row.query, text, 1) for row in rows for text in row.pos}
    for row in rows:
        hard = [text for text in row.neg if text not in row.known]
        expected |= {(row.query, text, 0) for text in (hard[:2] if to == "tuples" else hard)}
    assert found == expected


def test_a_folder_that_datasets_saved_is_read_with_its_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    train = datasets.Dataset.from_list(
        [{"anchor": f"q{n}", "positive": f"a{n}", "negative": f"b{n}"} for n in range(5)]
    )
    test = datasets.Dataset.from_list([{"anchor": "q9", "positive": "a9", "negative": "b9"}])
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(tmp_path / "saved")
    result = import_dataset(tmp_path / "saved", tmp_path / "beir")
    data = load_beir(tmp_path / "beir")
    assert {side: len(rows) for side, rows in data.qrels.items()} == {"train": 5, "test": 1}
    assert result.counts["passages"] == 12
    assert not result.dropped


def test_beir_goes_out_as_it_is(run: Path, tmp_path: Path) -> None:
    export_dataset(run, "beir", tmp_path / "beir")
    assert load_beir(tmp_path / "beir") == load_beir(run / "data")


def test_csv_opens_in_a_spreadsheet(run: Path, tmp_path: Path) -> None:
    export_dataset(run, "csv", tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0] == {"query": "谁付押金？", "passage": "租客\n付押金。", "score": "1", "teacher_score": "3.5"}
    assert len(rows) == sum(len(row.pos) + len(set(row.neg) - set(row.known)) for row in ROWS)


def test_scores_given_with_labels_reach_the_training_rows(tiny_model: str, tmp_path: Path) -> None:
    rows = [
        {"query": f"what ends {n}", "pos": [f"lease {n} rent"], "neg": [f"bond {n + k} audit" for k in range(6)],
         "pos_scores": [5.0 + n], "neg_scores": [k / 8 for k in range(6)], "prompt": "query: "}
        for n in range(0, 300, 10)
    ]  # fmt: skip
    rows.append({"query": "unscored", "pos": ["fever cough"]})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_dataset(tmp_path / "rows.jsonl", tmp_path / "beir")
    config = make_config({"negatives": {"per_query": 2}, "split": {"dev": 0.1, "test": 0.0}})
    build_dataset(config, load_beir(tmp_path / "beir"), {}, Encoder.load(tiny_model), tmp_path / "data", tmp_path / "v")
    made = {row.query: row for row in read_examples(tmp_path / "data" / "train.jsonl")}
    given = {row["query"]: row for row in rows}
    for query, example in made.items():
        row = given[query]
        if query == "unscored":
            assert not example.pos_scores
            continue
        assert dict(zip(example.neg, example.neg_scores, strict=True)) == dict(
            zip(row["neg"], row["neg_scores"], strict=True)
        )
        assert list(example.pos_scores) == row["pos_scores"]
        assert example.prompt == "query: "
    assert read_json(tmp_path / "data" / "teacher.json")["kind"] == "given with the labels"


def test_what_cannot_be_exported_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no format 'parquet'") as caught:
        export_dataset(run, "parquet", tmp_path / "out")
    assert all(name in caught.value.hint for name in FORMATS)
    with pytest.raises(InputError, match="no training data"):
        export_dataset(tmp_path, "pairs", tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for call in (
        lambda: export_dataset(run, "pairs", tmp_path / "mine"),
        lambda: import_dataset(run, tmp_path / "mine"),
    ):
        with pytest.raises(InputError, match="something in it"):
            call()
    assert (tmp_path / "mine" / "thesis.txt").exists()
    write_examples(run / "data" / "train.jsonl", [Example("q", ("a",))])
    with pytest.raises(InputError, match="no row can be written as triplets"):
        export_dataset(run, "triplets", tmp_path / "out")


def test_broken_rows_are_counted_and_a_file_without_a_good_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = {"query": "q", "pos": ["a"], "neg": ["b"], "pos_scores": [1.0], "neg_scores": [0.1]}
    bad = [good | {"neg_scores": [0.1, 0.2]}, {"query": "q"}, {"query": "q", "passage_id": "p7"}]
    path.write_text("\n".join(json.dumps(row) for row in [good, *bad]) + "\n")
    result = import_dataset(path, tmp_path / "beir")
    assert result.dropped == {"broken row": 3}
    assert ["not as many scores" in said for said in result.details["broken_rows"]] == [True, False, False]
    path.write_text(json.dumps(bad[2]) + "\n")
    with pytest.raises(InputError, match=r"none of its 1 rows can be used.*ids need a corpus"):
        import_dataset(path, tmp_path / "beir2")
