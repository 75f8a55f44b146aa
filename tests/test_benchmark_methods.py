"""The benchmark of all ways of training runs on a small folder, and makes no result twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scripts import script

from fieldtune.beir import load_beir
from fieldtune.config import Config

PATH = Path(__file__).parents[1] / "benchmarks" / "methods.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return script("benchmarks/methods.py")


@pytest.fixture
def data(tiny_beir: Path) -> Path:
    rows = (tiny_beir / "qrels" / "all.tsv").read_text().splitlines()[1:]
    for side, part in {"train": rows[:60], "dev": rows[60:90], "test": rows[90:]}.items():
        (tiny_beir / "qrels" / f"{side}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(part) + "\n")
    (tiny_beir / "qrels" / "all.tsv").unlink()
    return tiny_beir


def words(data: Path, model: str, work: Path) -> list[str]:
    settings = ["training.batch_size=8", "training.epochs=1", "training.precision=fp32", "training.evaluations=1"]
    out = ["--results", str(work.parent / "RESULTS.md")]
    return ["--data", str(data), "--model", model, "--work", str(work), *out, "--train", "40", "--set", *settings]


def test_every_method_is_a_config_of_its_own(
    benchmark: ModuleType, data: Path, tiny_model: str, tmp_path: Path
) -> None:
    given = benchmark.arguments([*words(data, tiny_model, tmp_path), "--teacher", "t", "--vector-teacher", "v"])
    assert given.methods == list(benchmark.METHODS)
    made: dict[str, Config] = {name: benchmark.config_of(given, name, 7) for name in given.methods}
    assert made["kl"].teacher.model == "t" and made["mnrl"].teacher.model == ""
    assert made["vectors"].training.vector_teacher == "v" and made["vectors"].teacher.model == ""
    assert made["kl-embedder"].teacher.model == "v" and made["kl-embedder"].training.vector_teacher == ""
    assert made["cached-256"].training.epochs == 1
    assert made["lower-half-frozen"].training.freeze_layers == 1  # of the tiny model's two
    assert made["lora"].training.learning_rate > made["mnrl"].training.learning_rate
    assert len({benchmark.key_of(given, name, 7) for name in made}) == len(made)
    assert benchmark.key_of(given, "mnrl", 8) != benchmark.key_of(given, "mnrl", 7)
    fewer = benchmark.arguments([*words(data, tiny_model, tmp_path), "--passages", "50"])
    assert benchmark.key_of(fewer, "mnrl", 7) != benchmark.key_of(given, "mnrl", 7)
    without = benchmark.arguments(words(data, "m", tmp_path))
    assert not {"kl", "margin-mse", "vectors", "kl-embedder"} & set(without.methods)


def test_a_smaller_set_keeps_every_labelled_passage(benchmark: ModuleType, data: Path) -> None:
    whole = load_beir(data)
    part = benchmark.smaller(whole, 50, 10)
    assert [len(part.qrels[side]) for side in ("train", "dev", "test")] == [60, 10, 10]
    labelled = {key for rows in part.qrels.values() for row in rows.values() for key in row}
    assert labelled <= set(part.passages) and len(part.passages) == max(50, len(labelled))
    assert len(part.passages) < len(whole.passages)
    assert benchmark.smaller(whole, 0, 0).passages == whole.passages
    assert benchmark.smaller(whole, 50, 10).passages == part.passages


@pytest.mark.parametrize("asked", ["kl", "nonsense"])
def test_a_method_that_cannot_run_is_named(
    benchmark: ModuleType, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: str
) -> None:
    with pytest.raises(SystemExit):
        benchmark.arguments([*words(data, "m", tmp_path), "--methods", asked])
    assert asked in capsys.readouterr().err


def test_a_table_of_base_and_method(
    benchmark: ModuleType, data: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    started: list[list[str]] = []

    def here(command: list[str], **_: Any) -> Any:
        """In this process: starting another takes longer than the training."""
        started.append(command)
        monkeypatch.setattr(sys, "argv", command[1:])
        benchmark.main()
        monkeypatch.setattr(sys, "argv", argv)
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(benchmark.subprocess, "run", here)
    monkeypatch.setattr(benchmark, "sources", lambda: "a1b2c3")
    argv = ["methods.py", *words(data, tiny_model, tmp_path / "w"), "--methods", "base model,mnrl"]
    monkeypatch.setattr(sys, "argv", argv)
    benchmark.main()
    rows = [json.loads(line) for line in (tmp_path / "w" / "methods.jsonl").read_text().splitlines()]
    assert [row["name"] for row in rows] == ["base model", "mnrl"]
    assert rows[1]["parameters"] > 1_000 and rows[1]["memory"] > 0
    for row in rows:
        low, high = row["dev"]["interval"]
        assert 0 <= low <= row["dev"]["ndcg@10"] <= high <= 1
    assert rows[0]["test"]["ndcg@10"] != rows[1]["test"]["ndcg@10"]
    (folder,) = (tmp_path / "w" / "rows").iterdir()
    trained = {json.loads(line)["query"] for line in (folder / "train.jsonl").read_text().splitlines()}
    assert len(trained) == 40
    said = capsys.readouterr().out
    assert f"{rows[1]['test']['ndcg@10']:.4f}" in said and "peak memory" in said
    assert {row["sources"] for row in rows} == {"a1b2c3"} and "a1b2c3" not in said
    monkeypatch.setattr(benchmark, "sources", lambda: "d4e5f6")
    benchmark.main()
    assert len(started) == 2  # nothing was made again
    made = "Not made by the sources d4e5f6 but by a1b2c3: base model (seed 13), mnrl (seed 13)."
    assert made in capsys.readouterr().out and made in (tmp_path / "RESULTS.md").read_text()
    (tmp_path / "w" / "methods.jsonl").write_text(
        "".join(json.dumps({key: row[key] for key in row if key != "sources"}) + "\n" for row in rows)
    )
    benchmark.main()
    assert "by earlier ones: base model (seed 13), mnrl (seed 13)." in capsys.readouterr().out


def test_sources_are_named_by_their_commit_and_what_was_changed_since(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        done = subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    package = tmp_path / "src" / "fieldtune"
    package.mkdir(parents=True)
    monkeypatch.setattr(benchmark.fieldtune, "__file__", str(package / "__init__.py"))
    named = benchmark.sources.__wrapped__
    assert named() == benchmark.fieldtune.__version__
    (package / "__init__.py").write_text("one = 1\n")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "code")
    code = git("rev-parse", "--short", "HEAD")
    (tmp_path / "README.md").write_text("not code")
    git("add", "-A")
    git("commit", "-qm", "a word on it")
    (tmp_path / "README.md").write_text("nor this")
    assert named() == code
    found = set()
    for value in (2, 3):
        (package / "__init__.py").write_text(f"one = {value}\n")
        found.add(named())
    assert len(found) == 2 and all(name.startswith(f"{code}-dirty-") for name in found)
    monkeypatch.setenv("PATH", "")
    assert named() == benchmark.fieldtune.__version__


def test_a_fitted_query_layer_is_measured_and_not_its_base(
    benchmark: ModuleType, data: Path, tiny_model: str, tmp_path: Path
) -> None:
    settings = ["training.learning_rate=0.05"]
    given = benchmark.arguments([*words(data, tiny_model, tmp_path / "w"), *settings, "--methods", "query-layer"])
    config = benchmark.config_of(given, "query-layer", 13)
    assert not config.training.share_curve  # its time is that of training alone
    base, fitted = (benchmark.run_one(given, name, 13) for name in (benchmark.BASE, "query-layer"))
    assert fitted["parameters"] > 0
    assert any(fitted[side]["ndcg@10"] != base[side]["ndcg@10"] for side in ("dev", "test"))
