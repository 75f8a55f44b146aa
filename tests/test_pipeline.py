from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fieldtune.config import Config, load_config, make_config, merge, parse_overrides
from fieldtune.encoding import Encoder, NumpyEncoder, SingleEncoder
from fieldtune.errors import BusyError, ConfigError, FieldtuneError, InputError, ModelError
from fieldtune.evaluation.plots import learning_plot
from fieldtune.index import Index
from fieldtune.pipeline import NAMES, STAGES, outlook, run_pipeline
from fieldtune.stages.record import learning_curve, recorded_config
from fieldtune.stages.reindex import reindex
from fieldtune.stages.run import Run
from fieldtune.tuning import search_settings
from fieldtune.types import Result
from fieldtune.workspace import Workspace, digest

RUN = "import sys, json; from fieldtune.config import make_config; from fieldtune.pipeline import run_pipeline\n"
RUN += "run_pipeline(make_config(json.loads(sys.argv[1])))"


def settings(beir: Path, model: str, out: Path, **training: object) -> dict[str, object]:
    return {
        "out": str(out),
        "documents": {"paths": [str(beir / "corpus.jsonl")]},
        "queries": {"from": str(beir)},
        "split": {"dev": 0.15, "test": 0.25},
        "negatives": {"depth": 20},
        "model": {"base": model},
        "training": {"batch_size": 8, "epochs": 3, "learning_rate": 1e-3, "evaluations": 3, "precision": "fp32"}
        | training,
        "evaluation": {"bootstrap": 100, "permutations": 100, "general": False},
    }


def config(beir: Path, model: str, out: Path, **training: object) -> Config:
    return make_config(settings(beir, model, out, **training))


def systems(out: Path) -> dict[str, dict[str, float]]:
    return json.loads((out / "metrics.json").read_text())["systems"]


def ran(out: Path) -> list[str]:
    """The stages that were started, in order, over the life of the folder."""
    rows = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    return [row["stage"] for row in rows if row["event"] == "start"]


def test_from_files_to_a_model_that_plain_sentence_transformers_loads(
    tiny_beir: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers import SentenceTransformer

    from fieldtune.index import Index

    out = tmp_path / "run"
    results = run_pipeline(config(tiny_beir, tiny_model, out, epochs=6))
    assert [result.stage for result in results] == list(NAMES)
    tuned = SentenceTransformer(str(out / "model"), device="cpu")
    assert tuned.prompts["query"] == "query: "
    base = SentenceTransformer(tiny_model, device="cpu")
    assert np.abs(tuned.encode(["lease ends 7"]) - base.encode(["lease ends 7"])).max() > 1e-3
    assert systems(out)["tuned"]["ndcg@10"] > systems(out)["base"]["ndcg@10"] + 0.1
    assert set(systems(out)) == {"base", "tuned", "BM25"}
    assert "<html" in (out / "report.html").read_text()
    log = learning_curve(out)
    page, curves = (out / "report.html").read_text(), learning_plot(log)
    assert [name.partition(" ")[0] for name, _ in curves] == ["nDCG@10", "Loss"]
    assert all(figure in page for _, figure in curves)
    assert "evaluation, up to this report" in page and "What it took" in page
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["leakage"]["compared"]["train"] > 0 and metrics["leakage"]["failed"] is False
    assert {one["by"] for one in metrics["leakage"]["overlaps"]} == {"words", "vectors"}
    assert results[NAMES.index("evaluation")].notes[0].startswith(metrics["verdict"]["outcome"].upper())
    assert len((out / "unjudged.csv").read_text("utf-8-sig").splitlines()) > 10
    tuned_score = json.loads((out / "metrics.json").read_text())["systems"]["tuned"]["ndcg@10"]
    assert f"value: {tuned_score}" in (out / "model" / "README.md").read_text()
    record = json.loads((out / "run.json").read_text())
    assert record["seed"] == 13
    assert record["versions"]["torch"]
    assert record["config"]["training"]["epochs"] == 6
    hits = Index.open(out).search("when requires 7", 3)
    assert len(hits) == 3
    assert hits[0].passage.source == "corpus.jsonl"
    at_once = Index.open(out, once=True)
    assert isinstance(at_once.encoder, NumpyEncoder)
    lone, usual = (
        at_once.search("when requires 7", 3, mode="dense"),
        Index.open(out).search("when requires 7", 3, mode="dense"),
    )
    assert [hit.passage for hit in lone] == [hit.passage for hit in usual]
    np.testing.assert_allclose([hit.score for hit in lone], [hit.score for hit in usual], atol=1e-3)
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['fieldtune', 'search', {str(out)!r}, 'when requires 7', '--mode', 'hybrid']\n"
        "try:\n    runpy.run_module('fieldtune', run_name='__main__')\n"
        "except SystemExit as done:\n    assert not done.code\n"
        "from threadpoolctl import threadpool_info\n"
        "assert not {'torch', 'transformers', 'lancedb', 'scipy'} & set(sys.modules), sorted(sys.modules)\n"
        "assert {one['num_threads'] for one in threadpool_info() if one['internal_api'] == 'openblas'} <= {1}\n"
    )
    cold = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert cold.returncode == 0 and "[" in cold.stdout, cold.stderr
    meta = out / "index" / "meta.json"  # where NumPy cannot run the model, torch alone does
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"numpy": False}))
    once = Index.open(out, once=True)
    assert isinstance(once.encoder, SingleEncoder)
    forward, threads = once.encoder._forward, torch.get_num_threads()
    used: list[int] = []
    monkeypatch.setattr(once.encoder, "_forward", lambda ids: used.append(torch.get_num_threads()) or forward(ids))
    torch.set_num_threads(2)
    try:
        assert once.search("when requires 7", 3, mode="dense") == Index.open(out).search(
            "when requires 7", 3, mode="dense"
        )
        assert (used, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(threads)


def test_a_second_run_repeats_nothing_and_a_changed_setting_reruns_its_stage_and_those_to_the_right(
    tiny_beir: Path, tiny_model: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    first = config(tiny_beir, tiny_model, out)
    run_pipeline(first)
    before = (out / "metrics.json").read_bytes()
    run_pipeline(first)
    assert ran(out) == list(NAMES)
    assert {state for _, state, _ in outlook(first)} == {"done"}
    # What `fieldtune index RUN` goes by: 900 in a file and 900.0 in a default are the same.
    assert {state for _, state, _ in outlook(make_config(recorded_config(Path(first.out))))} == {"done"}
    changed = config(tiny_beir, tiny_model, out, epochs=1)
    assert [state for _, state, _ in outlook(changed)] == ["done"] * 4 + ["would run"] * 3
    run_pipeline(changed)
    assert ran(out)[len(NAMES) :] == ["training", "evaluation", "index"]
    assert (out / "metrics.json").read_bytes() != before
    (out / "report.html").unlink()
    run_pipeline(changed)
    assert ran(out)[len(NAMES) + 3 :] == ["evaluation"]
    run_pipeline(changed, first="index", last="index")
    assert ran(out)[-1] == "index"


def test_vectors_that_no_stage_reads_any_more_are_removed(
    tiny_beir: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"

    def stored() -> dict[str, int]:
        return {path.name: path.stat().st_size for path in (out / "vectors").glob("*.npy")}

    run_pipeline(config(tiny_beir, tiny_model, out))
    first = stored()
    assert len(first) >= 4 and "freed" not in capsys.readouterr().err
    run_pipeline(config(tiny_beir, tiny_model, out, epochs=1))
    second = stored()
    assert len(second) == len(first) and second.keys() & first.keys() < first.keys()  # base stays, another tuned model
    assert "vectors: " in (said := capsys.readouterr().err) and "freed" in said
    freed = [
        row for row in map(json.loads, (out / "events.jsonl").read_text().splitlines()) if row["event"] == "pruned"
    ]
    gone = sum(size for name, size in first.items() if name not in second)
    assert len(freed) == 1 and freed[0]["bytes"] >= gone > 0
    run_pipeline(config(tiny_beir, tiny_model, out, epochs=1), first="dataset")
    assert stored() == second  # what was kept is what a run reads: nothing was encoded anew


def test_each_stage_encodes_passages_in_the_named_way_and_says_so(
    tiny_beir: Path, tiny_model: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    made = settings(tiny_beir, tiny_model, out, method="lora", epochs=2, evaluations=2)
    made["encoding"] = {"backend": "torch"}
    made["negatives"] = {"depth": 20, "rounds": 2}
    results = {result.stage: result for result in run_pipeline(make_config(made))}
    by = f"torch {Encoder.load(tiny_model).precision}"
    assert results["dataset"].details["passages encoded by"] == by
    assert json.loads((out / "metrics.json").read_text())["passages encoded by"] == {"base": by, "tuned": by}
    index = json.loads((out / "stages" / "index.json").read_text())
    assert index["result"]["details"]["passages encoded by"] == by
    marks = [json.loads(path.read_text()) for path in (out / "vectors").glob("*.json") if path.name != "uses.json"]
    passages = [mark["model"] for mark in marks if mark["side"] == "passage"]
    assert len(passages) == 2 and all(f"({by})" in name for name in passages)  # base and tuned, once each
    assert f"passages encoded by: {by}" in (out / "report.html").read_text("utf-8")


def test_general_ability_and_the_card_follow_from_own_sets(tiny_beir: Path, tiny_model: str, tmp_path: Path) -> None:
    pairs, out = tmp_path / "pairs.csv", tmp_path / "run"
    made = settings(tiny_beir, tiny_model, out)
    own = {"evaluation": {"bootstrap": 100, "permutations": 100, "general_data": [str(pairs)]}}
    with pytest.raises(InputError, match="no such file"):
        run_pipeline(make_config(made | own))
    assert not (out / "data").exists()  # told before any work
    pairs.write_text("sentence1,sentence2,score\nlease ends,rent ends,4\naudit,fever,0\nbond,equity,2\n")
    results = run_pipeline(make_config(made | own), last="evaluation")
    found = json.loads((out / "metrics.json").read_text())
    assert [row["name"] for row in found["general"]["probes"]] == ["pairs"]
    assert found["general"]["sentence"] in results[-1].notes
    assert any("Chinese probes were left out" in note for note in results[-1].notes)
    card = (out / "model" / "README.md").read_text()
    assert "| pairs, Spearman |" in card
    assert found["verdict"]["headline"] in card
    pairs.write_text("sentence1,sentence2,score\nlease ends,rent ends,4\naudit,fever,1\nbond,equity,2\n")
    run_pipeline(make_config(made | own), last="evaluation")
    assert ran(out)[-2:] == ["evaluation", "evaluation"]  # another content of the set, and nothing else again


def test_a_changed_file_reruns_from_the_start(tiny_beir: Path, tiny_model: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_pipeline(config(tiny_beir, tiny_model, out), last="corpus")
    with (tiny_beir / "corpus.jsonl").open("a") as stream:
        stream.write(json.dumps({"_id": "new", "title": "", "text": "audit covers equity"}) + "\n")
    run_pipeline(config(tiny_beir, tiny_model, out), last="corpus")
    assert ran(out) == ["documents", "corpus"] * 2
    assert "audit covers equity" in (out / "corpus" / "corpus.jsonl").read_text()


def wait_for(folder: Path, stage: str, sign: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the stage has begun and left its sign, or fail with what the process said."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        started = (folder / "events.jsonl").exists() and stage in ran(folder)
        if started and (not sign or list(folder.glob(sign))):
            return
        time.sleep(0.01)
    raise AssertionError(f"{stage} never got that far")


def test_settings_that_a_run_recorded_have_the_fingerprints_of_the_run() -> None:
    """`fieldtune index RUN` reads them; a 900 that comes back as 900.0 would have every stage run again."""
    for preset in ("quick", "balanced", "best"):
        given = make_config({"preset": preset})
        read = make_config(json.loads(json.dumps(given.model_dump(by_alias=True))))
        assert digest(given.model_dump()) == digest(read.model_dump())


@pytest.mark.parametrize(
    ("stage", "sign"),
    [
        ("documents", ""),
        ("corpus", ""),
        ("queries", ""),
        ("dataset", "vectors/*.json"),
        ("training", "training/state/checkpoint.pt"),
        ("evaluation", ""),
        ("index", ""),
    ],
)
def test_a_killed_run_ends_with_the_same_metrics_as_an_undisturbed_one(
    stage: str, sign: str, tiny_beir: Path, tiny_model: str, tmp_path: Path
) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    slow = {"epochs": 20, "evaluations": 5, "checkpoint_seconds": 0.05}
    run_pipeline(config(tiny_beir, tiny_model, calm, **slow))
    arguments = [sys.executable, "-c", RUN, json.dumps(settings(tiny_beir, tiny_model, killed, **slow))]
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(arguments, stdout=said, stderr=said)
        wait_for(killed, stage, sign, process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    finished = [name for name in NAMES if (killed / "stages" / f"{name}.json").exists()]
    assert len(finished) < len(NAMES)
    run_pipeline(config(tiny_beir, tiny_model, killed, **slow))
    assert systems(killed) == systems(calm)
    starts = ran(killed)
    assert all(starts.count(name) == 1 for name in finished)  # nothing finished is done again
    if stage == "training":
        steps = [row["step"] for row in map(json.loads, (killed / "training" / "log.jsonl").read_text().splitlines())]
        assert sorted(set(steps)) == sorted(
            {row["step"] for row in map(json.loads, (calm / "training" / "log.jsonl").read_text().splitlines())}
        )


def test_what_a_stage_left_unfinished_is_not_taken_for_finished_when_its_settings_come_back(
    tiny_beir: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    first = config(tiny_beir, tiny_model, out)
    run_pipeline(first, last="queries")
    before = (out / "queries" / "queries.jsonl").read_bytes()

    def torn(run: Run) -> Result:
        run.path("queries", "queries.jsonl").write_text("half of something else")
        raise KeyboardInterrupt

    whole = STAGES[NAMES.index("queries")]
    stages = [dataclasses.replace(whole, run=torn) if stage is whole else stage for stage in STAGES]
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("fieldtune.pipeline.STAGES", tuple(stages))
        run_pipeline(first.model_copy(update={"queries": first.queries.model_copy(update={"fuzzy_match": 0.5})}))
    run_pipeline(first, last="queries")
    assert (out / "queries" / "queries.jsonl").read_bytes() == before


def test_what_a_stage_decided_and_left_out_is_said_while_it_runs(
    tiny_beir: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.csv"
    known = json.loads((tiny_beir / "corpus.jsonl").read_text().splitlines()[0])["text"]
    labels.write_text(f'question,passage\none?,"{known}"\ntwo?,"quite unlike anything that stands there"\n')
    given = settings(tiny_beir, tiny_model, tmp_path / "run") | {"queries": {"from": str(labels)}}
    run_pipeline(make_config(given), last="queries")
    said = capsys.readouterr().err
    assert "left out, labelled passage not found in the corpus: 1" in said
    assert "1 labelled passages are not in the corpus; not_found.jsonl lists them." in said


def test_two_runs_in_one_folder_are_refused(tiny_beir: Path, tiny_model: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with Workspace(out), pytest.raises(BusyError, match="another fieldtune process is working in"):
        run_pipeline(config(tiny_beir, tiny_model, out))


def test_unknown_stages_and_folders_without_a_run_are_named(tiny_beir: Path, tiny_model: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no stage 'trainig'"):
        run_pipeline(config(tiny_beir, tiny_model, tmp_path / "run"), first="trainig")
    with pytest.raises(ConfigError, match="lies behind"):
        run_pipeline(config(tiny_beir, tiny_model, tmp_path / "run"), first="index", last="corpus")
    with pytest.raises(InputError, match="no run in it"):
        recorded_config(tmp_path)
    with pytest.raises(ConfigError, match=r"documents\.paths is empty"):
        run_pipeline(make_config({"out": str(tmp_path / "empty"), "model": {"base": tiny_model}}))


def test_settings_come_from_the_preset_the_file_and_the_command_line_in_this_order(tmp_path: Path) -> None:
    path = tmp_path / "fieldtune.toml"
    path.write_text('preset = "quick"\nout = "here"\n[training]\nbatch_size = 8\n[documents]\npaths = ["docs"]\n')
    loaded = load_config(path, parse_overrides(["training.learning_rate=1e-4"]))
    assert loaded.training.batch_size == 8
    assert loaded.training.learning_rate == 1e-4
    assert loaded.training.epochs == make_config({"preset": "quick"}).training.epochs
    assert loaded.out == str(tmp_path / "here")
    assert loaded.documents.paths == (str(tmp_path / "docs"),)
    assert merge({"a": {"b": 1}}, {"a": {"c": 2}}) == {"a": {"b": 1, "c": 2}}


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("[training]\nepoch = 3\n", "training.epoch is not a setting", "did you mean epochs?"),
        ("[training]\nepochs = -1\n", "training.epochs", "init"),
        ('preset = "fast"\n', "preset 'fast' is unknown", "quick"),
        ("[training\n", "not valid TOML", "mend"),
        ("training = 3\n", "training is a section, got 3", "init"),
        ("[split]\ndev = 0.5\ntest = 0.5\n", "split: dev and test together must be less than 1", "init"),
        ("[corpus]\noverlap_tokens = 300\n", "corpus: overlap_tokens and min_tokens must be smaller", "init"),
        ("[evaluation]\ncutoffs = [0]\n", "evaluation.cutoffs.0", "init"),
    ],
)
def test_a_wrong_config_names_file_setting_and_cure(text: str, says: str, hint: str, tmp_path: Path) -> None:
    path = tmp_path / "fieldtune.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(path) in caught.value.message
    assert says in caught.value.message
    assert hint in caught.value.hint


def test_no_passage_is_longer_than_the_base_model_reads(tiny_beir: Path, tiny_model: str, tmp_path: Path) -> None:
    from fieldtune.models import token_counter

    (tmp_path / "long.txt").write_text("\n\n".join(f"The lease ends when notice {n} starts." for n in range(60)))
    given = settings(tiny_beir, tiny_model, tmp_path / "run") | {"documents": {"paths": [str(tmp_path / "long.txt")]}}
    result = run_pipeline(make_config(given | {"queries": {"from": "structure"}}), last="corpus")[-1]
    rows = [json.loads(line) for line in (tmp_path / "run" / "corpus" / "corpus.jsonl").read_text().splitlines()]
    assert max(token_counter(tiny_model)([f"{row['title']} {row['text']}" for row in rows])) <= 32
    assert any("the most that" in sentence for sentence in result.notes)


def test_more_dimensions_than_the_model_has_are_refused_before_any_work(
    tiny_beir: Path, tiny_model: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="has 32"):
        run_pipeline(config(tiny_beir, tiny_model, tmp_path / "run", matryoshka=[64]))
    assert not (tmp_path / "run" / "stages").exists()


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"dev_dimension": 64}, "dev_dimension asks for 64 dimensions, .* has 32"),
        ({"query_tokens": 40}, "query_tokens asks for 40 tokens, .* is set to read 32"),
        ({"passage_tokens": 33}, "passage_tokens asks for 33 tokens"),
        ({"method": "lora", "seeds": 3}, "training.seeds averages whole models"),
        ({"method": "adapter", "base_share": 0.3}, "training.base_share mixes weights"),
        ({"m3": {"train": "both"}, "seeds": 2}, "training.seeds=2 does not go with training.m3.train=both"),
        ({"loss": "guided", "guide": "builtin:nothing-like-it"}, "nothing-like-it"),
        ({"replay": "/no/such/rows.jsonl"}, "no such file"),
        ({"method": "qlora"}, "qlora needs an NVIDIA GPU"),
    ],
)
def test_what_training_would_refuse_is_refused_before_any_work(
    tiny_beir: Path,
    tiny_model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    training: dict[str, object],
    said: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    given = config(tiny_beir, tiny_model, tmp_path / "run", **training)
    with pytest.raises(FieldtuneError, match=said) as caught:
        run_pipeline(given)
    assert caught.value.hint
    with pytest.raises(FieldtuneError, match=said):
        search_settings(given, tmp_path / "search", trials=2)
    assert not (tmp_path / "run").exists() and not (tmp_path / "search").exists()


def test_what_is_made_ready_here_may_be_trained_on_another_machine(
    tiny_beir: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    given = config(tiny_beir, tiny_model, tmp_path / "run", method="qlora")
    assert run_pipeline(given, last="documents")[-1].stage == "documents"


def test_more_tokens_than_the_model_reads_are_refused_before_any_work(
    tiny_beir: Path, tiny_model: str, tmp_path: Path
) -> None:
    given = settings(tiny_beir, tiny_model, tmp_path / "run") | {"model": {"base": tiny_model, "max_tokens": 65}}
    with pytest.raises(ModelError, match="at most 64 tokens") as caught:
        run_pipeline(make_config(given))
    assert "64 or less (its own limit is 32)" in caught.value.hint
    assert not (tmp_path / "run").exists()


def test_the_preset_best_ends_where_dev_no_longer_gains(tiny_beir: Path, tiny_model: str, tmp_path: Path) -> None:
    given = settings(tiny_beir, tiny_model, tmp_path / "run")
    given |= {"preset": "best", "training": {"batch_size": 8, "learning_rate": 1e-7, "precision": "fp32"}}
    counts = run_pipeline(make_config(given), last="training")[-1].counts
    measured = [row["step"] for row in learning_curve(tmp_path / "run") if "dev_ndcg@10" in row]
    assert counts["best step"] == measured[1]  # nothing is learnt at that rate, so the first is never beaten
    assert counts["steps"] == measured[-1] and len(measured) == 1 + 1 + 3  # of the eight there might have been
    patience = {name: make_config({"preset": name}).training.patience for name in ("quick", "balanced", "best")}
    assert patience == {"quick": 0, "balanced": 0, "best": 3}


def test_search_is_chosen_by_dev_queries_and_knows_the_base(
    tiny_beir: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fieldtune.index

    given: list[tuple[int, bool]] = []

    def noticed(*args: object, dev: fieldtune.index.Dev, base: object, **rest: object) -> Result:
        given.append((len(dev.texts), base is not None))
        assert len(dev.vectors) == dev.judged.queries == len(dev.texts)
        return Result("index", {})

    monkeypatch.setattr(fieldtune.index, "build_index", noticed)
    out = tmp_path / "run"
    run_pipeline(make_config(settings(tiny_beir, tiny_model, out)))
    run_pipeline(make_config(settings(tiny_beir, tiny_model, out) | {"index": {"base": False}}))
    dev = {line.split("\t")[0] for line in (out / "data" / "qrels" / "dev.tsv").read_text().splitlines()[1:]}
    assert given == [(len(dev), True), (len(dev), False)]


def test_a_share_of_the_base_weights_is_kept_when_asked(tiny_beir: Path, tiny_model: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    def weights(share: float) -> dict[str, torch.Tensor]:
        out = tmp_path / str(share)
        result = run_pipeline(config(tiny_beir, tiny_model, out, base_share=share), last="training")[-1]
        assert any("base_share" in sentence for sentence in result.notes) == (share > 0)
        return load_file(out / "model" / "model.safetensors")

    base, tuned, half = load_file(Path(tiny_model) / "model.safetensors"), weights(0.0), weights(0.5)
    moved = 0.0
    for name, value in tuned.items():
        torch.testing.assert_close(half[name], (base[name] + value) / 2)
        moved += float((value - base[name]).abs().sum())
    assert moved > 1


OWN_CODE = """
from transformers import BertConfig, BertModel


class OwnConfig(BertConfig):
    model_type = "own-bert"


class OwnModel(BertModel):
    config_class = OwnConfig
"""


def with_own_code(model: str, folder: Path) -> str:
    """A copy of the model whose transformer loads by Python code in its folder alone."""
    shutil.copytree(model, folder)
    path = next(folder.rglob("config.json"))
    stated = json.loads(path.read_text()) | {"model_type": "own-bert", "architectures": ["OwnModel"]}
    stated["auto_map"] = {"AutoConfig": "modeling_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
    path.write_text(json.dumps(stated))
    path.with_name("modeling_own.py").write_text(OWN_CODE)
    return str(folder)


def test_a_base_with_code_of_its_own_is_tuned_measured_and_indexed_where_that_is_trusted(
    tiny_beir: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    given = settings(tiny_beir, with_own_code(tiny_model, tmp_path / "own"), tmp_path / "run", epochs=1, evaluations=1)
    with pytest.raises(ModelError) as caught:
        run_pipeline(make_config(given))
    assert "model.trust_remote_code" in caught.value.hint
    trusting = make_config(merge(given, {"model": {"trust_remote_code": True}}))
    run_pipeline(trusting)
    assert set(systems(tmp_path / "run")) == {"base", "tuned", "BM25"}
    assert (tmp_path / "run" / "index" / "meta.json").exists()
    changed = tmp_path / "corpus.jsonl"
    changed.write_text("".join((tiny_beir / "corpus.jsonl").read_text().splitlines(keepends=True)[:50]))
    assert reindex(trusting, [str(changed)], add=False).counts["passages"] == 50
    with pytest.raises(ModelError) as caught:  # whoever gets the model decides anew
        Encoder.load(str(tmp_path / "run" / "model"))
    assert "FIELDTUNE_TRUST_REMOTE_CODE=1" in caught.value.hint
    with pytest.raises(ModelError):
        Index.open(tmp_path / "run").search("rent", k=3, mode="dense")
    monkeypatch.setenv("FIELDTUNE_TRUST_REMOTE_CODE", "1")  # for search, serve, export and compare
    assert len(Index.open(tmp_path / "run").search("rent", k=3, mode="dense")) == 3
