from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fieldtune.beir import RetrievalData, load_beir
from fieldtune.config import Training, make_config
from fieldtune.dataset import build_dataset
from fieldtune.encoding import Encoder
from fieldtune.errors import ConfigError, InputError
from fieldtune.probes.sets import RetrievalProbe, SimilarityProbe
from fieldtune.training import loop, tune
from fieldtune.training import stage as training_stage
from fieldtune.training.anchor import anchored
from fieldtune.training.blend import Point, choose, choose_blend, kept_weights, set_weights
from fieldtune.training.checkpoint import Progressed
from fieldtune.training.decide import decide
from fieldtune.training.development import Development
from fieldtune.training.general import Replayed, require_replayed, with_base_share
from fieldtune.training.loop import Hooks, train
from fieldtune.training.pairs import make_pairs
from fieldtune.training.recipe import Recipe
from fieldtune.training.replay import replay_rows
from fieldtune.training.soup import train_seeds
from fieldtune.types import Example, Passage, Query, Result

TEXTS = [f"article {n} lease {n} covers rent {n}" for n in range(40)]
ROWS = [Example(f"what ends {n}", (TEXTS[n],)) for n in range(40)]
DEVELOPMENT = Development([f"what ends {n}" for n in range(40)], TEXTS, [{n: 1} for n in range(40)], 1, True)
GRADED = SimilarityProbe(
    "graded",
    tuple(f"rent {n}" for n in range(40)),
    tuple(f"rent {n} {'lease' if n % 2 else 'fever cough asthma insulin'}" for n in range(40)),
    tuple(float(n % 2) for n in range(40)),
)


def recipe(seed: int = 5, **changes: object) -> Recipe:
    given = {"epochs": 8, "batch_size": 8, "learning_rate": 1e-3, "evaluations": 2, "checkpoint_seconds": 0.001}
    return Recipe(Training(**(given | changes)), 20.0, (32,), seed)  # type: ignore[arg-type]


def distance(model: object, base: dict[str, torch.Tensor]) -> float:
    return sum(float((now - base[name]).square().sum()) for name, now in kept_weights(model).items())


def test_of_the_shares_within_the_limit_the_best_on_dev_is_taken() -> None:
    curve = [
        Point(0.0, 0.70, -0.030, {}), Point(0.1, 0.69, -0.020, {}), Point(0.2, 0.66, -0.009, {}),
        Point(0.3, 0.67, -0.008, {}), Point(0.4, 0.67, -0.001, {}),
    ]  # fmt: skip
    assert choose(curve, 0.01).base_share == 0.3  # not 0.2, which is worse on dev; not 0.4, which is not better
    assert choose(curve, 0.05).base_share == 0.0
    assert choose(curve, 0.0005).base_share == 0.4  # none is within: the one that lost least
    assert choose([Point(n / 10, None, -0.03 + n / 100, {}) for n in range(4)], 0.01).base_share == 0.2  # no dev
    assert choose([Point(0.0, 0.5, None, {}), Point(0.1, 0.6, None, {})], 0.01).base_share == 0.1  # no probe


def test_a_chosen_share_lies_on_the_measured_curve_and_its_weights_are_in_place(
    tiny_model: str, tmp_path: Path
) -> None:
    encoder = Encoder.load(tiny_model, precision="fp32")
    base = kept_weights(encoder.model)
    train(encoder, make_pairs(ROWS), recipe(), DEVELOPMENT, tmp_path, "k")
    tuned = kept_weights(encoder.model)
    shares = (0.0, 0.5, 0.9)
    found = choose_blend(encoder, base, DEVELOPMENT, [GRADED], 0.0001, shares)
    assert [point.base_share for point in found.curve] == list(shares)
    assert found.curve[0].dev != found.curve[2].dev
    nearest = found.curve[-1]
    assert nearest.general is not None
    assert found.curve[0].general is not None
    assert abs(nearest.general) < abs(found.curve[0].general)  # nearer to the base model, less is moved
    expected = found.chosen.base_share
    for name, weight in kept_weights(encoder.model).items():
        assert torch.allclose(weight, tuned[name].lerp(base[name], expected), atol=1e-7), name
    assert found.chosen.dev == pytest.approx(float(DEVELOPMENT.score(encoder).mean()))
    json.dumps(found.rows())


def test_the_anchor_is_half_the_squared_distance_and_holds_the_weights_back(tiny_model: str, tmp_path: Path) -> None:
    moved = []
    for strength in (0.0, 30.0):
        encoder = Encoder.load(tiny_model, precision="fp32")
        base = kept_weights(encoder.model)
        penalty = anchored(encoder.model, strength)
        assert penalty().item() == 0
        hooks = Hooks(penalty=penalty if strength else None)
        train(encoder, make_pairs(ROWS), recipe(), None, tmp_path / str(strength), "k", hooks)
        moved.append(distance(encoder.model, base))
        assert penalty().item() == pytest.approx(0.5 * strength * moved[-1], rel=1e-3)
    assert moved[1] < 0.5 * moved[0]


@pytest.mark.parametrize("frozen", [True, False])
def test_the_anchor_holds_no_copy_of_weights_that_stay(
    frozen: bool, tiny_model: str, tiny_beir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []

    def counted(model: Any, strength: float) -> Any:
        held.append(sum(weight.numel() for weight in model.parameters() if weight.requires_grad))
        return anchored(model, strength)

    monkeypatch.setattr(training_stage, "anchored", counted)
    result = stage(tiny_model, tiny_beir, tmp_path, anchor=0.1, freeze_embeddings=frozen, epochs=1)
    assert held == [result.counts["trainable parameters"]]
    inner = Encoder.load(tiny_model).model
    words = inner.transformers_model.get_input_embeddings().weight.numel()
    assert held[0] == sum(weight.numel() for weight in inner.parameters()) - (words if frozen else 0)


def seeds(model: str, work: Path, development: Development | None, count: int = 3) -> tuple[Encoder, object, list[int]]:
    encoder = Encoder.load(model, precision="fp32")
    began: list[int] = []

    def train_one(number: int, folder: Path, word: str) -> Progressed:
        began.append(number)
        return train(encoder, make_pairs(ROWS), recipe(5 + number, epochs=2), development, folder, f"k{word}")

    return encoder, train_seeds(encoder, development, work, count, train_one), began


def test_a_soup_is_never_worse_on_dev_than_its_best_seed(tiny_model: str, tmp_path: Path) -> None:
    encoder, soup, _ = seeds(tiny_model, tmp_path, DEVELOPMENT)
    singles = [row["dev"] for row in soup.rows if row["soup"] == "single"]  # type: ignore[attr-defined]
    assert len(set(singles)) > 1  # the seeds differ
    assert soup.state.best_score == max(row["dev"] for row in soup.rows) >= max(singles)  # type: ignore[attr-defined]
    assert float(DEVELOPMENT.score(encoder).mean()) == pytest.approx(soup.state.best_score, abs=1e-6)  # type: ignore[attr-defined]
    assert soup.state.step == 3 * 10  # type: ignore[attr-defined]
    assert [row["step"] for row in soup.state.log if "loss" in row] == [10, 20, 30]  # type: ignore[attr-defined]


def test_without_dev_the_soup_is_the_mean_of_all_seeds(tiny_model: str, tmp_path: Path) -> None:
    encoder, _, _ = seeds(tiny_model, tmp_path / "all", None, 2)
    singles = []
    for number in range(2):
        alone = Encoder.load(tiny_model, precision="fp32")
        train(alone, make_pairs(ROWS), recipe(5 + number, epochs=2), None, tmp_path / str(number), "k")
        singles.append(kept_weights(alone.model))
    for name, weight in kept_weights(encoder.model).items():
        assert torch.allclose(weight, (singles[0][name] + singles[1][name]) / 2, atol=1e-6), name


def test_a_killed_soup_repeats_no_seed(tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calm, _, _ = seeds(tiny_model, tmp_path / "calm", DEVELOPMENT)
    real, steps = loop._step, []

    def failing(*arguments: object) -> tuple[float, float]:
        steps.append(1)
        if len(steps) == 16:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "_step", failing)
    with pytest.raises(KeyboardInterrupt):
        seeds(tiny_model, tmp_path / "cut", DEVELOPMENT)
    resumed, _, _ = seeds(tiny_model, tmp_path / "cut", DEVELOPMENT)
    assert len(steps) == 3 * 10 + 1
    left, right = kept_weights(calm.model), kept_weights(resumed.model)
    assert all(torch.equal(left[name], right[name]) for name in left)


def general_file(folder: Path) -> Path:
    rows = [{"query": f"how do bees live {n}", "pos": [f"bees live in hives {n}"]} for n in range(30)]
    rows += [
        {"query": "Rent 3", "pos": ["a text of a probe"]},
        {"query": "does it hold", "pos": ["rent 4 fever cough asthma insulin"]},
        {"query": "What ends 7?", "pos": ["a leak"]},
        {"query": "nothing", "pos": []},
    ]
    path = folder / "general.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "no json\n")
    return path


def test_replayed_rows_hold_neither_probes_nor_dev_queries_and_all_are_counted(tmp_path: Path) -> None:
    data = RetrievalData({"p": Passage("p", "", "text")}, {"q": Query("q", "what ends 7")}, {"dev": {"q": {"p": 1}}})
    own = RetrievalProbe("own", RetrievalData({"x": Passage("x", "", "x")}, {"y": Query("y", "bees?")}, {}))
    found = replay_rows(general_file(tmp_path), ROWS, 0.2, data, [GRADED, own], 1)
    assert len(found.examples) == 10  # 10 of 50 are 20%
    assert len({row.query for row in found.examples}) == 10
    assert all("bees" in row.query for row in found.examples)
    assert found.dropped["replay row: a text of the general-ability probes"] == 2
    assert found.dropped["replay row: a dev or test query"] == 1
    assert sum(found.dropped.values()) == 5
    assert any("general.jsonl:35" in line for line in found.broken)
    again = replay_rows(general_file(tmp_path), ROWS, 0.2, data, [GRADED, own], 1)
    assert again.examples == found.examples
    assert len(replay_rows(general_file(tmp_path), ROWS, 0.9, data, [GRADED], 1).examples) == 30
    (tmp_path / "bad.jsonl").write_text('{"query": "rent 1", "pos": ["x"]}\n')
    with pytest.raises(InputError, match="no row can be replayed"):
        replay_rows(tmp_path / "bad.jsonl", ROWS, 0.2, data, [GRADED], 1)


def stage(model: str, beir: Path, work: Path, **training: object) -> Result:
    given = {"epochs": 4, "batch_size": 16, "learning_rate": 2e-3, "evaluations": 2, "precision": "fp32"}
    pairs = work / "own.csv"
    work.mkdir(exist_ok=True)
    rows = zip(GRADED.first, GRADED.second, GRADED.grades, strict=True)
    pairs.write_text("sentence1,sentence2,score\n" + "".join(f"{a},{b},{grade}\n" for a, b, grade in rows))
    config = make_config({
        "model": {"base": model}, "training": given | training,
        "evaluation": {"general_data": [str(pairs)]}, "negatives": {"per_query": 0},
    })  # fmt: skip
    encoder = Encoder.load(model, precision="fp32")
    build_dataset(config, load_beir(beir), {}, encoder, work / "data", work / "vectors")
    data = load_beir(work / "data")
    return tune(config, data, work / "data" / "train.jsonl", encoder, work, work / "vectors")


def test_the_stage_takes_it_all_together(tiny_model: str, tiny_beir: Path, tmp_path: Path) -> None:
    replay = general_file(tmp_path)
    result = stage(tiny_model, tiny_beir, tmp_path / "run", base_share="auto", seeds=2, anchor=0.01, replay=str(replay))
    curve = result.details["base_share"]["curve"]
    assert [point["base_share"] for point in curve] == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert {name for point in curve for name in point["probes"]} >= {"own"}
    chosen = next(point for point in curve if point["base_share"] == result.details["base_share"]["chosen"])
    assert result.counts["dev nDCG@10 after"] == pytest.approx(chosen["dev"], abs=1e-4)
    assert result.dropped["replay row: broken"] == 2
    log = [json.loads(line) for line in (tmp_path / "run" / "training" / "log.jsonl").read_text().splitlines()]
    assert [row for row in log if "base_share" in row] == json.loads(json.dumps(curve))
    assert {row["seed"] for row in log if "loss" in row} == {1, 2}
    assert (tmp_path / "run" / "model" / "fieldtune.json").exists()
    said = " ".join(result.notes)
    for word in ("rows of general.jsonl", "Of 2 seeds", "training.base_share ="):
        assert word in said


def test_general_rows_have_no_say_in_the_loss_scale(tiny_model: str, tmp_path: Path) -> None:
    field = [Example(f"rent {n}", (TEXTS[n],), (TEXTS[(n + 1) % 40],)) for n in range(40)]
    words = ("fever", "cough", "asthma", "insulin", "audit", "revenue")
    general = [Example(f"{words[n % 6]} {n}", (f"{words[n % 5]} {words[n % 4]} {n}",)) for n in range(200)]
    config = make_config({"model": {"base": tiny_model}})
    encoder = Encoder.load(tiny_model, precision="fp32")

    def scale(rows: list[Example], own: int | None = None) -> tuple[float, str]:
        made, notes = decide(config, make_pairs(rows), encoder, tmp_path / "train.jsonl", tmp_path, own)
        return made.scale, next(note for note in notes if note.startswith("Loss scale"))

    alone = scale(field)
    assert scale([*field, *general], 40) == alone
    assert scale([*field, *general]) != alone  # they would have moved it


@pytest.mark.parametrize(("loss", "lacking"), [("triplet", "no hard negatives"), ("cosent", "no scores")])
def test_general_rows_that_the_loss_cannot_use_are_refused(
    tiny_model: str, tmp_path: Path, loss: str, lacking: str
) -> None:
    field = [Example(f"q{n}", (f"p{n}",), (f"n{n}",), (0.9,), (0.1 * n,)) for n in range(3)]
    general = Replayed([Example("g1", ("a",)), Example("g2", ("b",))])
    pairs = make_pairs([*field, *general.examples])
    config = make_config({"model": {"base": tiny_model}, "training": {"loss": loss, "replay": "general.jsonl"}})
    examples = tmp_path / "train.jsonl"
    made, notes = decide(config, pairs, Encoder.load(tiny_model, precision="fp32"), examples, tmp_path)
    assert f"The loss {loss} learns nothing from 2 of 5 training queries: {lacking}." in notes
    with pytest.raises(ConfigError, match=lacking):
        require_replayed(general, pairs, made)
    require_replayed(Replayed(), pairs, made)
    require_replayed(general, pairs, replace(made, loss="mnrl"))
    taught = config.model_copy(update={"training": config.training.model_copy(update={"loss": "kl"})})
    made, notes = decide(taught, pairs, Encoder.load(tiny_model, precision="fp32"), examples, tmp_path)
    assert any(note.startswith("2 of 5 training queries have no scores") for note in notes)
    require_replayed(general, pairs, made)


@pytest.mark.parametrize(("share", "middle"), [(0.0, 0.3), (0.2, 0.2)])
def test_a_share_that_is_set_has_its_curve_too(
    tiny_model: str, tiny_beir: Path, tmp_path: Path, share: float, middle: float
) -> None:
    result = stage(tiny_model, tiny_beir, tmp_path / "run", base_share=share)
    none, mixed, base = result.details["base_share"]["curve"]
    assert [point["base_share"] for point in (none, mixed, base)] == [0.0, middle, 1.0]
    assert [point["taken"] for point in (none, mixed, base)] == [not share, bool(share), False]
    assert base["dev"] == pytest.approx(result.counts["dev nDCG@10 before"], abs=1e-4)
    taken = mixed if share else none
    assert result.counts["dev nDCG@10 after"] == pytest.approx(taken["dev"], abs=1e-4)
    assert "own" in none["probes"]
    assert none["general"] == pytest.approx(np.mean(list(none["probes"].values())), abs=1e-6)
    assert base["general"] == 0 and set(base["probes"]) == set(none["probes"])
    log = [json.loads(line) for line in (tmp_path / "run" / "training" / "log.jsonl").read_text().splitlines()]
    assert [row for row in log if "base_share" in row] == json.loads(json.dumps([none, mixed, base]))
    assert not (tmp_path / "run" / "model" / "fieldtune.json").exists()  # nothing was chosen by the probes
    # The curve changes nothing in what is saved.
    other = stage(tiny_model, tiny_beir, tmp_path / "without", base_share=share, share_curve=False)
    assert other.details.get("base_share", {"curve": []})["curve"] == []
    left, right = (weights(tmp_path / name / "model") for name in ("run", "without"))
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    start = weights(Path(tiny_model))
    assert any(not torch.equal(left[name], start[name]) for name in left)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return kept_weights(Encoder.load(str(folder), precision="fp32").model)


def test_the_weights_of_a_soup_are_counted_as_those_of_one_seed(
    tiny_model: str, tiny_beir: Path, tmp_path: Path
) -> None:
    counts = [
        stage(tiny_model, tiny_beir, tmp_path / str(seeds), seeds=seeds, freeze_layers=1, epochs=1).counts
        for seeds in (1, 2)
    ]
    every = sum(weight.numel() for weight in Encoder.load(tiny_model).model.parameters())
    assert counts[0]["trainable parameters"] == counts[1]["trainable parameters"] < every


def test_weights_that_were_not_trained_stay(tiny_model: str) -> None:
    model = Encoder.load(tiny_model).model
    base = kept_weights(model)
    name = next(iter(base))
    set_weights(model, base, {name: base[name] + 2}, 0.5)
    after = kept_weights(model)
    assert torch.allclose(after[name], base[name] + 1, atol=1e-6)
    assert all(torch.equal(after[other], base[other]) for other in base if other != name)
    assert np.isfinite(float(after[name].sum()))


def asked_and_made(asked: int, made: int) -> RetrievalData:
    styles = ["human"] * (asked // 2) + [""] * (asked - asked // 2) + ["title", "llm-formal"] * made
    queries = {f"q{n}": Query(f"q{n}", f"query {n}", style) for n, style in enumerate(styles[: asked + made])}
    return RetrievalData({"p": Passage("p", "", "text")}, queries, {"train": {key: {"p": 1} for key in queries}})


@pytest.mark.parametrize(
    ("asked", "made", "settings", "share"),
    [
        (4, 0, {}, 0.0),
        (4, 3, {}, 0.0),
        (4, 5, {}, 0.3),
        (0, 5, {"method": "lora"}, 0.3),
        (0, 5, {"method": "adapter"}, 0.0),
        (0, 5, {"m3": {"train": "both"}}, 0.0),
        (0, 5, {"base_share": 0.2}, 0.2),
        (0, 5, {"base_share": "auto"}, "auto"),
        (4, 0, {"base_share": 0.2}, 0.2),
    ],
)
def test_some_of_the_base_stays_where_queries_were_made(
    asked: int, made: int, settings: dict[str, Any], share: float | str
) -> None:
    config = make_config({"training": settings})
    found, notes = with_base_share(config, asked_and_made(asked, made))
    assert found.training.base_share == share
    assert bool(notes) == (share == 0.3)
    assert found.training.model_copy(update={"base_share": config.training.base_share}) == config.training
