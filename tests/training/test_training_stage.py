"""The training stage with every loss: chosen by the rows, trained, saved, loaded afresh, honest about the result."""

from __future__ import annotations

import copy
import errno
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer

from fieldtune.beir import RetrievalData, load_beir
from fieldtune.config import Config, Training, make_config
from fieldtune.dataset import build_dataset, read_examples, write_examples
from fieldtune.encoding import Encoder, tokens
from fieldtune.errors import ConfigError, ModelError
from fieldtune.models import resolve_model
from fieldtune.training import loop, tune
from fieldtune.training.checkpoint import Progressed
from fieldtune.training.decide import decide
from fieldtune.training.development import Development
from fieldtune.training.fit import require_training
from fieldtune.training.losses.choice import LOSSES, choose, shape_of
from fieldtune.training.pairs import Pairs, make_pairs
from fieldtune.training.safety import collapsed, require_change, require_learning, verdict
from fieldtune.training.teachers import aligned_components
from fieldtune.types import Example, Result
from fieldtune.workspace import write_json


def config_for(model: str, **training: Any) -> Config:
    settings = {
        "epochs": 1, "batch_size": 16, "learning_rate": 2e-3, "evaluations": 1, "precision": "fp32",
        "matryoshka": [32, 16],
    }  # fmt: skip
    return make_config({"model": {"base": model}, "negatives": {"per_query": 2, "depth": 30},
                        "training": settings | training})  # fmt: skip


@pytest.fixture
def field(tiny_model: str, tiny_beir: Path, tmp_path: Path) -> tuple[RetrievalData, Path]:
    """The data and the rows of a field, with a teacher's scores: the number of equal words."""
    encoder = Encoder.load(tiny_model, precision="fp32")
    build_dataset(config_for(tiny_model), load_beir(tiny_beir), {}, encoder, tmp_path / "data", tmp_path / "vectors")
    examples = tmp_path / "data" / "train.jsonl"

    def score(query: str, text: str) -> float:
        return float(len(set(query.split()) & set(text.split())))

    write_examples(examples, [
        replace(row, pos_scores=tuple(score(row.query, text) for text in row.pos),
                neg_scores=tuple(score(row.query, text) for text in row.neg))
        for row in read_examples(examples)
    ])  # fmt: skip
    write_json(examples.with_name("teacher.json"), {"kind": "cross-encoder"})
    return load_beir(tmp_path / "data"), examples


def trained(config: Config, field: tuple[RetrievalData, Path], work: Path) -> tuple[Encoder, Result]:
    encoder = Encoder.load(config.model.base, precision="fp32")
    return encoder, tune(config, field[0], field[1], encoder, work, work / "vectors")


@pytest.mark.parametrize("loss", [*LOSSES, "cached"])
def test_every_loss_trains_and_the_saved_model_serves_its_vectors(
    tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path, loss: str
) -> None:
    config = config_for(tiny_model, loss=loss, vector_teacher=tiny_model if loss == "vectors" else "", scale=10.0)
    encoder, result = trained(config, field, tmp_path / "run")
    assert result.details["loss"] == loss.replace("cached", "mnrl")
    assert result.details["least cosine to the saved model"] >= 0.9999
    queries = [query.text for query in field[0].queries.values()][:20]
    saved = SentenceTransformer(str(tmp_path / "run" / "model"), device="cpu").encode_query(queries)
    base = Encoder.load(tiny_model, precision="fp32").encode(queries, "query")
    assert np.einsum("ij,ij->i", saved, encoder.encode(queries, "query")).min() > 0.9999
    assert np.abs(base - encoder.encode(queries, "query")).max() > 1e-3
    assert result.counts["trainable parameters"] == sum(w.numel() for w in encoder.model.parameters())
    log = [json.loads(line) for line in (tmp_path / "run" / "training" / "log.jsonl").read_text().splitlines()]
    assert np.isfinite([row["loss"] for row in log if "loss" in row]).all()


@pytest.mark.parametrize(("loss", "epochs"), [("kl", 8), ("triplet", 12), ("symmetric", 8), ("cosent", 8)])
def test_losses_improve_dev(
    tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path, loss: str, epochs: int
) -> None:
    config = config_for(tiny_model, loss=loss, epochs=epochs)
    _, result = trained(config, field, tmp_path / "run")
    assert result.counts["dev nDCG@10 after"] > result.counts["dev nDCG@10 before"] + 0.1


def test_the_dev_score_of_qlora_is_that_of_the_merged_model(
    tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def coarse(transformer: Any, folder: Path, device: str) -> Any:
        """Stands for the base in 4 bits, which needs a GPU: weights that are off by a third."""
        made = copy.deepcopy(transformer)
        with torch.no_grad():
            for name, weight in made.named_parameters():
                if weight.dim() == 2 and "embeddings" not in name:
                    weight.mul_(1 + 0.6 * (torch.rand_like(weight) - 0.5))
        return made

    monkeypatch.setattr("fieldtune.training.methods.require_qlora", lambda device: None)
    monkeypatch.setattr("fieldtune.training.adapting.in_four_bits", coarse)
    seen: list[float] = []
    score = Development.score

    def scored(self: Development, encoder: Encoder) -> np.ndarray:
        found = score(self, encoder)
        seen.append(float(found.mean()))
        return found

    monkeypatch.setattr(Development, "score", scored)
    _, result = trained(config_for(tiny_model, method="qlora", epochs=4), field, tmp_path / "run")
    assert result.counts["dev nDCG@10 after"] == round(seen[0], 4)
    said = next(note for note in result.notes if "in 4 bits" in note and "full precision has" in note)
    assert f"{seen[0]:.4f}" in said
    log = [json.loads(line) for line in (tmp_path / "run" / "training" / "log.jsonl").read_text().splitlines()]
    on_the_way = [row["dev_ndcg@10"] for row in log if "dev_ndcg@10" in row]
    assert len(on_the_way) == 2 and max(on_the_way) != pytest.approx(seen[0], abs=1e-6)


def test_following_a_teachers_vectors_brings_the_student_to_them(
    tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path
) -> None:
    teacher = Encoder.load(tiny_model, precision="fp32")
    torch.manual_seed(4)
    with torch.no_grad():
        for weight in teacher.model.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    teacher.model.save(str(tmp_path / "teacher"))
    config = config_for(
        tiny_model, loss="vectors", vector_teacher=str(tmp_path / "teacher"), contrastive_share=0.0, epochs=6
    )
    student, _ = trained(config, field, tmp_path / "run")
    texts = [passage.content for passage in field[0].passages.values()]
    base = Encoder.load(tiny_model, precision="fp32")

    def apart(encoder: Encoder) -> float:
        """How far an encoder's similarities are from the teacher's."""
        ours, theirs = encoder.encode(texts, "passage"), teacher.encode(texts, "passage")
        return float(np.abs(ours @ ours.T - theirs @ theirs.T).mean())

    assert apart(student) < 0.7 * apart(base)
    cached = list((tmp_path / "run" / "vectors").glob("*.npy"))
    assert cached  # each text is encoded once per teacher


def test_components_keep_a_teachers_similarities_in_the_students_axes() -> None:
    rng = np.random.default_rng(0)
    teacher = (rng.normal(size=(300, 6)) @ rng.normal(size=(6, 24))).astype(np.float32)  # six directions in all
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    student = (teacher @ np.linalg.svd(teacher, full_matrices=False)[2][:6].T @ turn).astype(np.float32)
    moved = teacher @ aligned_components(teacher, student)
    np.testing.assert_allclose(moved @ moved.T, teacher @ teacher.T, atol=1e-2)
    np.testing.assert_allclose(moved, student, atol=1e-2)
    small = aligned_components(student, teacher)  # a teacher smaller than its student
    assert small.shape == (6, 24)
    np.testing.assert_allclose(student @ small @ small.T @ student.T, student @ student.T, atol=1e-2)


BARE = [Example(f"q{n}", (f"p{n}",)) for n in range(4)]
HARD = [replace(row, neg=(f"n{n}",)) for n, row in enumerate(BARE)]
# Rows without a wrong passage for any query: one query, one passage, passages that are right for all.
ONE_QUERY = [Example("q", tuple(f"p{n}" for n in range(4)))]
ONE_PASSAGE = [Example(f"q{n}", ("p",)) for n in range(4)]
ALIKE = [Example("q1", ("a",), known=("b",)), Example("q2", ("b",), known=("a",))]
ONE_HARD = [replace(ONE_QUERY[0], neg=("n",))]
M3_ALONE = {"train": "both", "in_batch": False}
TAUGHT = [replace(row, pos_scores=(3.0,), neg_scores=(-2.0,)) for row in HARD]


@pytest.mark.parametrize(
    ("wanted", "rows", "kind", "chosen"),
    [
        ("auto", BARE, "none", "mnrl"),
        ("auto", HARD, "none", "mnrl"),
        ("auto", TAUGHT, "cross-encoder", "kl"),
        ("auto", TAUGHT, "llm", "kl"),
        ("auto", TAUGHT, "embedder", "kl"),
        ("auto", TAUGHT, "cosine of the base model", "mnrl"),
        ("auto", TAUGHT, "given with the labels", "mnrl"),
        ("cached", BARE, "none", "mnrl"),
        ("auto", [*ONE_PASSAGE, Example("q0", ("other",))], "none", "mnrl"),
        ("auto", [replace(ONE_QUERY[0], neg=("n",))], "none", "mnrl"),
        ("margin_mse", TAUGHT, "given with the labels", "margin_mse"),
        ("cosent", HARD, "none", "cosent"),
    ],
)
def test_the_rows_decide_on_the_loss(wanted: str, rows: list[Example], kind: str, chosen: str) -> None:
    assert choose(wanted, shape_of(make_pairs(rows), kind)) == chosen


def test_replayed_rows_do_not_decide_on_the_loss() -> None:
    """However many general rows without scores are replayed, a field's scored rows are trained by their scores."""
    replayed = [Example(f"general {number}", (f"answer {number}",)) for number in range(5 * len(TAUGHT))]
    pairs = make_pairs([*TAUGHT, *replayed])
    own = len({row.query for row in TAUGHT})
    assert choose("auto", shape_of(pairs, "cross-encoder")) == "mnrl"
    assert choose("auto", shape_of(pairs, "cross-encoder", own)) == "kl"


@pytest.mark.parametrize(
    ("loss", "rows", "kind", "lacks"),
    [
        ("triplet", BARE, "none", "needs hard negatives"),
        ("contrastive", BARE, "none", "needs hard negatives"),
        ("kl", HARD, "none", "a teacher's scores"),
        ("margin_mse", TAUGHT, "cosine of the base model", "a teacher's scores"),
        ("cosine", BARE, "none", "scores that differ"),
        ("cosine", TAUGHT, "cross-encoder", "the lowest is -2"),
        ("mnrl", BARE[:1], "none", "two queries or more with different positives"),
        ("auto", ONE_QUERY, "none", "two queries or more with different positives"),
        ("gte", ONE_QUERY, "none", "two queries or more with different positives"),
        ("cached", ONE_PASSAGE, "none", "two queries or more with different positives"),
        ("symmetric", ALIKE, "none", "two queries or more with different positives"),
    ],
)
def test_a_loss_that_does_not_fit_is_named_with_the_rows_and_those_that_do(
    loss: str, rows: list[Example], kind: str, lacks: str
) -> None:
    pairs = make_pairs(rows)
    shape = shape_of(pairs, kind)
    with pytest.raises(ConfigError, match=lacks) as caught:
        choose(loss, shape)
    assert f"{len(pairs)} pairs" in caught.value.message
    fitting = caught.value.hint.partition("; or")[0].removeprefix("losses that fit them: ").split(", ")
    assert loss not in fitting
    for other in fitting if fitting != ["none"] else []:
        assert choose(other, shape) == other


@pytest.mark.parametrize(
    ("loss", "rows", "changes", "lacks"),
    [
        ("triplet", HARD, {"hard_negatives": 0}, "needs hard negatives .training.hard_negatives of 1 or more: it is 0"),
        ("contrastive", HARD, {"hard_negatives": 0}, "needs hard negatives .training.hard_negatives of 1"),
        ("online_contrastive", BARE, {"hard_negatives": 0}, "negatives.per_query, .*; training.hard_negatives of 1"),
        ("cosent", HARD, {"hard_negatives": 0}, "scores that differ, or hard negatives .training.hard_negatives of 1"),
        ("cosine", HARD, {"hard_negatives": 0}, "scores that differ, or hard negatives .training.hard_negatives of 1"),
        ("mnrl", ONE_HARD, {"hard_negatives": 0}, "different positives, or hard negatives .training.hard_negatives of"),
        ("mnrl", BARE, {"m3": M3_ALONE}, "needs training.m3.in_batch=true, or hard negatives .negatives.per_query"),
        ("mnrl", HARD, {"m3": M3_ALONE, "hard_negatives": 0}, "in_batch=true, or hard negatives .training.hard_neg"),
    ],
)
def test_negatives_that_no_step_draws_are_none(
    loss: str, rows: list[Example], changes: dict[str, Any], lacks: str
) -> None:
    pairs = make_pairs(rows)
    with pytest.raises(ConfigError, match=lacks) as caught:
        choose(loss, shape_of(pairs, "none", settings=Training(**changes)))
    if rows is not BARE:
        assert "set training.hard_negatives=1" in caught.value.hint
        choose(loss, shape_of(pairs, "none", settings=Training(**changes | {"hard_negatives": 1})))


def test_scored_passages_are_drawn_without_hard_negatives() -> None:
    pairs, bare = make_pairs(TAUGHT), Training(hard_negatives=0)
    for loss in ("kl", "cosent"):
        assert choose(loss, shape_of(pairs, "cross-encoder", settings=bare)) == loss


@pytest.mark.parametrize("loss", ["triplet", "contrastive", "online_contrastive"])
def test_a_loss_on_hard_negatives_of_which_none_is_drawn_is_refused_before_any_work(tiny_model: str, loss: str) -> None:
    with pytest.raises(ConfigError, match=f"loss {loss} learns from hard negatives, .*hard_negatives=0") as caught:
        require_training(config_for(tiny_model, loss=loss, hard_negatives=0), resolve_model(tiny_model))
    assert "training.hard_negatives=1" in caught.value.hint
    require_training(config_for(tiny_model, loss=loss), resolve_model(tiny_model))


def recipe_notes(model: str, tmp_path: Path, rows: list[Example], **training: Any) -> tuple[Any, str]:
    encoder = Encoder.load(model, precision="fp32")
    pairs: Pairs = make_pairs(rows)
    recipe, notes = decide(config_for(model, **training), pairs, encoder, tmp_path / "train.jsonl", tmp_path)
    return recipe, " ".join(notes)


def test_what_no_step_looks_at_is_said(tiny_model: str, tmp_path: Path) -> None:
    _, said = recipe_notes(tiny_model, tmp_path, HARD, dev_dimension=20, matryoshka=[16], hard_negatives=9)
    assert "Dev is measured at 20 dimensions (training.dev_dimension), a size that is not trained" in said
    assert "(training.matryoshka comes to 32, 16)" in said
    assert "training.hard_negatives is 9, and no query has more than 1 to draw from" in said
    for more in ({}, {"dev_dimension": 16, "matryoshka": [16]}, {"dev_dimension": 32}):
        _, said = recipe_notes(tiny_model, tmp_path, HARD, **more)
        assert "Dev is measured" not in said and "hard_negatives is" not in said
    _, said = recipe_notes(tiny_model, tmp_path, BARE)  # of the default, in rows without any, nothing is said
    assert "hard_negatives is" not in said


@pytest.mark.parametrize(("loss", "told"), [("mnrl", True), ("triplet", False), ("cosine", False)])
def test_a_scale_is_told_of_losses_that_have_one(
    loss: str, told: bool, tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path
) -> None:
    _, result = trained(config_for(tiny_model, loss=loss, epochs=1), field, tmp_path / "run")
    assert ("loss scale" in result.counts) == told
    assert any("Loss scale" in note for note in result.notes) == told


def test_the_cure_for_added_batches_is_one_that_the_method_takes(tiny_model: str, tmp_path: Path) -> None:
    for method, cure in (("full", "training.gradient_cache with the large"), ("query", "The large batch_size is,")):
        _, said = recipe_notes(tiny_model, tmp_path, HARD, batch_size=2, accumulate=2, method=method)
        assert cure in said
        assert ("gradient_cache" in said) == (method == "full")


@pytest.mark.parametrize(
    ("loss", "named", "not_named"),
    [("triplet", "training.margin (0.5)", "guide_margin"), ("guided", "training.guide_margin (3)", "training.margin"),
     ("mnrl", "negatives.per_query", "training.loss")],
)  # fmt: skip
def test_the_cure_for_a_loss_of_0_is_of_the_loss(loss: str, named: str, not_named: str) -> None:
    with pytest.raises(ModelError) as caught:
        require_learning(Progressed(step=3, idle=3), Training(loss=loss, guide_margin=3), loss)
    assert named in caught.value.hint and not_named not in caught.value.hint


def test_what_was_decided_is_said(tiny_model: str, tmp_path: Path) -> None:
    _, said = recipe_notes(tiny_model, tmp_path, HARD, accumulate=4)
    assert "Loss mnrl, chosen for rows of 4 pairs" in said
    assert "chosen from the base model" in said
    assert "batch_size is 16 and training.accumulate 4, there are 4 pairs: every step sees all of them" in said
    assert "that is not one batch of 64" in said
    _, said = recipe_notes(tiny_model, tmp_path, HARD, accumulate=4, loss="triplet")
    assert "not one batch" not in said
    _, said = recipe_notes(tiny_model, tmp_path, HARD)
    assert "batch_size is 16, there are 4 pairs" in said
    _, said = recipe_notes(tiny_model, tmp_path, HARD, batch_size=2, accumulate=4)  # 4 pairs for a step of 8
    assert "batch_size is 2 and training.accumulate 4, there are 4 pairs" in said
    _, said = recipe_notes(tiny_model, tmp_path, HARD, batch_size=2, accumulate=2)
    assert "every step sees all" not in said
    recipe, said = recipe_notes(tiny_model, tmp_path, TAUGHT, loss="kl")
    assert "Teacher temperature 1.25, half the middle spread (2.5)" in said
    assert recipe.student_temperature == pytest.approx(1 / recipe.scale)
    recipe, said = recipe_notes(tiny_model, tmp_path, HARD, matryoshka=[16, 8], matryoshka_weights=[0.5, 0.25])
    assert (recipe.dimensions, recipe.weights) == ((32, 16, 8), (1.0, 0.5, 0.25))
    assert "full size (32) is trained too, with weight 1" in said
    _, said = recipe_notes(tiny_model, tmp_path, HARD, matryoshka=[32, 8], matryoshka_weights=[0.5, 0.25])
    assert "is trained too" not in said
    alike = [replace(row, pos_scores=(1.0,), neg_scores=(1.0,)) for row in HARD]
    with pytest.raises(ConfigError, match="same score"):
        recipe_notes(tiny_model, tmp_path, alike, loss="kl")


def test_scores_of_replayed_rows_do_not_decide_the_teachers_temperature(tiny_model: str, tmp_path: Path) -> None:
    encoder = Encoder.load(tiny_model, precision="fp32")
    others = [replace(row, query=f"{row.query} {n}", pos_scores=(900.0,)) for n in range(3) for row in TAUGHT]
    pairs = make_pairs([*TAUGHT, *others])
    config, own = config_for(tiny_model, loss="kl"), len(make_pairs(TAUGHT).queries)
    recipe, _ = decide(config, pairs, encoder, tmp_path / "train.jsonl", tmp_path, own)
    assert recipe.teacher_temperature == pytest.approx(1.25)
    recipe, _ = decide(config, pairs, encoder, tmp_path / "train.jsonl", tmp_path)
    assert recipe.teacher_temperature > 100


def test_lengths_and_sizes_beyond_the_model_are_named(tiny_model: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="query_tokens asks for 40 tokens") as caught:
        recipe_notes(tiny_model, tmp_path, HARD, query_tokens=40)
    assert "model.max_tokens to 40" in caught.value.hint
    with pytest.raises(ConfigError, match=r"passage_tokens asks for 33 tokens, .* is set to read 32") as caught:
        recipe_notes(tiny_model, tmp_path, HARD, passage_tokens=33)
    assert "training.passage_tokens to 32 or less" in caught.value.hint
    with pytest.raises(ConfigError, match="dev_dimension asks for 64"):
        recipe_notes(tiny_model, tmp_path, HARD, dev_dimension=64)


def test_a_dev_split_without_positives_is_named(
    tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path
) -> None:
    data, examples = field
    none = {query: dict.fromkeys(grades, 0) for query, grades in data.qrels["dev"].items()}
    empty = replace(data, qrels={**data.qrels, "dev": none})
    _, result = trained(config_for(tiny_model), (empty, examples), tmp_path / "run")
    assert any("No dev query has a passage of grade 1 or more" in note for note in result.notes)
    assert "dev nDCG@10 after" not in result.counts


def test_last_bits_are_no_change() -> None:
    drawn = np.random.default_rng(0).normal(size=(500, 384)).astype(np.float32)
    before = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    again = before / np.linalg.norm(before, axis=1, keepdims=True)  # as a query layer does
    assert np.abs(again - before).max() > 0
    with pytest.raises(ModelError, match="changed nothing"):
        require_change(before, again)
    learned = before.copy()
    learned[0, 0] += 1e-5
    require_change(before, learned)


def test_training_that_changes_nothing_is_an_error(
    tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="changed nothing"):
        trained(config_for(tiny_model, learning_rate=1e-30), field, tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize(("method", "anchor"), [("full", 0), ("full", 0.1), ("query", 0)])
def test_a_loss_of_0_at_every_step_is_no_training(
    method: str, anchor: float, tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path
) -> None:
    """All negatives are farther off than any margin asks for: weight decay alone moves the weights."""
    examples = field[1]
    rows = [Example(row.query, (row.query,), ("asthma",)) for row in read_examples(examples)]
    write_examples(examples, rows)
    examples.with_name("teacher.json").unlink()
    config = config_for(
        tiny_model, method=method, loss="triplet", margin=1e-9, weight_decay=0.5, matryoshka=[32], anchor=anchor
    )
    with pytest.raises(ModelError, match=r"the loss was 0 at every one of the \d+ steps") as caught:
        trained(config, field, tmp_path / "run")
    assert "training.margin" in caught.value.hint and "training.hard_negatives" in caught.value.hint
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("pretrain", ["none", "tsdae"])
def test_the_log_of_a_training_that_breaks_down_is_there(
    pretrain: str, tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that is killed writes nothing at its end: what it leaves was written on the way."""
    real, path, on_the_way = loop._step, tmp_path / "run" / "training" / "log.jsonl", []

    def breaking(*arguments: Any) -> tuple[float, float]:
        if arguments[2] == 12:
            on_the_way.append(path.read_text())
            return float("nan"), 0.0
        return real(*arguments)

    monkeypatch.setattr(loop, "_step", breaking)
    config = config_for(tiny_model, epochs=8, checkpoint_seconds=0.001, pretrain=pretrain)
    with pytest.raises(ModelError, match="nan at step 13"):
        trained(config, field, tmp_path / "run")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["step"] for row in rows if "step" in row] == [0, 10]
    assert any("pretrain_loss" in row for row in rows) is (pretrain != "none")
    assert on_the_way == [path.read_text()]


FULL = {
    "of the system": OSError(errno.ENOSPC, "No space left on device"),
    "of safetensors": SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    "of tokenizers": Exception("No space left on device (os error 28)"),
    "a quota": SafetensorError("Error while serializing: I/O error: Disk quota exceeded (os error 122)"),
}


@pytest.mark.parametrize("kind", FULL)
def test_a_disk_that_fills_while_the_model_is_saved_leaves_the_model_before(
    tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    work = tmp_path / "run"
    (work / "model").mkdir(parents=True)
    (work / "model" / "before").write_text("kept")

    def full(self: SentenceTransformer, folder: str, *_: Any, **__: Any) -> None:
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise FULL[kind]

    monkeypatch.setattr(SentenceTransformer, "save", full)
    with pytest.raises(ModelError, match="the model could not be written") as caught:
        trained(config_for(tiny_model), field, work)
    assert "make room and run the same command again" in caught.value.hint
    assert [path.name for path in (work / "model").iterdir()] == ["before"]
    assert not list(work.glob(".model*"))


def test_a_folder_that_gives_other_vectors_is_not_kept(
    tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SentenceTransformer.save

    def broken(self: SentenceTransformer, folder: str, *rest: Any, **named: Any) -> None:
        from safetensors.torch import load_file, save_file

        real(self, folder, *rest, **named)
        path = next(Path(folder).rglob("model.safetensors"))
        save_file({name: torch.randn_like(w) for name, w in load_file(path).items()}, path, {"format": "pt"})

    monkeypatch.setattr(SentenceTransformer, "save", broken)
    with pytest.raises(ModelError, match="other vectors than the trained one"):
        trained(config_for(tiny_model), field, tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


def killed_once(
    config: Config, field: tuple[RetrievalData, Path], work: Path, then: Config, other: tuple[RetrievalData, Path]
) -> tuple[int, Result]:
    """A run killed at its last step; the steps of the one that comes after it, with what that is given, and its end."""
    real, steps = loop._step, []

    def counted(*arguments: Any) -> tuple[float, float]:
        steps.append(1)
        if len(steps) == 9:
            raise KeyboardInterrupt
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "_step", counted)
        with pytest.raises(KeyboardInterrupt):
            trained(config, field, work)
        _, result = trained(then, other, work)
    return len(steps) - 9, result


def test_a_checkpoint_belongs_to_its_dev_labels_and_rows_and_not_to_patience(
    tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path
) -> None:
    data, examples = field
    config = config_for(tiny_model, epochs=4, evaluations=4, checkpoint_seconds=0.001)
    patient = config_for(tiny_model, epochs=4, evaluations=4, checkpoint_seconds=0.001, patience=4)
    rest, calm = killed_once(config, field, tmp_path / "patience", patient, field)
    assert rest == calm.counts["steps"] - 8

    passages = list(data.passages)
    wrong = {query: {passages[n % 40]: 1} for n, query in enumerate(data.qrels["dev"])}
    relabelled = (replace(data, qrels={**data.qrels, "dev": wrong}), examples)
    rest, result = killed_once(config, field, tmp_path / "dev", config, relabelled)
    assert rest == result.counts["steps"]
    assert result.counts["dev nDCG@10 before"] != calm.counts["dev nDCG@10 before"]
    said = next(note for note in result.notes if "checkpoint" in note)
    assert "of step 8 was made with the dev data" in said and "Put the dev data back" in said

    general = tmp_path / "general.jsonl"
    general.write_text("".join(json.dumps({"query": f"what {n}", "pos": [f"text {n}"]}) + "\n" for n in range(30)))
    replayed = config_for(tiny_model, epochs=4, checkpoint_seconds=0.001, replay=str(general), replay_share=0.1)
    asked = next(iter(data.qrels["test"]))
    held = replace(data.queries[asked], text="what 1")  # a row that asks what a test query asks is not practised
    filtered = (replace(data, queries={**data.queries, asked: held}), examples)
    rest, result = killed_once(replayed, field, tmp_path / "replay", replayed, filtered)
    assert rest == result.counts["steps"]
    assert "made with the training data" in " ".join(result.notes)


def test_a_checkpoint_of_another_base_is_kept_aside_and_taken_up_with_its_own(
    tiny_model: str,
    make_model: Callable[..., str],
    field: tuple[RetrievalData, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = {"epochs": 4, "evaluations": 4, "checkpoint_seconds": 0.001}
    config, other = (config_for(base, **more) for base in (tiny_model, make_model("bert", layers=3)))
    work, real = tmp_path / "run", loop._step

    def steps_taken(config: Config, at: int) -> int:
        steps: list[int] = []

        def counted(*arguments: Any) -> tuple[float, float]:
            if len(steps) == at:
                raise KeyboardInterrupt
            steps.append(1)
            return real(*arguments)

        with pytest.MonkeyPatch.context() as patched, suppress(KeyboardInterrupt):
            patched.setattr(loop, "_step", counted)
            trained(config, field, work)
        return len(steps)

    calm, result = trained(config, field, tmp_path / "calm")
    assert steps_taken(config, 8) == 8
    state = work / "training" / "state"
    before = (state / "checkpoint.pt").read_bytes()
    capsys.readouterr()
    assert steps_taken(other, 3) == 3  # from the beginning: nothing of the other's weights is taken
    said = " ".join(capsys.readouterr().err.split())
    assert "A checkpoint of step 8 was made with the base model: it is kept until training ends" in said
    assert "Put the base model back to go on with it. Training begins anew." in said
    (kept,) = state.glob("other-*/checkpoint.pt")
    assert kept.read_bytes() == before
    assert torch.load(state / "checkpoint.pt", weights_only=True)["progressed"]["step"] == 3
    resumed, again = trained(config, field, work)
    assert steps_taken(config, 99) == 0
    assert again.counts == result.counts
    for name, weight in calm.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name


def test_a_base_that_reads_no_tokens_is_named_with_what_to_take(
    field: tuple[RetrievalData, Path], tmp_path: Path
) -> None:
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer, models

    words = StaticEmbedding(Tokenizer(models.WordLevel({"[UNK]": 0, "rent": 1}, unk_token="[UNK]")), embedding_dim=8)
    SentenceTransformer(modules=[words], device="cpu").save(str(tmp_path / "static"))
    with pytest.raises(ModelError, match="not a plain text encoder") as caught:
        trained(config_for(str(tmp_path / "static")), field, tmp_path / "run")
    assert "set model.base to" in caught.value.hint and "fieldtune adapter train" in caught.value.hint


def test_collapse_and_no_gain_are_said_with_what_to_try() -> None:
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(20, 8)).astype(np.float32)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    narrow = wide * 0.01 + np.eye(8, dtype=np.float32)[0]
    narrow /= np.linalg.norm(narrow, axis=1, keepdims=True)
    assert collapsed(narrow)
    assert not collapsed(wide)
    crowded = wide + 3 * np.eye(8, dtype=np.float32)[0]  # a mean cosine of 0.9, as in E5 models, is no collapse
    assert not collapsed(crowded / np.linalg.norm(crowded, axis=1, keepdims=True))
    dev = Development([], [], [], 1, True)
    (said,) = verdict(Progressed(best_score=0.6, base_score=0.5), 0.6, dev, wide, narrow)
    assert "collapsed" in said and "learning_rate" in said
    assert verdict(Progressed(best_score=0.6, base_score=0.5), 0.6, dev, wide, wide) == []
    (said,) = verdict(Progressed(best_score=0.5, base_score=0.5), 0.5, dev, wide, wide)
    assert said.startswith("No gain on dev: nDCG@10 0.5000 before, 0.5000 at the best step. ") and "try" in said
    stepped = Progressed(best_score=0.6, base_score=0.5, best_step=10, collapsed_at=20)
    (said,) = verdict(stepped, 0.6, dev, wide, wide)
    assert "At step 20 all vectors were alike" in said


def test_no_gain_is_said_of_what_is_saved_and_not_of_what_was_tuned_before_the_base_was_mixed_in(
    tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes, rows = [], np.eye(4, dtype=np.float32)
    for best, mixed in ((0.4, 0.6), (0.6, 0.4)):
        scores = iter([0.5, best])
        monkeypatch.setattr(Development, "measured", lambda *_, scores=scores: (np.array([next(scores)]), rows))
        monkeypatch.setattr(Development, "score", lambda *_, mixed=mixed: np.array([mixed]))
        config = config_for(tiny_model, base_share=0.3, share_curve=False)
        _, result = trained(config, field, tmp_path / str(best))
        assert result.counts["dev nDCG@10 after"] == mixed
        notes.append(" ".join(result.notes))
    gained, lost = notes
    assert "No gain" not in gained
    assert "0.5000 before, 0.4000 at the best step, 0.6000 with training.base_share" in gained
    assert "No gain on dev: nDCG@10 0.5000 before, 0.6000 at the best step, 0.4000 with the base model's share" in lost
    assert "smaller training.base_share" in lost


def test_scores_of_labels_reach_the_losses_that_compare_them(tiny_model: str, tmp_path: Path) -> None:
    """Sentence pairs with scores from 0 to 5, as they come in a file: targets for cosine, yes and no for others."""
    from fieldtune.dataset.importing import import_dataset

    lines = [
        {"sentence1": f"what lease {n}", "sentence2": f"article {n + 20 * (score < 3)} rent {n}", "score": score}
        for n in range(20)
        for score in (4.0 + n / 20, 1.0 + n / 20)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    import_dataset(tmp_path / "train.jsonl", tmp_path / "beir")
    encoder = Encoder.load(tiny_model, precision="fp32")
    for loss in ("cosine", "mnrl"):
        config = config_for(tiny_model, loss=loss)
        build_dataset(config, load_beir(tmp_path / "beir"), {}, encoder, tmp_path / loss, tmp_path / "vectors")
        pairs = make_pairs(read_examples(tmp_path / loss / "train.jsonl"))
        recipe, notes = decide(config, pairs, encoder, tmp_path / loss / "train.jsonl", tmp_path)
        if loss == "cosine":
            assert (recipe.uses_scores, recipe.score_scale) == (True, 5.0)
            assert {round(score, 2) for found in pairs.scores for score in found.values()} <= {
                round(base + n / 20, 2) for base in (4.0, 1.0) for n in range(20)
            }
        else:
            assert "no scores but the base model's own" in " ".join(notes) or recipe.loss == "mnrl"
            assert not recipe.uses_scores


def test_the_scale_of_inner_products_goes_by_inner_products(tiny_model: str, tmp_path: Path) -> None:
    texts = [f"article {n} lease {n} covers rent {n % 7}" for n in range(40)]
    pairs = make_pairs([Example(f"what ends {n}", (text,)) for n, text in enumerate(texts)])
    found = []
    for times in (1, 10):
        whole = Encoder.load(tiny_model, precision="fp32")
        with torch.no_grad():
            for weight in whole.model.transformers_model.encoder.layer[-1].output.LayerNorm.parameters():
                weight.mul_(times)
        bare = Encoder(SentenceTransformer(modules=list(whole.model)[:-1], device="cpu"), precision="fp32")
        made, notes = decide(config_for(tiny_model, similarity="dot"), pairs, bare, tmp_path / "none", tmp_path)
        found.append(made.scale)
        assert any("inner products between unrelated texts" in note for note in notes)
        assert decide(config_for(tiny_model), pairs, bare, tmp_path / "none", tmp_path)[0].scale >= 10
    assert 0 < found[0] < 10  # what would be too small for cosines
    assert found[1] == pytest.approx(found[0] / 100, rel=0.01)


@pytest.mark.parametrize(("share", "sizes"), [(0.0, (32,)), (0.1, (32, 16))])
def test_sizes_that_a_teachers_vectors_do_not_train_are_said(
    share: float, sizes: tuple[int, ...], tiny_model: str, tmp_path: Path
) -> None:
    pairs = make_pairs([Example(f"what ends {n}", (f"rent {n}",)) for n in range(20)])
    config = config_for(tiny_model, loss="vectors", vector_teacher=tiny_model, contrastive_share=share)
    encoder = Encoder.load(tiny_model, precision="fp32")
    made, notes = decide(config, pairs, encoder, tmp_path / "none", tmp_path)
    assert made.dimensions == sizes
    assert any("full size alone is trained" in note for note in notes) == (share == 0)


@pytest.mark.parametrize("pretrain", ["none", "tsdae"])
def test_token_ids_are_mapped_while_training_and_gone_at_its_end(
    tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pretrain: str
) -> None:
    monkeypatch.setattr(tokens, "_SMALL", 1)
    seen: list[bool] = []

    def watch(row: dict[str, float]) -> None:
        seen.append(any((tmp_path / "run" / "training" / "state" / "tokens").iterdir()))

    config = config_for(tiny_model, pretrain=pretrain)
    encoder = Encoder.load(tiny_model, precision="fp32")
    work = tmp_path / "run"
    tune(config, field[0], field[1], encoder, work, work / "vectors", watch=watch)
    assert seen and all(seen)
    assert (work / "training" / "state" / "checkpoint.pt").exists()
    assert list((work / "training" / "state").rglob("*.ids")) == []
