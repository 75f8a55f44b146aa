"""The audit, the labels and the verdict as the command line gives them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from fieldtune.cli import main


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    return int(caught.value.code or 0)


@pytest.fixture
def folder(tiny_beir: Path) -> Path:
    """`tiny_beir` with train and test by topic, no document on both sides."""
    qrels = tiny_beir / "qrels"
    rows = (qrels / "all.tsv").read_text().splitlines()[1:]
    for side in ("train", "test"):
        kept = [row for row in rows if (int(row.split("\t")[1][1:]) % 20 < 6) == (side == "test")]
        (qrels / f"{side}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(kept) + "\n")
    (qrels / "all.tsv").unlink()
    return tiny_beir


def test_a_leak_is_the_first_thing_said_and_fails_the_build(
    folder: Path, tmp_path: Path, tiny_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    words = ["evaluate", "--data", str(folder), "--bm25", "--model", tiny_model, "--json", str(figures)]
    assert call(*words) == 0
    printed = capsys.readouterr().out
    clean = json.loads(figures.read_text())
    assert clean["leakage"]["failed"] is False and clean["verdict"]["outcome"] in ("worse", "no measurable difference")
    assert printed.startswith(clean["verdict"]["outcome"].upper())
    assert set(clean["judged@10"]) == set(clean["systems"]) == {tiny_model, "BM25"}
    assert clean["slices"] and "proves nothing" in clean["slices_note"]
    assert call(*words, "--fail-unless", clean["verdict"]["outcome"]) == 0
    assert call(*words, "--fail-unless", "ship") == 3
    assert "wanted: ship" in capsys.readouterr().err

    rows = (folder / "qrels" / "test.tsv").read_text().splitlines()[1:4]
    with (folder / "qrels" / "train.tsv").open("a") as stream:
        stream.write("\n".join(rows) + "\n")
    assert call(*words, "--fail-unless", "ship") == 3
    printed = capsys.readouterr().out
    assert printed.startswith("NOT TRUSTWORTHY: The test set is known from training.")
    assert printed.index("stand word for word among the train queries") < printed.index("nDCG@10")
    found = json.loads(figures.read_text())
    assert found["verdict"]["rule"] == "leak" and found["leakage"]["over"] == ["exact", "near", "documents"]
    assert found["leakage"]["exact"] == pytest.approx(4 / 36, abs=1e-6)  # two queries and all that share their passages
    limits = [f"evaluation.{name}=0.5" for name in ("max_leak", "max_near_leak", "max_shared_documents")]
    assert call(*words, *(word for limit in limits for word in ("--set", limit))) == 0
    assert not capsys.readouterr().out.startswith("NOT TRUSTWORTHY")


def test_training_rows_of_a_model_are_audited(folder: Path, tmp_path: Path) -> None:
    (folder / "qrels" / "train.tsv").unlink()
    queries = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    asked = {row["_id"]: row["text"] for row in queries}
    test = (folder / "qrels" / "test.tsv").read_text().splitlines()[1].split("\t")[0]
    rows, figures = tmp_path / "rows.jsonl", tmp_path / "figures.json"
    rows.write_text(json.dumps({"query": asked[test].upper(), "pos": ["nothing of the corpus"]}) + "\n")
    words = ["evaluate", "--data", str(folder), "--bm25", "--json", str(figures)]
    assert call(*words) == 0
    assert json.loads(figures.read_text())["leakage"]["compared"] == {}
    assert call(*words, "--train-data", str(rows)) == 0
    found = json.loads(figures.read_text())
    (finding,) = [one for one in found["leakage"]["findings"] if one["queries"]]
    assert (finding["kind"], finding["queries"]) == ("query", [test])
    assert finding["pairs"][0]["other"] == "rows.jsonl, row 1"
    assert found["verdict"]["outcome"] == "not trustworthy"
    rows.write_text('{"query": "x"}\n')
    assert call(*words, "--train-data", str(rows)) == 2


def test_labels_go_out_and_come_back(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels, figures = tmp_path / "labels.csv", tmp_path / "figures.json"
    words = ["evaluate", "--data", str(folder), "--bm25", "--json", str(figures)]
    assert call(*words, "--unjudged", str(labels), "--set", "evaluation.unjudged=40") == 0
    assert f"40 unjudged passages for labelling: {labels}" in capsys.readouterr().out
    before = json.loads(figures.read_text())
    with labels.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 40
    for row in rows:
        row["grade"] = "1"
    with labels.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert call(*words, "--judgements", str(labels)) == 0
    assert "labels.csv: 40 judgements added" in capsys.readouterr().out
    after = json.loads(figures.read_text())
    assert after["judged@10"]["BM25"] > before["judged@10"]["BM25"]
    assert after["systems"]["BM25"]["recall@1"] < before["systems"]["BM25"]["recall@1"]
    assert call(*words, "--unjudged", str(labels)) == 2  # someone's work is not overwritten
    assert "holds grades" in capsys.readouterr().err
    labels.write_text("query-id,corpus-id,grade\nq0-0,p1,maybe\n")
    assert call(*words, "--judgements", str(labels)) == 2
    assert "labels.csv:2: line 2: grade 'maybe'" in capsys.readouterr().err


def test_empty_splits_and_unknown_verdicts_are_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--data", str(folder), "--bm25"]
    assert call(*words, "--fail-unless", "good") == 2
    assert call(*words, "--llm-judge") == 2
    assert call(*words, "--llm-judge", "--unjudged", str(tmp_path / "x.csv")) == 2
    assert "needs an LLM\n" in capsys.readouterr().err
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n")
    assert call(*words) == 0
    assert "dev.tsv: holds no judgement." in capsys.readouterr().out
    assert call(*words, "--split", "dev") == 2
    assert "dev.tsv: holds no judgement" in capsys.readouterr().err
    assert call(*words, "--split", "held") == 2
    assert "held.tsv: no such file" in capsys.readouterr().err
