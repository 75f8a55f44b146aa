"""The audit, the labels and the verdict as the command line gives them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import ir_measures
import pytest

from fieldtune.cli import main
from fieldtune.evaluating import trained_on


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


def test_only_a_test_split_can_be_trusted(folder: Path, tiny_model: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "qrels" / "dev.tsv").write_bytes((folder / "qrels" / "test.tsv").read_bytes())
    (folder / "qrels" / "test.tsv").unlink()
    for split, says in (("dev", "best checkpoint was chosen by"), ("train", "which models learn by heart")):
        words = ["evaluate", "--data", str(folder), "--split", split, "--bm25"]
        assert call(*words, "--model", tiny_model, "--fail-unless", "ship") == 3
        first = capsys.readouterr().out.splitlines()[0]
        assert first.startswith("NOT TRUSTWORTHY") and (says in first or "is known from training" in first)


def test_rows_that_a_run_left_beside_its_model_are_found(
    folder: Path, tmp_path: Path, tiny_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "qrels" / "train.tsv").unlink()
    queries = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    test = (folder / "qrels" / "test.tsv").read_text().splitlines()[1].split("\t")[0]
    text = next(row["text"] for row in queries if row["_id"] == test)
    model = tmp_path / "made"
    shutil.copytree(tiny_model, model)
    assert call("evaluate", "--data", str(folder), "--bm25", "--model", str(model)) == 0
    assert "nothing is known about leaks" in capsys.readouterr().out
    (model / "run" / "data").mkdir(parents=True)
    rows = model / "run" / "data" / "train.jsonl"
    rows.write_text(json.dumps({"query": text, "pos": ["nothing of the corpus"]}) + "\n")
    assert call("evaluate", "--data", str(folder), "--bm25", "--model", str(model)) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("NOT TRUSTWORTHY") and str(rows) in printed
    run = tmp_path / "run"
    shutil.copytree(model / "run", run)
    shutil.copytree(tiny_model, run / "model")
    for named in (run, run / "model"):
        assert trained_on([str(named)]) == [run / "data" / "train.jsonl"]


def test_labels_that_training_knows_are_told_apart_from_the_limits(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = (
        [row.split("\t") for row in (folder / "qrels" / f"{side}.tsv").read_text().splitlines()[1:]]
        for side in ("train", "test")
    )
    labels, figures = tmp_path / "labels.csv", tmp_path / "figures.json"
    rows = "".join(f"{row[0]},{other[1]},1\n" for row, other in zip(test[:6], train, strict=False))
    labels.write_text(f"query-id,corpus-id,grade\n{rows}")
    words = ["evaluate", "--data", str(folder), "--bm25", "--json", str(figures), "--judgements", str(labels)]
    assert call(*words) == 0
    printed = capsys.readouterr().out
    assert json.loads(figures.read_text())["leakage"]["failed"] is False
    assert "By labels that were added, which the limits leave out: 6 of the queries" in printed
    # What the split itself shares with training still counts.
    with (folder / "qrels" / "train.tsv").open("a") as stream:
        stream.write("\t".join(test[0]) + "\n")
    assert call(*words) == 0
    assert json.loads(figures.read_text())["leakage"]["failed"] is True


def test_settings_that_nothing_uses_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--data", str(folder), "--bm25"]
    for setting, says in (
        ('evaluation.general_data=["/nope.csv"]', "--general uses it"),
        ("evaluation.bm25=false", "--bm25"),
        ("evaluation.general=true", "--general"),
        ("training.epochs=3", "leave it out"),
        ("encoding.backend=torch", "leave it out"),
    ):
        assert call(*words, "--set", setting) == 2
        said = capsys.readouterr().err
        assert (
            f"does not use the setting {setting.split('=')[0].removesuffix('.epochs').removesuffix('.backend')}" in said
        )
        assert says in said
    assert call(*words, "--set", "evaluation.bootstrap=200", "--set", "seed=3") == 0


def test_passages_are_encoded_as_the_settings_say(
    folder: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--data", str(folder), "--model", tiny_model]
    figures = [tmp_path / "plain.json", tmp_path / "torch.json"]
    assert call(*words, "--json", str(figures[0])) == 0
    assert call(*words, "--json", str(figures[1]), "--set", "encoding.backend=torch") == 0
    plain, torch = (json.loads(path.read_text())["passages encoded by"] for path in figures)
    assert plain[tiny_model].startswith("model ") and torch[tiny_model].startswith("torch ")
    capsys.readouterr()
    assert call(*words, "--set", f"encoding.export={tmp_path}") == 2
    assert "not an exported model" in capsys.readouterr().err
    assert call(*words, "--set", "encoding.backend=torch", "--set", "evaluation.m3=true") == 2
    assert "does not use the setting encoding" in capsys.readouterr().err


def test_a_trec_run_per_system_gives_the_same_figures_elsewhere(folder: Path, tmp_path: Path, tiny_model: str) -> None:
    figures, run = tmp_path / "figures.json", tmp_path / "out" / "run.trec"
    words = ["evaluate", "--data", str(folder), "--bm25", "--json", str(figures), "--run", str(run)]
    assert call(*words) == 0
    assert call(*words, "--model", f"a b={tiny_model}") == 0
    found = json.loads(figures.read_text())
    assert found["data"] == str(folder.resolve())
    qrels = list(ir_measures.read_trec_qrels("\n".join(
        "{} 0 {} {}".format(*row.split("\t")) for row in (folder / "qrels" / "test.tsv").read_text().splitlines()[1:]
    )))  # fmt: skip
    files = {"BM25": run.with_name("run.BM25.trec"), "a b": run.with_name("run.a_b.trec")}
    assert run.read_text() == files["BM25"].read_text()
    for name, path in files.items():
        theirs = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], qrels, ir_measures.read_trec_run(str(path)))
        assert found["systems"][name]["ndcg@10"] == pytest.approx(theirs[ir_measures.nDCG @ 10], abs=1e-6)


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
