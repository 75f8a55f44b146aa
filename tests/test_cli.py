from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fieldtune.cli import main
from fieldtune.config import Config, Section, load_config
from fieldtune.installing import install_model
from fieldtune.starter import starter_text


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


TRAINING = ["--set", "training.epochs=6", "--set", "training.learning_rate=1e-3", "--set", "training.batch_size=8"]


def test_train_and_evaluate_agree_with_plain_sentence_transformers(
    divided: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.evaluation import InformationRetrievalEvaluator

    out, figures = tmp_path / "tuned", tmp_path / "figures.json"
    assert call("train", "--data", str(divided), "--model", tiny_model, "--out", str(out), *TRAINING) == 0
    assert f"model: {out}" in capsys.readouterr().out
    words = ["evaluate", "--data", str(divided), "--model", f"before={tiny_model}", "--model", str(out), "--bm25"]
    assert call(*words, "--precision", "fp32", "--json", str(figures), "--report", str(tmp_path / "r.html")) == 0
    printed = capsys.readouterr().out
    found = json.loads(figures.read_text())
    assert list(found["systems"]) == ["before", str(out), "BM25"]
    assert "nDCG@10" in printed
    assert (tmp_path / "r.html").exists()

    model = SentenceTransformer(str(out), device="cpu")
    corpus = {row["_id"]: row["title"] + "\n" + row["text"] for row in _rows(divided / "corpus.jsonl")}
    texts = {row["_id"]: row["text"] for row in _rows(divided / "queries.jsonl")}
    relevant: dict[str, set[str]] = {}
    for line in (divided / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, passage, _ = line.split("\t")
        relevant.setdefault(query, set()).add(passage)
    reference = InformationRetrievalEvaluator(
        {query: texts[query] for query in relevant}, corpus, relevant,
        query_prompt_name="query", corpus_prompt_name="document", write_csv=False,
    )(model)  # fmt: skip
    for ours, theirs in (("ndcg@10", "cosine_ndcg@10"), ("mrr@10", "cosine_mrr@10"), ("recall@10", "cosine_recall@10")):
        assert found["systems"][str(out)][ours] == pytest.approx(reference[theirs], abs=1e-4)
    assert found["systems"][str(out)]["ndcg@10"] > found["systems"]["before"]["ndcg@10"]
    low, high = found["systems"][str(out)]["ci"]["ndcg@10"]
    assert low <= found["systems"][str(out)]["ndcg@10"] <= high
    assert np.isfinite(found["comparisons"][0]["p"])


def test_many_systems_in_one_call(
    divided: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    words = ["evaluate", "--data", str(divided), "--model", f"m={tiny_model}", "--hybrid", "--dimensions", "16,8"]
    words += ["--precisions", "int8, binary", "--without-prompts", "--measure", "nDCG@5", "--measure", "R-precision"]
    assert call(*words, "--json", str(figures), "--report", str(tmp_path / "r.html")) == 0
    printed = capsys.readouterr().out
    found = json.loads(figures.read_text())
    assert {"m", "BM25", "m @16", "m int8, rescored", "m without prompts", "m + BM25 (weighted)"} <= set(
        found["systems"]
    )
    assert {"ndcg@5", "r-precision", "ndcg@10", "accuracy@1"} <= set(found["systems"]["m @8"])
    assert found["about"]["m @16"]["bytes_per_vector"] == 64
    (header,) = (line for line in printed.splitlines() if "bytes" in line)
    assert "nDCG@5  R-precision" in header
    assert "MRR@10" not in header


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--dimensions", "sixty"], "--dimensions sixty is not a size"),
        (["--dimensions", "64,0"], "--dimensions 0 is not a size"),
        (["--precisions", "int4"], "evaluation.precisions.0"),
        (["--measure", "F1"], "'F1' is not a measure"),
        (["--set", "evaluation.measures=['nDCG']"], "'nDCG' is not a measure"),
    ],
)
def test_what_cannot_be_measured_is_said_before_any_work(
    words: list[str], says: str, divided: Path, tiny_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("evaluate", "--data", str(divided), "--model", tiny_model, *words) == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_two_evaluations_are_compared_and_the_general_loss_is_added(
    divided: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(name: str, *more: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        files = ["--json", str(folder / "metrics.json"), "--per-query", str(folder / "per_query.csv")]
        assert call("evaluate", "--data", str(divided), *more, *files) == 0
        return folder

    pairs = tmp_path / "pairs.csv"
    pairs.write_text("sentence1,sentence2,score\nlease ends,rent ends,4\naudit,fever,0\nbond,equity,2\n")
    models = ["--model", f"tuned={tiny_model}"]
    own = ["--general", "--set", f"evaluation.general_data={pairs}"]
    a, b = measured("a", *models), measured("b", *models, "--model", f"again={tiny_model}", *own)
    general = json.loads((b / "metrics.json").read_text())["general"]
    assert [(row["name"], row["difference"], row["state"]) for row in general["probes"]] == [("pairs", 0, "kept")]
    assert "General ability is kept" in capsys.readouterr().out
    out = tmp_path / "compared.json"
    assert call("compare", str(a), str(b), "--json", str(out), "--fail-if-worse") == 0
    assert "tuned of B cannot be told apart from tuned of A" in capsys.readouterr().out
    assert json.loads(out.read_text())["outcome"] == "same"
    with (divided / "corpus.jsonl").open("a") as stream:
        stream.write(json.dumps({"_id": "new", "title": "", "text": "audit covers equity"}) + "\n")
    assert call("compare", str(a), str(measured("c", *models))) == 2
    assert "the test sets differ" in capsys.readouterr().err


def test_a_regression_ends_with_3_when_asked(divided: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--json", str(tmp_path / "a" / "metrics.json"), "--per-query", str(tmp_path / "a" / "per_query.csv")]
    assert call("evaluate", "--data", str(divided), "--bm25", *files) == 0
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with (tmp_path / "a" / "per_query.csv").open(newline="") as stream:
        # The five groups of these passages could never give p < 0.05; queries that stand alone can.
        rows = [row | {"cluster": str(n)} for n, row in enumerate(csv.DictReader(stream))]
    for name, change in (("a", {}), ("b", {"ndcg@10": "0"})):
        with (tmp_path / name / "per_query.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(row | change for row in rows)
    assert call("compare", str(tmp_path / "a"), str(tmp_path / "b")) == 0
    assert call("compare", str(tmp_path / "a"), str(tmp_path / "b"), "--fail-if-worse") == 3
    assert "BM25 of B is worse than BM25 of A" in capsys.readouterr().out


def _rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_mined_rows_can_be_read_by_other_tools(divided: Path, tiny_model: str, tmp_path: Path) -> None:
    out = tmp_path / "mined.jsonl"
    assert call("mine", "--data", str(divided), "--model", tiny_model, "--out", str(out)) == 0
    rows = _rows(out)
    held = {line.split("\t")[1] for side in ("dev", "test") for line in (divided / "qrels" / f"{side}.tsv").open()}
    texts = {row["_id"]: row["title"] + "\n" + row["text"] for row in _rows(divided / "corpus.jsonl")}
    forbidden = {texts[passage] for passage in held if passage in texts}
    assert len(rows) == 72
    assert sum(len(row["neg"]) for row in rows) > 0
    assert all(not forbidden & set(row["neg"]) and not set(row["pos"]) & set(row["neg"]) for row in rows)


def test_init_writes_a_config_that_loads_with_every_setting_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.md").write_text("# Lease\n\nThe lease ends.\n")
    out = tmp_path / "fieldtune.toml"
    assert call("init", str(docs), "--out", str(out)) == 0
    assert "1 .md" in capsys.readouterr().out
    assert load_config(out).documents.paths == (str(docs),)
    text = out.read_text()
    for name, field in Config.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            assert f"[{name}]" in text
            for key, inner in section.model_fields.items():
                nested = inner.annotation
                if isinstance(nested, type) and issubclass(nested, Section):
                    assert all(f"{key}.{under} = " in text for under in nested.model_fields)
                else:
                    assert f"{inner.alias or key} = " in text
    # Every default shown is the default: taking all the # away changes nothing.
    shown = starter_text(docs, out).splitlines()
    settings = [line.removeprefix("# ") for line in shown if " = " in line and not line.endswith("(not set)")]
    sections = {line: line for line in shown if line.startswith("[")}
    uncommented = [line for line in shown if line in sections or line.removeprefix("# ") in settings]
    out.write_text("\n".join(line.removeprefix("# ") for line in uncommented))
    assert load_config(out).model_dump(exclude={"out", "documents"}) == Config().model_dump(
        exclude={"out", "documents"}
    )
    assert call("init", str(docs), "--out", str(out)) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "absent.toml"], "no such file"),
        (["evaluate", "--data", "absent"], "nothing to evaluate"),
        (["evaluate", "--data", "absent", "--bm25"], "not a folder"),
        (["search", "absent", "query"], "no index in it"),
        (["index", "absent"], "no run in it"),
        (["demo", "astrology"], "no demo 'astrology'"),
        (["train", "--data", "absent", "--out", "x", "--set", "training.epochs"], "section.key=value"),
        (["train", "--data", "absent", "--out", "x", "--preset", "fast"], "preset 'fast' is unknown"),
        (["train", "--data", "absent", "--out", "x"], "absent/corpus.jsonl: no such file"),
        (["evaluate", "--data", "absent", "--bm25", "--set", "split=1"], "split is a section"),
        (["compare", "absent", "absent"], "no such file"),
        (["push", "absent", "--to", "me/model", "--dry-run"], "absent"),
        (["push", "absent", "--to", "model", "--dry-run"], "write it as NAME/REPO"),
        (["evaluate", "--data", "absent", "--model", "a", "--general"], "--general compares two models"),
        (["wrong"], "No such command"),
        (["search"], "Missing argument"),
    ],
)
def test_what_the_user_must_change_ends_with_2_and_no_traceback(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*words) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said


def test_a_folder_in_which_nothing_can_be_read_ends_with_2(
    tmp_path: Path, tiny_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "broken.pdf").write_bytes(b"%PDF-1.7\nnot really")
    (docs / "empty.txt").write_bytes(b"")
    path = tmp_path / "fieldtune.toml"
    path.write_text(f'out = "run"\n[documents]\npaths = ["docs"]\n[model]\nbase = "{tiny_model}"\n')
    assert call("run", str(path)) == 2
    said = capsys.readouterr().err
    assert "broken.pdf" in said
    assert "empty.txt" in said


def test_settings_that_train_takes_from_elsewhere_are_refused(
    divided: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--data", str(divided), "--model", tiny_model, "--out", str(tmp_path / "x")]
    assert call(*words, "--set", "documents.paths=elsewhere") == 2
    assert "train takes no --set documents.paths" in capsys.readouterr().err


def test_another_model_in_the_same_folder_leaves_nothing_of_the_first_and_foreign_files_are_refused(
    divided: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def files() -> set[str]:
        paths = (path.relative_to(out) for path in out.rglob("*") if path.is_file())
        return {path.as_posix() for path in paths if path.parts[0] != "run" and not path.name.startswith(".")}

    out = tmp_path / "out"
    words = ["train", "--data", str(divided), "--out", str(out), "--set", "training.epochs=0.2"]
    assert call(*words, "--model", tiny_model) == 0
    (out / "run" / "model" / "extra.txt").write_text("as a model of another kind would have")
    install_model(out / "run" / "model", out)
    assert "extra.txt" in files()
    assert call(*words, "--model", tiny_model, "--set", "training.learning_rate=1e-3") == 0
    model = out / "run" / "model"
    assert files() == {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    assert "extra.txt" not in files()
    (out / "mine.txt").write_text("the user's own")
    before = (out / "model.safetensors").read_bytes()
    assert call(*words, "--model", tiny_model, "--set", "training.learning_rate=1e-2") == 2
    assert "mine.txt" in capsys.readouterr().err
    assert (out / "model.safetensors").read_bytes() == before


def test_a_folder_given_as_output_file_is_named(divided: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("evaluate", "--data", str(divided), "--bm25", "--json", str(divided)) == 2
    assert "is a folder" in capsys.readouterr().err


def test_ctrl_c_says_that_the_work_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*_: object) -> list[object]:
        raise KeyboardInterrupt

    monkeypatch.setattr("fieldtune.doctor.examine", stop)
    assert call("doctor") == 130
    assert "the same command goes on from there" in capsys.readouterr().err


def test_a_request_to_end_is_answered_as_ctrl_c_is() -> None:
    program = (
        "import signal, fieldtune.doctor as doctor\n"
        "from fieldtune.cli import main\n"
        "doctor.examine = lambda: signal.raise_signal(signal.SIGTERM)\n"
        "main(['doctor'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 143
    assert "the same command goes on from there" in done.stderr


def test_a_server_that_is_still_loading_ends_at_once() -> None:
    program = (
        "import signal, sys, types, fieldtune.cli_serve as serve\n"
        "from fieldtune.cli import main\n"
        "serve._settings = lambda *_, **__: None\n"
        "serve._require_packages = lambda: None\n"
        "opening = types.ModuleType('fieldtune.serving.opening')\n"
        "opening.open_service = lambda *_: signal.raise_signal(signal.SIGTERM)\n"
        "sys.modules[opening.__name__] = opening\n"
        "main(['serve', 'run'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (-signal.SIGTERM, "loading index and model")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "run/model"),
        RuntimeError("lance error: LanceError(IO): No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_not_called_a_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def full(*_: object) -> list[object]:
        raise error

    monkeypatch.setattr("fieldtune.doctor.examine", full)
    assert call("doctor") == 2
    assert "the disk is full" in capsys.readouterr().err


def test_a_bug_ends_with_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object) -> list[object]:
        raise RuntimeError("boom")

    monkeypatch.setattr("fieldtune.doctor.examine", fail)
    assert call("doctor") == 1
    assert "bug: RuntimeError: boom" in capsys.readouterr().err


def test_help_is_there_at_once() -> None:
    code = "import sys, fieldtune.cli; print([m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert loaded.stdout.strip() == "[]"


def test_mined_rows_go_out_and_come_back_by_the_command_line(
    divided: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mined"
    folder.mkdir()
    words = ["mine", "--data", str(divided), "--model", tiny_model, "--out", str(folder / "train.jsonl")]
    assert call(*words, "--candidates", "fused", "--set", "negatives.style_limits={human=2}") == 0
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert max(len(row["neg"]) for row in rows) == 2
    assert json.loads((folder / "train.jsonl.teacher.json").read_text())["kind"] == "cosine of the base model"
    assert call("dataset", "export", str(folder), "--to", "triplets", "--out", str(tmp_path / "triplets")) == 0
    assert "train rows" in capsys.readouterr().out
    assert call("dataset", "import", str(tmp_path / "triplets"), "--out", str(tmp_path / "back")) == 0
    back = (tmp_path / "back" / "qrels" / "train.tsv").read_text().splitlines()[1:]
    assert sum(line.endswith("\t0") for line in back) == sum(len(row["neg"]) for row in rows)
    assert call("dataset", "export", str(folder), "--to", "word", "--out", str(tmp_path / "x")) == 2
    assert call("mine", *words[1:], "--candidates", "tarot") == 2
