from __future__ import annotations

import csv
import errno
import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fieldtune import training
from fieldtune.beir import RetrievalData, load_beir
from fieldtune.cli import main
from fieldtune.config import METHODS, PRESETS, load_config, make_config, merge
from fieldtune.disk import room_to_write
from fieldtune.encoding import Encoder
from fieldtune.errors import ConfigError, InputError, ModelError
from fieldtune.pipeline import outlook, require_fit, run_pipeline
from fieldtune.training.devices import world
from fieldtune.training.stage import development_of
from fieldtune.tuning import search_settings
from fieldtune.tuning import trial as trial_module
from fieldtune.tuning.command import tune_settings
from fieldtune.tuning.journal import Trial, budget_left, hopeless, read_journal, write_journal
from fieldtune.tuning.proposals import propose
from fieldtune.tuning.share import settle_share
from fieldtune.tuning.space import Setting, search_space, whole, with_settings
from fieldtune.tuning.winner import write_winner
from fieldtune.types import Result

SPACE = [
    Setting("training.learning_rate", (1e-5, 3e-5, 1e-4, 3e-4), 3e-5),
    Setting("training.epochs", (1.0, 2.0, 4.0), 2.0),
    Setting("training.loss", ("mnrl", "gte"), "mnrl", ordered=False),
]


def trial(number: int, settings: dict[str, Any], dev: float | None = 0.5, **more: Any) -> Trial:
    rungs = more.pop("rungs", () if dev is None else (dev,))
    return Trial(number, settings, more.pop("state", "done"), dev, rungs, more.pop("seconds", 60.0), **more)


def searched(count: int, explore: int, seed: int = 1) -> list[Trial]:
    trials: list[Trial] = []
    for _ in range(count):
        settings = propose(SPACE, trials, explore, seed)
        if settings is None:
            break
        trials.append(trial(len(trials) + 1, settings, 1 - abs(settings["training.learning_rate"] - 3e-4)))
    return trials


def test_the_first_trial_is_the_config_and_no_settings_come_twice() -> None:
    trials = searched(100, 12)
    assert trials[0].settings == {setting.name: setting.own for setting in SPACE}
    assert len(trials) == 4 * 3 * 2  # until nothing is left
    assert len({json.dumps(one.settings, sort_keys=True) for one in trials}) == 24
    assert [one.settings for one in searched(10, 5)] == [one.settings for one in searched(10, 5)]
    assert [one.settings for one in searched(10, 5, 2)] != [one.settings for one in searched(10, 5, 1)]


def test_first_the_values_come_evenly_then_the_best_trial_has_neighbours() -> None:
    trials = searched(9, 5)
    assert len({one.settings["training.learning_rate"] for one in trials[1:5]}) >= 3
    for place in range(5, 9):
        best = max(trials[:place], key=lambda one: one.dev or 0)
        changed = [name for name, value in trials[place].settings.items() if value != best.settings[name]]
        assert 1 <= len(changed) <= 2
        for setting in SPACE[:2]:
            steps = [setting.values.index(one.settings[setting.name]) for one in (trials[place], best)]
            assert abs(steps[0] - steps[1]) <= 1


def test_a_trial_below_the_median_is_hopeless_from_half_way_on() -> None:
    others = [trial(n, {}, rungs=rungs) for n, rungs in enumerate([(0.5, 0.6, 0.7, 0.7), (0.4, 0.5, 0.6), (0.6, 0.7)])]
    assert hopeless((0.3, 0.55), others, 4)  # below 0.6, the median of 0.6, 0.5 and 0.7
    assert not hopeless((0.3, 0.6), others, 4)
    assert not hopeless((0.61, 0.2), others, 4)  # its best counts, as it does for the kept weights
    assert not hopeless((0.1,), others, 4)  # too early
    assert not hopeless((0.1, 0.1, 0.1, 0.1), others, 4)  # nothing is left to be saved
    assert not hopeless((0.1, 0.1, 0.1), others, 4)  # only two others got there
    assert not hopeless((0.1, 0.1), others[:2], 4)


def test_a_budget_is_one_of_trials_or_time_or_both() -> None:
    three = [trial(n, {}, seconds=60) for n in range(3)]
    assert budget_left([], 1, 0.001)  # one is always made
    assert budget_left(three, 4, 0)
    assert not budget_left(three, 3, 0)
    assert budget_left(three, 0, 4)  # another minute fits
    assert not budget_left(three, 0, 3.9)
    assert not budget_left(three, 3, 100)


def test_the_journal_comes_back_as_it_was_and_is_refused_for_another_search(tmp_path: Path) -> None:
    trials = [
        trial(1, {"training.epochs": 2.0}, rungs=(0.1, 0.5), base=0.4, notes=("No gain on dev.", "Collapsed.")),
        trial(2, {}, None, state="failed", why="loss is nan"),
    ]
    path = tmp_path / "trials.jsonl"
    assert read_journal(path, "key") == []
    write_journal(path, "key", trials)
    assert read_journal(path, "key") == trials
    with pytest.raises(ConfigError, match="search over other data"):
        read_journal(path, "another")


def test_the_written_config_reads_back_as_the_same(tmp_path: Path) -> None:
    config = make_config({
        "preset": "best", "seed": 3, "out": str(tmp_path / "run"),
        "queries": {"from": str(tmp_path), "styles": {"case": 5}},
        "training": {"learning_rate": 2e-5, "loss": "gte", "matryoshka": [32, 16], "base_share": "auto"},
        "negatives": {"style_limits": {"keywords": 1}}, "model": {"query_prompt": "query: "},
        "documents": {"paths": [str(tmp_path / 'a "b"')]},
    })  # fmt: skip
    write_winner(tmp_path / "fieldtune.toml", config)
    assert load_config(tmp_path / "fieldtune.toml") == config
    assert "epochs" not in (tmp_path / "fieldtune.toml").read_text()  # the preset says it


@pytest.mark.parametrize("method", ["full", *METHODS])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_winner_at_the_defaults_of_preset_or_method_reads_back_as_the_same(
    preset: str, method: str, tmp_path: Path
) -> None:
    names = ("learning_rate", "epochs", "evaluations", "patience")
    own: dict[str, Any] = {"method": method}
    for given in ({}, {"method": "query"}, {"method": "lora"}, own):
        defaults = make_config({"preset": preset, "training": given}).training
        values = {name: getattr(defaults, name) for name in names}
        config = make_config({"preset": preset, "out": str(tmp_path / "run"), "training": own | values})
        write_winner(tmp_path / "fieldtune.toml", config)
        assert load_config(tmp_path / "fieldtune.toml") == config
    assert not [name for name in names if name in (tmp_path / "fieldtune.toml").read_text()]  # they are the method's


def test_a_winner_of_relative_paths_is_written_with_absolute_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_winner(tmp_path / "s" / "fieldtune.toml", make_config({"training": {"replay": "general.jsonl"}}))
    read = load_config(tmp_path / "s" / "fieldtune.toml")
    assert (read.training.replay, read.out) == (str(tmp_path / "general.jsonl"), str(tmp_path / "run"))


def config_for(beir: Path, model: str, out: Path, **training_settings: Any) -> Any:
    given = {"batch_size": 16, "learning_rate": 1e-3, "evaluations": 4, "epochs": 2, "precision": "fp32"}
    return make_config({
        "out": str(out), "queries": {"from": str(beir)}, "model": {"base": model},
        "negatives": {"per_query": 2, "depth": 30}, "training": given | training_settings,
        "evaluation": {"general": False},
    })  # fmt: skip


def test_what_is_searched_fits_the_rows_and_what_is_fixed_is_left_out(
    tiny_beir: Path, tiny_model: str, tmp_path: Path
) -> None:
    config = config_for(tiny_beir, tiny_model, tmp_path)
    run_pipeline(config, last="dataset")
    encoder = Encoder.load(tiny_model, precision="fp32")
    rows, vectors = tmp_path / "data" / "train.jsonl", tmp_path / "vectors"
    space = {one.name: one for one in search_space(config, encoder, rows, vectors, ())}
    assert space["training.learning_rate"].values == (2e-4, 4e-4, 1e-3, 2e-3, 4e-3)
    assert space["training.hard_negatives"].values == (0, 1, 2)  # no more were mined
    assert "auto" in space["training.scale"].values
    assert "kl" not in space["training.loss"].values  # there is no teacher
    assert "gte" in space["training.loss"].values
    assert all(one.own in one.values for one in space.values())
    alone = config_for(tiny_beir, tiny_model, tmp_path, m3={"train": "both", "in_batch": False})
    own = {one.name: one for one in search_space(alone, encoder, rows, vectors, ())}
    assert own["training.hard_negatives"].values == (1, 2)  # without any there would be nothing to learn from
    plain = config_for(tiny_beir, tiny_model, tmp_path, loss="triplet")
    assert "training.scale" not in {one.name for one in search_space(plain, encoder, rows, vectors, ())}
    left = search_space(config, encoder, rows, vectors, {"training.loss", "training.epochs"})
    assert {one.name for one in left} == set(space) - {"training.loss", "training.epochs"}


def space_of(config: Any, folder: Path, fixed: Any = (), guide: str = "") -> dict[str, Setting]:
    run_pipeline(config, last="dataset")
    encoder = Encoder.load(config.model.base, precision="fp32")
    space = search_space(config, encoder, folder / "data" / "train.jsonl", folder / "vectors", fixed, guide)
    return {one.name: one for one in space}


def test_values_that_training_refuses_are_not_tried(
    tiny_beir: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = space_of(config_for(tiny_beir, tiny_model, tmp_path, m3={"train": "both"}), tmp_path)
    assert "training.loss" not in space  # of those that fit the rows it takes none but its own
    assert {"training.epochs", "training.scale"} <= set(space)
    told = " ".join(capsys.readouterr().err.split())
    assert "training.loss=gte is not tried: training.loss=gte does not go with training.m3.train=both" in told


def test_a_batch_that_needs_the_gradient_cache_has_it_with_every_loss(
    tiny_beir: Path, tiny_model: str, tmp_path: Path
) -> None:
    config = config_for(tiny_beir, tiny_model, tmp_path, loss="cached", batch_size=32)
    losses = space_of(config, tmp_path)["training.loss"]
    made = {loss: with_settings(config, whole([losses], {losses.name: loss})).training for loss in losses.values}
    assert {"cached", "gte", "symmetric"} <= set(made) and "mnrl" not in made
    assert all(one.gradient_cache for loss, one in made.items() if loss != "cached")
    assert made["cached"] == config.training
    plain = space_of(config_for(tiny_beir, tiny_model, tmp_path), tmp_path)["training.loss"]
    assert not any(plain.along.values())
    fixed_vectors = config_for(tiny_beir, tiny_model, tmp_path, loss="cached", method="query")
    assert {"gte", "symmetric"} <= set(space_of(fixed_vectors, tmp_path)["training.loss"].values)


def test_the_second_model_of_one_loss_is_not_left_to_others(tiny_beir: Path, tiny_model: str, tmp_path: Path) -> None:
    for number, given in enumerate(({"loss": "guided"}, {})):
        out = tmp_path / str(number)
        config = config_for(tiny_beir, tiny_model, out / "run", guide=tiny_model, **given)
        (found,) = (one for one in search_settings(config, out, trials=1).space if one.name == "training.loss")
        assert found.along["guided"] == {"training.guide": tiny_model}
        assert found.along["gte"] == {"training.guide": ""}
    with pytest.raises(ConfigError, match=r"training\.guide is set"):  # no trial will look at it
        search_settings(config, tmp_path / "fixed", trials=1, fixed={"training.loss"})


@pytest.mark.parametrize("rslora", [False, True])
def test_a_change_of_any_rank_is_multiplied_by_as_much(
    rslora: bool, tiny_beir: Path, tiny_model: str, tmp_path: Path
) -> None:
    config = config_for(tiny_beir, tiny_model, tmp_path, method="lora", lora={"rank": 8, "alpha": 24, "rslora": rslora})
    ranks = space_of(config, tmp_path)["training.lora.rank"]
    for rank in ranks.values:
        made = with_settings(config, whole([ranks], {ranks.name: rank})).training.lora
        assert made.rank == rank
        assert made.alpha / (rank**0.5 if rslora else rank) == pytest.approx(24 / (8**0.5 if rslora else 8), rel=1e-5)
    assert len(ranks.values) == 5
    assert not space_of(config, tmp_path, {"training.lora.alpha"})["training.lora.rank"].along  # it is to stay


def test_what_goes_with_a_value_is_in_the_record_the_table_and_the_winner(
    tiny_beir: Path, tiny_model: str, tmp_path: Path
) -> None:
    config = config_for(tiny_beir, tiny_model, tmp_path / "run", method="lora", epochs=1, evaluations=1)
    fixed = {f"training.{name}" for name in ("learning_rate", "epochs", "scale", "loss", "hard_negatives")}
    found = search_settings(config, tmp_path, trials=9, fixed=fixed)
    assert sorted(one.settings["training.lora.rank"] for one in found.trials) == [4, 8, 16, 32, 64]  # none twice
    assert all(one.settings["training.lora.alpha"] == 2 * one.settings["training.lora.rank"] for one in found.trials)
    _, *table = csv.DictReader((tmp_path / "trials.csv").open())
    assert all(float(row["training.lora.alpha"]) == 2 * int(row["training.lora.rank"]) for row in table)
    adapter = json.loads((found.model / "adapter" / "adapter_config.json").read_text())
    assert adapter["lora_alpha"] == 2 * adapter["r"]  # it was trained so
    winner = load_config(found.config).training.lora
    assert (winner.rank, winner.alpha) == (adapter["r"], adapter["lora_alpha"])


def test_a_search_goes_on_with_other_settings_that_no_trial_looks_at(
    tiny_beir: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fieldtune.training.fit.require_reporters", lambda _: None)  # it need not be installed
    config = config_for(tiny_beir, tiny_model, tmp_path / "run", epochs=1, evaluations=1)
    first = search_settings(config, tmp_path, trials=1)
    idle = {
        "serving": {"port": 9_999}, "documents": {"workers": 1}, "encoding": {"check_queries": 9},
        "card": {"title": "Law"},
        "training": {"checkpoint_seconds": 5, "share_curve": False, "report_to": ["tensorboard"], "seeds": 2},
    }  # fmt: skip
    given = config.model_dump(by_alias=True)
    other = make_config(merge(given, idle))
    assert search_settings(other, tmp_path, trials=1).trials == first.trials
    for decisive in ({"training": {"batch_size": 8}}, {"seed": 14}, {"encoding": {"precision": "bf16"}}):
        with pytest.raises(ConfigError, match="search over other data"):
            search_settings(make_config(merge(given, decisive)), tmp_path, trials=1)
    assert search_settings(config, tmp_path, trials=1).trials == first.trials
    dev = tmp_path / "run" / "data" / "qrels" / "dev.tsv"
    dev.write_text("\n".join(dev.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(ConfigError, match="search over other data"):
        search_settings(config, tmp_path, trials=1)


def test_a_search_from_the_command_line_writes_config_table_and_model_without_looking_at_test(
    tiny_beir: Path,
    tiny_model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[set[str]] = []
    real = training.tune

    def spied(config: Any, data: Any, *arguments: Any, **more: Any) -> Any:
        seen.append(set(data.qrels))
        return real(config, data, *arguments, **more)

    monkeypatch.setattr(training, "tune", spied)
    out = tmp_path / "out"
    words = ["tune", "--data", str(tiny_beir), "--model", tiny_model, "--out", str(out), "--trials", "4"]
    fixed = ["training.batch_size=16", "training.epochs=3", "training.precision=fp32", "evaluation.general=false"]
    for setting in fixed:
        words += ["--set", setting]
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 0
    assert seen == [{"train", "dev"}] * 4
    said = capsys.readouterr().out
    assert "too good by the luck of the choice" in " ".join(said.split())
    base, *table = csv.DictReader((out / "trials.csv").open())
    assert [row["trial"] for row in table] == ["1", "2", "3", "4"]
    assert "training.epochs" not in table[0]  # it was fixed
    winner = load_config(out / "fieldtune.toml")
    encoder = Encoder.load(tiny_model, precision="fp32")
    development = development_of(winner, load_beir(out / "run" / "data"), encoder, out / "run" / "vectors")
    assert development is not None
    assert (base["trial"], base["state"]) == ("base", "")
    assert float(base["dev"]) == pytest.approx(development.score(encoder).mean(), abs=1e-4)
    best = max((row for row in table if row["state"] == "done"), key=lambda row: float(row["dev"]))
    assert winner.training.learning_rate == float(best["training.learning_rate"])
    assert winner.training.loss == best["training.loss"]
    assert winner.training.epochs == 3
    assert winner.training.base_share == 0  # what was trained and measured, whoever asked the queries
    (kept,) = (out / "trials").iterdir()  # models are large
    assert int(kept.name) == int(best["trial"])
    assert (kept / "model" / "modules.json").exists()
    results = {result.stage for result in run_pipeline(winner, last="training")}  # the stages before are not repeated
    assert "training" in results


@pytest.mark.parametrize("base", ["./base", "base"])
def test_paths_typed_for_a_search_hold_wherever_its_config_is_read(
    base: str, tiny_beir: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_model, tmp_path / "base")
    rows = [{"query": f"what lease {n}", "pos": [f"article {n} rent"]} for n in range(20)]
    (tmp_path / "general.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["tune", "--data", tiny_beir.name, "--model", base, "--out", "s", "--trials", "1"]
    fixed = ["batch_size=16", "epochs=1", "evaluations=1", "precision=fp32", "replay=general.jsonl"]
    for setting in [*(f"training.{one}" for one in fixed), "evaluation.general=false"]:
        words += ["--set", setting]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    winner = load_config(tmp_path / "s" / "fieldtune.toml")
    assert winner.model.base == str(tmp_path / "base")
    assert winner.training.replay == str(tmp_path / "general.jsonl")
    assert [state for _, state, _ in outlook(winner)[:4]] == ["done"] * 4  # what the search made is not made again


def test_a_killed_search_goes_on_where_it_was(
    tiny_beir: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(name: str) -> list[Trial]:
        config = config_for(tiny_beir, tiny_model, tmp_path / name / "run")
        return list(search_settings(config, tmp_path / name, trials=4).trials)

    calm = search("calm")
    from fieldtune.training import loop

    real, steps = loop._step, []

    def failing(*arguments: object) -> tuple[float, float]:
        steps.append(1)
        if len(steps) == 29:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "_step", failing)
    with pytest.raises(KeyboardInterrupt):
        search("cut")
    finished = len((tmp_path / "cut" / "trials.jsonl").read_text().splitlines()) - 1
    assert 1 <= finished < 4
    again = search("cut")
    assert [(one.settings, one.state, one.rungs) for one in again] == [
        (one.settings, one.state, one.rungs) for one in calm
    ]
    more = search_settings(config_for(tiny_beir, tiny_model, tmp_path / "cut" / "run"), tmp_path / "cut", trials=5)
    assert [one.number for one in more.trials] == [1, 2, 3, 4, 5]
    with pytest.raises(ConfigError, match="search over other data"):
        search_settings(
            config_for(tiny_beir, tiny_model, tmp_path / "cut" / "run", batch_size=8), tmp_path / "cut", trials=5
        )


@pytest.mark.parametrize(("base", "beaten"), [(0.4, True), (0.5, False), (0.9, False)])
def test_a_search_that_does_not_beat_the_base_model_says_so(
    base: float,
    beaten: bool,
    tiny_beir: Path,
    tiny_model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores = iter([0.3, 0.5])

    def trained(*_: Any, watch: Any, **__: Any) -> Result:
        watch({"step": 9, "dev_ndcg@10": next(scores)})
        counts = {"dev nDCG@10 before": base, "dev nDCG@10 after": 0.5}
        return Result("training", counts, notes=("At step 9 all vectors were alike.",))

    monkeypatch.setattr(training, "tune", trained)
    out = tmp_path / "out"
    words = ["tune", "--data", str(tiny_beir), "--model", tiny_model, "--out", str(out), "--trials", "2"]
    for _ in range(2):  # the second time from what the first one kept
        with pytest.raises(SystemExit) as left:
            main([*words, "--set", "evaluation.general=false"])
        assert left.value.code == 0
        said = " ".join(capsys.readouterr().out.split())
        assert f"best: trial 2, dev 0.5000 (base {base:.4f})" in said
        assert "trial 2: At step 9 all vectors were alike." in said
        assert "trial 1: At step 9" not in said
        assert ("No trial is better on dev than the base model" in said) == (not beaten)
        assert ("keep the base model" in said and "data/train.jsonl" in said) == (not beaten)
        assert next(csv.DictReader((out / "trials.csv").open()))["dev"] == f"{base:.4f}"
        assert load_config(out / "fieldtune.toml").model.base == tiny_model
    assert next(scores, None) is None


def test_a_trial_that_fails_is_recorded_but_the_first_one_is_told(
    tiny_beir: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(tiny_beir, tiny_model, tmp_path / "run")
    real = training.tune
    calls: list[int] = []

    def failing(*arguments: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise ModelError("the loss is nan at step 3 of 9", "lower the rate")
        if len(calls) == 3:
            raise ConfigError("training.loss kl: the teacher gives all passages of a query the same score", "another")
        return real(*arguments, **more)

    monkeypatch.setattr(training, "tune", failing)
    found = search_settings(config, tmp_path, trials=4)
    assert [one.state for one in found.trials] == ["done", "failed", "failed", "done"]
    assert found.trials[1].dev is found.trials[2].dev is None
    assert "loss is nan" in found.trials[1].why and "same score" in found.trials[2].why
    assert found.best.number not in (2, 3)
    shutil.rmtree(tmp_path / "run")
    calls[:] = [1]
    with pytest.raises(ModelError, match="loss is nan"):
        search_settings(config, tmp_path / "other", trials=3)


def test_a_trial_on_a_full_disk_is_no_failed_trial(
    tiny_beir: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        with room_to_write(tmp_path, "the checkpoint"):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(training, "tune", full)
    config = config_for(tiny_beir, tiny_model, tmp_path / "run")
    inputs = trial_module.Inputs(RetrievalData({}, {}, {}), tmp_path, tmp_path, {}, tmp_path)
    with pytest.raises(ModelError, match="disk is full"):
        trial_module.run_trial(config, inputs, tmp_path / "002", 2, {}, lambda _: False)


@pytest.mark.parametrize("half_way", [True, False])
def test_a_trial_that_left_the_other_processes_in_a_step_ends_the_search(
    half_way: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "_joined", world.World(0, 2, torch.device("cpu"), None))
    monkeypatch.setattr(Encoder, "load", lambda *_, **__: None)

    def failing(*_: Any, **__: Any) -> Any:
        with world.together() if half_way else nullcontext():
            raise ModelError("the GPU's memory does not hold a batch", "a smaller training.batch_size")

    monkeypatch.setattr(training, "tune", failing)
    inputs = trial_module.Inputs(RetrievalData({}, {}, {}), tmp_path, tmp_path, {}, tmp_path)

    def second() -> Trial:
        return trial_module.run_trial(make_config({}), inputs, tmp_path / "002", 2, {}, lambda _: False)

    if half_way:  # the next trial would wait for them for ever
        with pytest.raises(ModelError, match="does not hold a batch"):
            second()
    else:
        assert second().state == "failed"


def test_a_resumed_trial_has_its_own_scores_alone_and_all_of_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_000.0]
    monkeypatch.setattr(trial_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(Encoder, "load", lambda *_, **__: None)
    config = make_config({"training": {"evaluations": 4}})
    inputs = trial_module.Inputs(RetrievalData({}, {}, {}), tmp_path, tmp_path, {}, tmp_path)

    def ran(
        rows: dict[int, float], *, killed: bool = False, search: str = "one", epochs: float = 2, at: str = "003"
    ) -> Trial | None:
        def train(*_: Any, watch: Any, **__: Any) -> Result:
            for step, score in rows.items():
                now[0] += 60
                watch({"step": step, "dev_ndcg@10": score})
            now[0] += 25
            watch({"step": step + 1, "loss": 1.0})  # long after: the time is noted though nothing is measured
            if killed:
                raise KeyboardInterrupt
            counts = {"pairs": 9, "dev nDCG@10 before": 0.1, "dev nDCG@10 after": 0.9, "dev loss before": 3.0}
            return Result("training", counts, notes=("Vectors were all alike.",))

        monkeypatch.setattr(training, "tune", train)
        settings = {"training.epochs": epochs}
        try:
            return trial_module.run_trial(config, inputs, tmp_path / at, 3, settings, lambda _: False, search)
        except KeyboardInterrupt:
            return None

    assert ran({0: 0.1, 5: 0.9, 10: 0.8}, killed=True) is None
    made = ran({10: 0.7, 15: 0.75})  # from the checkpoint before the second evaluation, which is made anew
    assert made is not None and made.rungs == (0.9, 0.7, 0.75)
    assert made.seconds == 3 * 60 + 25 + 2 * 60 + 25
    assert (made.base, made.notes) == (0.1, ("Vectors were all alike.",))
    for number, other in enumerate(({"epochs": 3}, {"search": "another"})):
        folder = f"{number}"
        assert ran({5: 0.9, 10: 0.8}, killed=True, at=folder) is None
        made = ran({15: 0.3}, at=folder, **other)  # its steps come later: no score is overtaken
        assert made is not None and (made.rungs, made.dev, made.seconds) == ((0.3,), 0.3, 85)


def test_a_hopeless_trial_ends_early_and_its_state_is_said(tiny_beir: Path, tiny_model: str, tmp_path: Path) -> None:
    config = config_for(tiny_beir, tiny_model, tmp_path / "run")
    run_pipeline(config, last="dataset")
    run = tmp_path / "run"
    inputs = trial_module.Inputs(
        load_beir(run / "data"), run / "data" / "train.jsonl", run / "vectors", {}, tmp_path / "pretrained"
    )
    seen: list[int] = []

    def stop(scores: Any) -> bool:
        seen.append(len(scores))
        return len(scores) == 2

    made = trial_module.run_trial(config, inputs, tmp_path / "trial", 5, {"training.epochs": 4.0}, stop)
    assert seen == [1, 2]
    assert (made.state, len(made.rungs)) == ("stopped", 2)
    assert not (tmp_path / "trial" / "model").exists()
    assert "median" in made.why


def general_settings(model: str, folder: Path, limit: float) -> dict[str, Any]:
    """Of evaluation, with a set of general ability of which every training loses some."""
    pairs = folder / "own.csv"
    first, second = ([f"{word} {n}" for n in range(40)] for word in ("rent", "lease covers"))
    base = Encoder.load(model, precision="fp32")
    own = (base.encode(first, "query") * base.encode(second, "query")).sum(axis=1)  # nobody is better at being the base
    rows = [f"{one},{other},{grade:.6f}" for one, other, grade in zip(first, second, own, strict=True)]
    pairs.write_text("sentence1,sentence2,score\n" + "\n".join(rows) + "\n")
    return {"general": True, "general_data": (str(pairs),), "max_general_loss": limit}


def test_a_winner_that_lost_general_ability_gets_a_share_of_its_base(
    tiny_beir: Path, tiny_model: str, tmp_path: Path
) -> None:
    # 0 and not "queries", the config's own, which mixes some of the base in where queries were made: no trial did.
    for limit, share in ((1e-9, "auto"), (0.99, 0)):
        out = tmp_path / str(limit)
        config = config_for(tiny_beir, tiny_model, out / "run", learning_rate=5e-3)
        general = general_settings(tiny_model, tmp_path, limit)
        config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update=general)})
        found = search_settings(config, out, trials=1)
        curve = json.loads((found.model.parent / "base_share.json").read_text())
        assert len(curve) == 7
        assert (curve[0]["general"] < -limit) == (share == "auto")
        assert load_config(found.config).training.base_share == share
        assert any("general ability" in sentence or "base_share" in sentence for sentence in found.notes)


@pytest.mark.parametrize("given", [0.4, "auto"])
def test_a_share_that_is_given_is_left_as_it_is(given: Any, tiny_beir: Path, tiny_model: str, tmp_path: Path) -> None:
    config = config_for(tiny_beir, tiny_model, tmp_path, base_share=given)
    inputs = trial_module.Inputs(RetrievalData({}, {}, {}), tmp_path, tmp_path, {}, tmp_path)
    encoder = Encoder.load(tiny_model, precision="fp32")
    assert settle_share(config, inputs, encoder, tmp_path, ()) == ({}, ())
    asked = config_for(tiny_beir, tiny_model, tmp_path)
    assert settle_share(asked, inputs, encoder, tmp_path, {"training.base_share"}) == ({}, ())


@pytest.mark.parametrize("unmixed", [{"m3": {"train": "both"}}, {"method": "adapter"}, {"method": "query"}])
def test_a_training_that_takes_no_share_gets_none(
    unmixed: dict[str, Any], tiny_beir: Path, tiny_model: str, tmp_path: Path
) -> None:
    config = config_for(tiny_beir, tiny_model, tmp_path / "run", learning_rate=5e-3, epochs=1, **unmixed)
    general = general_settings(tiny_model, tmp_path, 1e-9)
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update=general)})
    found = search_settings(config, tmp_path, trials=1)
    winner = load_config(found.config)
    assert winner.training.base_share == "queries"  # of which such a training makes 0
    require_fit(winner)
    assert not (found.model.parent / "base_share.json").exists()


def test_what_cannot_be_searched_is_named(tiny_beir: Path, tiny_model: str, tmp_path: Path) -> None:
    config = config_for(tiny_beir, tiny_model, tmp_path / "run")
    with pytest.raises(ConfigError, match="needs a budget"):
        search_settings(config, tmp_path)
    with pytest.raises(InputError, match="no such file"):
        tune_settings(tmp_path, tmp_path / "x", {}, trials=1, minutes=0)
    no_dev = config.model_copy(update={"split": config.split.model_copy(update={"dev": 0.0})})
    with pytest.raises(InputError, match="nothing to choose by"):
        search_settings(no_dev, tmp_path, trials=1)
