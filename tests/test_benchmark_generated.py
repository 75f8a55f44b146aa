"""The benchmark of made queries runs on a small folder: its arguments, its table, and what it leaves out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest
from scripts import script


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return script("benchmarks/generated.py")


def divided(folder: Path, *, train: bool) -> Path:
    """The folder's qrels dealt to test and, with `train`, train and dev."""
    rows = (folder / "qrels" / "all.tsv").read_text().splitlines()[1:]
    sides = {"test": rows[:40]} | ({"train": rows[40:100], "dev": rows[100:]} if train else {})
    for side, part in sides.items():
        (folder / "qrels" / f"{side}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(part) + "\n")
    (folder / "qrels" / "all.tsv").unlink()
    return folder


def generator_file(folder: Path, first: int = 0) -> Path:
    rows = [
        {"corpus-id": f"p{n}", "style": style, "query": f"{ask} {n}"}
        for n in range(first, 60)
        for style, ask in (("formal", "covers lease"), ("plain", "starts rent"))
    ]
    queries = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    rows.append({"corpus-id": "p0", "style": "plain", "query": queries[0]["text"]})
    path = folder / "made.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["--data", "x"],
        ["--data", "x", "--structure", "--share", "0"],
        ["--data", "x", "--structure", "--split", "dev", "--choose-on", "human-dev"],
        ["--structure"],
    ],
)
def test_arguments_that_make_no_sense_are_refused(benchmark, words, capsys):
    with pytest.raises(SystemExit) as caught:
        benchmark.arguments(words)
    assert caught.value.code == 2 and "usage" in capsys.readouterr().err


def test_a_set_without_train_labels_is_measured(benchmark, tiny_beir, tiny_model, tmp_path, capsys):
    data = divided(tiny_beir, train=False)
    words = [
        "--data",
        str(data),
        "--generated",
        str(generator_file(data)),
        "--share",
        "0.5",
        "1.0",
        "--model",
        tiny_model,
    ]
    words += ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "RESULTS.md"), "--human"]
    words += ["--set", "training.epochs=1", "training.batch_size=8", "training.precision=fp32", "queries.max_copied=1"]
    benchmark.main(words)
    said = (tmp_path / "RESULTS.md").read_text()
    assert "in the words of a test query, left out: 1" in said
    assert "| generated 50% | " in said and "| generated 100% | 120 |" in said
    assert "human labels" not in said and "| BM25 |" in said
    assert str(tmp_path) not in said
    models = sorted((tmp_path / "work" / "models").iterdir())
    stamps = [(folder / "model" / "modules.json").stat().st_mtime_ns for folder in models]
    benchmark.main(words)
    assert [(folder / "model" / "modules.json").stat().st_mtime_ns for folder in models] == stamps
    assert (tmp_path / "RESULTS.md").read_text().count("## Made queries") == 2
    capsys.readouterr()


def test_styles_and_human_labels_stand_side_by_side(benchmark, tiny_beir, tiny_model, tmp_path, capsys):
    data = divided(tiny_beir, train=True)
    whole = tmp_path / "whole"
    shutil.copytree(data, whole)
    # The set lacks the last passages, which the generator file names and the other folder has.
    rows = (data / "corpus.jsonl").read_text().splitlines()
    named = {line.split("\t")[1] for side in ("train", "dev", "test") for line in _lines(data, side)}
    (data / "corpus.jsonl").write_text("".join(row + "\n" for row in rows if json.loads(row)["_id"] in named))
    words = ["--data", str(data), "--generated", str(generator_file(whole, 10)), "--corpus", str(whole), "--by-style"]
    words += ["--human", "--model", tiny_model, "--work", str(tmp_path / "work"), "--results", str(tmp_path / "R.md")]
    words += ["--set", "training.epochs=1", "training.batch_size=8", "training.precision=fp32", "queries.max_copied=1"]
    benchmark.main([*words, "--choose-on", "human-dev", "--together", "--base-share", "1.0"])
    said = (tmp_path / "R.md").read_text()
    for name in ("base", "generated 100%", "generated: formal", "generated: plain", "human labels", "BM25"):
        assert f"| {name} |" in said
    figures = {row.split("|")[1].strip(): row.split("|")[3] for row in said.splitlines() if row.startswith("| ")}
    assert figures["human labels, 100% base"] == figures["base"]
    counts = {row.split("|")[1].strip(): row.split("|")[2].strip() for row in said.splitlines() if row.startswith("| ")}
    dev = len(_lines(data, "dev"))
    assert int(counts["generated 100% + human labels"]) - dev == (
        int(counts["generated 100%"]) - dev + int(counts["human labels"]) - dev
    )
    assert "Checkpoints chosen on human-dev" in said
    capsys.readouterr()


def _lines(folder: Path, side: str) -> list[str]:
    return (folder / "qrels" / f"{side}.tsv").read_text().splitlines()[1:]
