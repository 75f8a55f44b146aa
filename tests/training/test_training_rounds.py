from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fieldtune.beir import load_beir
from fieldtune.config import M3, Training, make_config
from fieldtune.dataset import build_dataset, read_examples, write_examples
from fieldtune.encoding import Encoder, tokens
from fieldtune.errors import ModelError
from fieldtune.training import loop, rounds, tune
from fieldtune.training.development import Development
from fieldtune.training.pairs import make_pairs
from fieldtune.training.recipe import Recipe
from fieldtune.training.rounds import train_in_rounds
from fieldtune.training.soup import train_seeds
from fieldtune.types import Example

TEXTS = [f"article {n} lease {n} covers rent {n}" for n in range(40)]
ROWS = [Example(f"what ends {n}", (TEXTS[n],), (TEXTS[(n + 1) % 40],)) for n in range(40)]
DEVELOPMENT = Development([f"what ends {n}" for n in range(40)], TEXTS, [{n: 1} for n in range(40)], 1, True)
SETTINGS = Training(epochs=6, batch_size=8, learning_rate=1e-3, evaluations=4, checkpoint_seconds=0.001)


def run(model: str, work: Path, mined: list[tuple[int, str]], count: int = 3) -> tuple[Encoder, loop.Progressed]:
    encoder = Encoder.load(model, precision="fp32")

    def mine(tuned: Encoder, number: int, folder: Path) -> list[Example]:
        mined.append((number, tuned.fingerprint))
        return [Example(row.query, row.pos, (TEXTS[(place + number) % 40],)) for place, row in enumerate(ROWS)]

    recipe = Recipe(SETTINGS, 20.0, (32,), 5)
    return encoder, train_in_rounds(encoder, make_pairs(ROWS), recipe, DEVELOPMENT, work, "k", count, mine)


def weights(encoder: Encoder) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in encoder.model.state_dict().items()}


def test_each_round_mines_with_other_weights_and_steps_are_counted_through(tiny_model: str, tmp_path: Path) -> None:
    mined: list[tuple[int, str]] = []
    encoder, state = run(tiny_model, tmp_path, mined)
    assert [number for number, _ in mined] == [2, 3]
    assert len({encoder.fingerprint, *(fingerprint for _, fingerprint in mined)}) == 3
    assert state.step == 6 * 5
    assert [row["step"] for row in state.log if "loss" in row] == [10, 20, 30]
    assert [row["round"] for row in state.log if "loss" in row] == [1, 2, 3]
    assert state.best_score > state.base_score
    assert DEVELOPMENT.score(encoder).mean() == pytest.approx(state.best_score, abs=1e-6)


@pytest.mark.parametrize("stop", [4, 13, 25])
def test_a_run_killed_in_any_round_ends_with_the_weights_of_an_undisturbed_one(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    mined: list[tuple[int, str]] = []
    calm, state = run(tiny_model, tmp_path / "calm", mined)
    real, steps = loop._step, []

    def failing(*arguments: object) -> tuple[float, float]:
        steps.append(1)
        if len(steps) == stop:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "_step", failing)
    again: list[tuple[int, str]] = []
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, tmp_path / "cut", again)
    torch.manual_seed(999)
    resumed, other = run(tiny_model, tmp_path / "cut", again)
    assert len(steps) == state.step + 1  # no step twice
    assert len(again) == 2  # and no mining
    assert other.log == state.log
    for name, weight in weights(calm).items():
        assert torch.equal(weight, weights(resumed)[name]), name


def test_a_disk_that_fills_while_rows_are_mined_anew_costs_no_round(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(rounds, "write_examples", full)
    mined: list[tuple[int, str]] = []
    with pytest.raises(ModelError, match="disk is full: the rows mined anew could not be written") as caught:
        run(tiny_model, tmp_path, mined, 2)
    assert "same command" in caught.value.hint
    kept = (tmp_path / "round-1" / "checkpoint.pt").read_bytes()
    monkeypatch.undo()
    real, steps = loop._step, []
    monkeypatch.setattr(loop, "_step", lambda *arguments: [steps.append(1), real(*arguments)][1])
    _, state = run(tiny_model, tmp_path, mined, 2)
    assert len(steps) == 15 and state.step == 30  # the second round's alone
    assert (tmp_path / "round-1" / "checkpoint.pt").read_bytes() == kept


def test_what_begins_at_a_step_counts_the_steps_of_all_rounds(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Training] = []

    def took(encoder: Encoder, pairs: object, recipe: Recipe, *_: object) -> loop.Progressed:
        given.append(recipe.settings)
        return loop.Progressed(step=10)

    monkeypatch.setattr(rounds, "train", took)
    monkeypatch.setattr(rounds, "_mined", lambda *_: tmp_path / "rows.jsonl")
    monkeypatch.setattr(rounds, "load_weights", lambda *_: None)
    write_examples(tmp_path / "rows.jsonl", ROWS)
    settings = SETTINGS.model_copy(update={"m3": M3(train="both", self_distillation_from=14)})
    encoder = Encoder.load(tiny_model, precision="fp32")
    recipe = Recipe(settings, 20.0, (32,), 5)
    train_in_rounds(encoder, make_pairs(ROWS), recipe, DEVELOPMENT, tmp_path, "k", 3, lambda *_: [])
    assert [one.m3.self_distillation_from for one in given] == [14, 4, 0]
    assert [one.epochs for one in given] == [2, 2, 2]


def test_a_round_that_ends_worse_is_undone(tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[dict[str, torch.Tensor]] = []
    real = rounds.train
    scores = iter([0.5, 0.3])

    def scored(encoder: Encoder, *arguments: object) -> loop.Progressed:
        state = real(encoder, *arguments)  # type: ignore[arg-type]
        kept.append(weights(encoder))
        state.best_score = next(scores)
        return state

    monkeypatch.setattr(rounds, "train", scored)
    encoder, state = run(tiny_model, tmp_path, [], 2)
    assert state.best_score == 0.5
    assert state.best_step <= 15
    assert any(not torch.equal(kept[0][name], kept[1][name]) for name in kept[0])
    for name, weight in weights(encoder).items():
        assert torch.equal(weight, kept[0][name]), name


def test_the_stage_mines_anew_with_the_tuned_model(tiny_model: str, tiny_beir: Path, tmp_path: Path) -> None:
    general = [{"query": f"how do bees live {n}", "pos": [f"bees live in hives {n}"]} for n in range(3)]
    (tmp_path / "general.jsonl").write_text("".join(json.dumps(row) + "\n" for row in general))
    config = make_config({
        "negatives": {"rounds": 2, "per_query": 2, "depth": 30}, "model": {"base": tiny_model},
        "training": {"epochs": 8, "batch_size": 16, "learning_rate": 2e-3, "evaluations": 2, "precision": "fp32",
                     "replay": str(tmp_path / "general.jsonl")},
    })  # fmt: skip
    encoder = Encoder.load(tiny_model, precision="fp32")
    build_dataset(config, load_beir(tiny_beir), {}, encoder, tmp_path / "data", tmp_path / "vectors")
    data = load_beir(tmp_path / "data")
    examples = tmp_path / "data" / "train.jsonl"
    result = tune(config, data, examples, encoder, tmp_path, tmp_path / "vectors")
    mined = next((tmp_path / "training" / "state" / "round-2").glob("train-*.jsonl"))
    before, after = read_examples(examples), read_examples(mined)
    # General rows are replayed in each round.
    assert [row.query for row in after[len(before) :]] == [row["query"] for row in general]
    after = after[: len(before)]
    assert [row.query for row in before] == [row.query for row in after]
    assert [row.pos for row in before] == [row.pos for row in after]
    changed = sum(set(one.neg) != set(other.neg) for one, other in zip(before, after, strict=True))
    assert changed > len(before) / 4
    assert result.details["mined anew"][0]["round"] == 2
    assert "ran in 2 rounds" in " ".join(result.notes)


def test_texts_are_tokenised_once_for_seeds_rounds_and_a_killed_run(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_SMALL", 1)
    written: list[str] = []
    real = tokens.write_ids

    def counted(path: Path, blocks: Any) -> None:
        written.append(path.parent.name)
        real(path, blocks)

    monkeypatch.setattr(tokens, "write_ids", counted)
    same = [Example(row.query, row.pos, row.neg) for row in ROWS]
    encoder = Encoder.load(tiny_model, precision="fp32")
    recipe = Recipe(SETTINGS.model_copy(update={"epochs": 2, "evaluations": 2}), 20.0, (32,), 5, states=tmp_path)

    def train_one(number: int, folder: Path, word: str) -> loop.Progressed:
        seeded = replace(recipe, seed=5 + number)
        return train_in_rounds(encoder, make_pairs(ROWS), seeded, DEVELOPMENT, folder, word, 2, lambda *_: same)

    train_seeds(encoder, DEVELOPMENT, tmp_path, 2, train_one)
    assert written == ["tokens", "tokens"]  # queries and passages
    train_seeds(Encoder.load(tiny_model, precision="fp32"), DEVELOPMENT, tmp_path, 2, train_one)  # all is done: resumed
    assert len(written) == len(list((tmp_path / "tokens").iterdir())) == 2
    loop.train(encoder, make_pairs(ROWS), replace(recipe, states=None), DEVELOPMENT, tmp_path / "own", "k")
    assert len(list((tmp_path / "own" / "tokens").iterdir())) == 2
