from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fieldtune.config import Training
from fieldtune.encoding import Encoder
from fieldtune.errors import ModelError
from fieldtune.training import loop
from fieldtune.training.checkpoint import Progressed
from fieldtune.training.development import Development
from fieldtune.training.loop import train
from fieldtune.training.optimizer import freezes_embeddings
from fieldtune.training.pairs import Pairs, make_pairs
from fieldtune.training.recipe import Recipe
from fieldtune.types import Example

TEXTS = [f"article {n} lease {n} covers rent {n}" for n in range(40)]


def pairs() -> Pairs:
    return make_pairs([Example(f"what ends {n}", (TEXTS[n],), (TEXTS[(n + 1) % 40],)) for n in range(40)])


def recipe(**changes: object) -> Recipe:
    settings = Training(
        **(
            {"epochs": 4, "batch_size": 8, "learning_rate": 1e-3, "evaluations": 2, "checkpoint_seconds": 0.001}
            | changes
        )  # type: ignore[arg-type]
    )
    return Recipe(settings, 20.0, (32, 16), 5)


def development() -> Development:
    return Development([f"what ends {n}" for n in range(40)], TEXTS, [{n: 1} for n in range(40)], 1, True)


def run(model: str, work: Path, made: Recipe, key: str = "k") -> tuple[Encoder, Progressed]:
    encoder = Encoder.load(model, precision="fp32")
    return encoder, train(encoder, pairs(), made, development(), work, key)


def weights(encoder: Encoder) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in encoder.model.state_dict().items()}


def test_training_learns_and_keeps_the_best_weights_on_dev(tiny_model: str, tmp_path: Path) -> None:
    encoder, state = run(tiny_model, tmp_path, recipe(epochs=12))
    assert state.best_score > state.base_score + 0.2
    assert development().score(encoder).mean() == pytest.approx(state.best_score, abs=1e-6)
    losses = [row["loss"] for row in state.log if "loss" in row]
    assert losses[-1] < losses[0]
    assert not encoder.model.training


def test_a_run_stopped_at_any_step_ends_with_the_weights_of_an_undisturbed_one(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm, state = run(tiny_model, tmp_path / "calm", recipe(dropout=True))
    real, steps = loop._step, []

    def failing(*arguments: object) -> tuple[float, float]:
        steps.append(1)
        if len(steps) == 8:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "_step", failing)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, tmp_path / "cut", recipe(dropout=True))
    torch.manual_seed(999)  # a fresh process has another random state
    resumed, again = run(tiny_model, tmp_path / "cut", recipe(dropout=True))
    assert len(steps) == 8 + state.step - 7  # no step twice
    assert again.log == state.log
    for name, weight in weights(calm).items():
        assert torch.equal(weight, weights(resumed)[name]), name


def test_a_checkpoint_of_another_run_is_not_used(tiny_model: str, tmp_path: Path) -> None:
    _, first = run(tiny_model, tmp_path, recipe())
    _, other = run(tiny_model, tmp_path, recipe(learning_rate=1e-4), key="other")
    assert other.step == first.step
    assert other.log != first.log


def test_frozen_word_vectors_stay_and_the_rest_moves(tiny_model: str, tmp_path: Path) -> None:
    before = weights(Encoder.load(tiny_model))
    encoder, _ = run(tiny_model, tmp_path, recipe(freeze_embeddings=True))
    changed = {name for name, weight in weights(encoder).items() if not torch.equal(weight, before[name])}
    assert changed
    assert not any("word_embeddings" in name for name in changed)
    assert not freezes_embeddings(Encoder.load(tiny_model).model, "auto")


def test_early_stopping_ends_before_the_last_step(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.1, 0.5, 0.4, 0.3, 0.2, 0.1])
    vectors = np.eye(4, dtype=np.float32)
    monkeypatch.setattr(Development, "measured", lambda *_: (np.array([next(scores)]), vectors))
    _, state = run(tiny_model, tmp_path, recipe(evaluations=5, patience=2))
    assert state.step == round(20 * 3 / 5)
    assert state.best_step == round(20 / 5)


def test_a_loss_that_is_no_number_is_named_with_its_step(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_step", lambda *_: (float("nan"), 0.0))
    with pytest.raises(ModelError, match="nan at step 1 of 20") as caught:
        run(tiny_model, tmp_path, recipe())
    assert "learning_rate" in caught.value.hint
