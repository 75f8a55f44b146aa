"""What a training run does besides the loss: memory, formats, lengths, disks, resuming, reports."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import types
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fieldtune.beir import load_beir
from fieldtune.config import Training, make_config
from fieldtune.dataset import build_dataset
from fieldtune.disk import room_to_write
from fieldtune.encoding import Encoder, resolve_precision
from fieldtune.errors import ConfigError, FieldtuneError, MissingExtraError, ModelError
from fieldtune.stopping import ending_gently
from fieldtune.training import aside, checkpoint, loop, processor, tune
from fieldtune.training.aside import key_of
from fieldtune.training.development import Development
from fieldtune.training.devices.replicated import Replicated
from fieldtune.training.devices.world import World
from fieldtune.training.fixed import FixedVectors
from fieldtune.training.loop import Hooks, train
from fieldtune.training.losses import make_objective
from fieldtune.training.pairs import Pairs, make_pairs
from fieldtune.training.recipe import Recipe
from fieldtune.training.reports import reporting, require_reporters
from fieldtune.training.safety import Probe, save_checked
from fieldtune.types import Example

TEXTS = [f"article {n} lease {n} covers rent {n}" for n in range(40)]
ROWS = [
    Example(f"what ends {n}", (TEXTS[n],), (TEXTS[(n + 1) % 40], TEXTS[(n + 2) % 40]), (0.9,), (0.3, 0.1))
    for n in range(40)
]


def recipe(loss: str = "mnrl", **changes: Any) -> Recipe:
    given = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "evaluations": 2, "checkpoint_seconds": 0.001}
    settings = Training(loss=loss, **(given | changes))
    return Recipe(settings, 20.0, (32,), 5, loss=loss, cached=settings.gradient_cache)


def development(**changes: Any) -> Development:
    return Development([f"what ends {n}" for n in range(40)], TEXTS, [{n: 1} for n in range(40)], 1, True, **changes)


def run(
    model: str, work: Path, made: Recipe, hooks: Hooks | None = None, dev: Development | None = None
) -> tuple[Encoder, checkpoint.Progressed]:
    encoder = Encoder.load(model, precision="fp32")
    return encoder, train(encoder, make_pairs(ROWS), made, dev or development(), work, "k", hooks)


def weights(encoder: Encoder) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in encoder.model.state_dict().items()}


def alike(one: Encoder, other: Encoder, tolerance: float) -> None:
    base = weights(other)
    for name, weight in weights(one).items():
        torch.testing.assert_close(weight, base[name], atol=tolerance, rtol=0, msg=name)


def moved(one: Encoder, other: Encoder) -> float:
    base = weights(other)
    return max(float((weight - base[name]).abs().max()) for name, weight in weights(one).items())


@pytest.mark.parametrize("changes", [{"gradient_cache": True}, {"gradient_checkpointing": True, "dropout": True}])
def test_saving_memory_changes_nothing_in_the_result(tiny_model: str, tmp_path: Path, changes: dict[str, Any]) -> None:
    dropout = changes.get("dropout", False)
    plain, _ = run(tiny_model, tmp_path / "plain", recipe(dropout=dropout, epochs=0.4))
    saving, _ = run(tiny_model, tmp_path / "saving", recipe(**{"epochs": 0.4, **changes}))
    alike(saving, plain, 1e-4)
    assert moved(saving, Encoder.load(tiny_model, precision="fp32")) > 1e-3


def test_gradient_checkpointing_does_compute_layers_again(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.bert.modeling_bert import BertSelfAttention

    calls = []
    real = BertSelfAttention.forward

    def counted(self: Any, *arguments: Any, **named: Any) -> Any:
        calls.append(self.training)
        return real(self, *arguments, **named)

    monkeypatch.setattr(BertSelfAttention, "forward", counted)
    counts = []
    for again in (False, True):
        calls.clear()
        run(tiny_model, tmp_path / str(again), recipe(gradient_checkpointing=again, epochs=0.2, evaluations=1))
        counts.append(len(calls))
        assert not any(calls)  # dropout stays off inside
    assert counts[1] > counts[0]


def test_batches_add_up_to_a_large_one(tiny_model: str, tmp_path: Path) -> None:
    large, one = run(tiny_model, tmp_path / "large", recipe("triplet", batch_size=8, epochs=1))
    added, two = run(tiny_model, tmp_path / "added", recipe("triplet", batch_size=2, accumulate=4, epochs=1))
    assert one.step == two.step
    assert [row["loss"] for row in one.log if "loss" in row] == pytest.approx(
        [row["loss"] for row in two.log if "loss" in row], abs=1e-4
    )
    alike(added, large, 1e-4)
    _, alone = run(tiny_model, tmp_path / "alone", recipe("triplet", batch_size=2, epochs=1))
    assert alone.step == 4 * one.step


@pytest.mark.parametrize("loss", ["cosine", "cosent"])
def test_without_scores_pairs_are_right_or_wrong(tiny_model: str, tmp_path: Path, loss: str) -> None:
    """Other positives of a query must not be drawn as its wrong ones, and wrong ones must be there."""
    rows = [Example(f"what ends {n}", (TEXTS[n], TEXTS[n - 1]), (TEXTS[(n + 2) % 40],), (0.9, 0.8), (0.1,))
            for n in range(40)]  # fmt: skip
    seen = []
    real = loop.add_gradient

    def looked(encoder: Encoder, batch: Any, *rest: Any, **named: Any) -> float:
        seen.append((batch.own[:, 1:] >= 0).all())
        for place, own in enumerate(batch.own):
            seen.append(not batch.masked[place, own[1:]].any())
        return real(encoder, batch, *rest, **named)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "add_gradient", looked)
        train(Encoder.load(tiny_model, precision="fp32"), make_pairs(rows), recipe(loss, epochs=0.2, evaluations=1),
              development(), tmp_path, "k")  # fmt: skip
    assert len(seen) > 10 and all(seen)


def test_lengths_apart_for_queries_and_passages(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, int] = {}
    real = loop.add_gradient

    def looked(encoder: Encoder, batch: Any, queries: Any, passages: Any, *rest: Any, **named: Any) -> float:
        seen.update(queries=int(queries.lengths.max()), passages=int(passages.lengths.max()))
        return real(encoder, batch, queries, passages, *rest, **named)

    monkeypatch.setattr(loop, "add_gradient", looked)
    _, state = run(tiny_model, tmp_path, recipe(query_tokens=5, passage_tokens=7, epochs=0.2))
    assert seen == {"queries": 5, "passages": 7}
    assert any("40 of 40 query texts are longer than the 5 tokens" in note for note in state.notes)


@pytest.fixture
def long_model(tiny_model: str, tmp_path: Path) -> str:
    """A random model that reads 8,192 tokens."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig.from_pretrained(tiny_model, max_position_embeddings=8194, num_hidden_layers=1)
    BertModel(config).save_pretrained(tmp_path / "encoder")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "encoder")
    parts = [Transformer(str(tmp_path / "encoder"), max_seq_length=8192), Pooling(32, "mean"), Normalize()]
    SentenceTransformer(modules=parts, device="cpu").save(str(tmp_path / "long"))
    return str(tmp_path / "long")


@pytest.mark.parametrize("changes", [{}, {"gradient_cache": True}, {"gradient_checkpointing": True}])
def test_queries_of_512_and_passages_of_2048_tokens_train(
    long_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    rows = [
        Example(f"what {n} " + "rent " * 700, (f"article {n} " + "lease " * 2500,), (f"{n} " + "fever " * 2100,))
        for n in range(3)
    ]
    seen: dict[str, list[int]] = {}
    real = loop.add_gradient

    def looked(encoder: Encoder, batch: Any, queries: Any, passages: Any, *rest: Any, **named: Any) -> float:
        seen.update(queries=queries.lengths.tolist(), passages=passages.lengths[batch.passages].tolist())
        return real(encoder, batch, queries, passages, *rest, **named)

    monkeypatch.setattr(loop, "add_gradient", looked)
    encoder = Encoder.load(long_model, precision="fp32")
    before = weights(encoder)
    long = {"query_tokens": 512, "passage_tokens": 2048, "weight_decay": 0.0, "epochs": 1}
    state = train(encoder, make_pairs(rows), recipe(**long, **changes), None, tmp_path / "work", "k")
    assert state.step == 1 and np.isfinite(state.log[-1]["loss"])
    assert seen == {"queries": [512] * 3, "passages": [2048] * 6}
    (name,) = [name for name in before if name.endswith("position_embeddings.weight")]
    moved = (weights(encoder)[name] - before[name]).abs().amax(dim=1) > 0
    assert moved[:2048].all() and not moved[2048:].any()  # read to the last token, and no further
    assert any("3 of 3 query texts are longer than the 512 tokens" in note for note in state.notes)


@pytest.mark.parametrize("tokens", [256, 257, 8192])  # of up to 256 the weights of attention are kept in bf16
def test_bf16_has_nearly_the_gradients_of_fp32_at_any_length(
    long_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    """The longest text of a batch is alone in its pass: a text of `tokens` beside a short one."""
    words = np.random.default_rng(2).choice(["lease", "rent", "fever", "article", "when", "7", "23"], tokens)
    rows = [Example("what ends rent 1", (" ".join(words),)), Example("when fever 2", ("fever 2 ends",))]
    found: list[dict[str, torch.Tensor]] = []
    attended: list[int] = []
    update, attend = Replicated.update, processor.attend

    def looked(stepper: Replicated, longest: float) -> None:
        named = stepper.encoder.model.named_parameters()
        found.append({name: weight.grad.clone() for name, weight in named if weight.grad is not None})
        update(stepper, longest)

    def counted(args: Any, settings: dict[str, Any]) -> torch.Tensor | None:
        done = attend(args, settings)
        attended.extend([] if done is None else [done.shape[2]])
        return done

    monkeypatch.setattr(Replicated, "update", looked)
    monkeypatch.setattr(processor, "attend", counted)
    for precision in ("fp32", "bf16"):
        encoder = Encoder.load(long_model, precision=precision)
        with torch.no_grad():
            for name, weight in encoder.model.named_parameters():  # as it is made, a token looks at all others alike
                weight *= 10 if name.endswith(("query.weight", "key.weight")) else 1
        one = recipe(epochs=1, hard_negatives=0, passage_tokens=tokens)
        state = train(encoder, make_pairs(rows), one, None, tmp_path / precision, "k")
        assert state.step == 1 and np.isfinite(state.log[-1]["loss"])
        assert (tokens in attended) == (precision == "bf16")
    exact, near = found
    assert exact.keys() == near.keys()
    longest = float(torch.cat([part.flatten() for part in exact.values()]).norm())
    for name, part in exact.items():
        assert torch.isfinite(part).all(), name
        assert (near[name] - part).norm() <= 0.03 * part.norm() + 1e-6 * longest, name  # of keys' biases it is 0


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(ModelError, match="needs a GPU"):
        resolve_precision("fp16", "cpu")


def test_dev_is_measured_as_asked(tiny_model: str, tmp_path: Path) -> None:
    dev = development(measure="mrr@3", dimension=4)
    encoder, state = run(tiny_model, tmp_path, recipe(epochs=3), dev=dev)
    measured = {"dev_mrr@3, 4 dimensions", "dev_error"}
    assert {key for row in state.log for key in row} == {"step", "loss", "rate", *measured}
    assert dev.label == "MRR@3 at 4 dimensions"
    queries, passages = encoder.encode(dev.queries, "query")[:, :4], encoder.encode(dev.passages, "passage")[:, :4]
    cosines = (queries @ passages.T) / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(passages, axis=1)
    ranks = (cosines > np.diag(cosines)[:, None]).sum(axis=1) + 1
    assert state.best_score == pytest.approx(np.mean(np.where(ranks <= 3, 1 / ranks, 0)), abs=1e-6)
    assert state.best_score != pytest.approx(float(development().score(encoder).mean()), abs=1e-3)


def test_settings_that_contradict_are_named() -> None:
    for settings, said in (
        ({"dev_measure": "best"}, "not a measure"),
        ({"matryoshka": [32, 16], "matryoshka_weights": [1.0]}, "1 matryoshka_weights for 2 sizes"),
        ({"matryoshka_weights": [1.0]}, "need the sizes"),
        ({"loss": "vectors"}, "needs vector_teacher"),
    ):
        with pytest.raises(ConfigError, match=said):
            make_config({"training": settings})


KILLED = """
import os, signal, sys, torch
sys.path.insert(0, {tests!r})
torch.set_num_threads({threads})  # sums are added up in another order by another number of threads
from pathlib import Path
import test_training_mechanics as t
from fieldtune.training import loop
real, steps = loop._step, []
def failing(*arguments):
    steps.append(1)
    if len(steps) == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
loop._step = failing
t.run({model!r}, Path({work!r}), t.recipe(dropout=True))
"""


def test_a_run_killed_with_its_process_ends_bit_by_bit_as_an_undisturbed_one(tiny_model: str, tmp_path: Path) -> None:
    calm, state = run(tiny_model, tmp_path / "calm", recipe(dropout=True))
    work = tmp_path / "cut"
    given = {"tests": str(Path(__file__).parent), "model": tiny_model, "work": str(work)}
    code = textwrap.dedent(KILLED).format(**given, threads=torch.get_num_threads())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (work / "checkpoint.pt").exists()
    torch.manual_seed(999)
    resumed, again = run(tiny_model, work, recipe(dropout=True))
    assert again.log == state.log
    before = weights(calm)
    for name, weight in weights(resumed).items():
        assert torch.equal(weight, before[name]), name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_end_keeps_the_step_that_it_is_at(
    number: int, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = recipe(dropout=True, checkpoint_seconds=1e9)
    calm, state = run(tiny_model, tmp_path / "calm", made)
    real, steps, times = loop._step, [0], 1

    def told(*arguments: Any) -> Any:
        steps.append(1)
        for _ in range(times if len(steps) == 4 else 0):
            signal.raise_signal(number)
        return real(*arguments)

    monkeypatch.setattr(loop, "_step", told)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), ending_gently() as heard:
        run(tiny_model, tmp_path / "cut", made)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert heard == ([signal.SIGTERM] if number == signal.SIGTERM else [])
    assert "once more stops at once" in capsys.readouterr().err
    torch.manual_seed(999)
    resumed, again = run(tiny_model, tmp_path / "cut", made)
    assert len(steps) == 1 + state.step  # none was taken twice
    assert again.log == state.log
    alike(resumed, calm, 0.0)
    steps, times = [0], 2
    with pytest.raises(KeyboardInterrupt), ending_gently():
        run(tiny_model, tmp_path / "twice", made)
    assert not (tmp_path / "twice" / "checkpoint.pt").exists()


def test_who_takes_the_end_of_a_training_for_an_error_does_not_go_on_when_told_to_end(
    tiny_model: str, tmp_path: Path
) -> None:
    def pruned(row: Any) -> None:
        if row["step"]:
            signal.raise_signal(signal.SIGINT)
            raise ModelError("ended by a search")

    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, tmp_path, recipe(), Hooks(report=pruned))


def test_a_batch_larger_than_the_data_is_one_step_of_all_of_it_an_epoch(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = loop._step, []

    def counted(session: Any, rows: Any, *more: Any) -> tuple[float, float]:
        seen.append(sorted(rows.tolist()))
        return real(session, rows, *more)

    monkeypatch.setattr(loop, "_step", counted)
    _, state = run(tiny_model, tmp_path, recipe(batch_size=1_000, epochs=3))
    assert state.step == 3
    assert seen == [list(range(40))] * 3
    assert {row["step"] for row in state.log if "dev_ndcg@10" in row} == {0, 2, 3}


def test_a_full_disk_leaves_the_last_good_checkpoint(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, saves = torch.save, []

    def full(state: Any, stream: Any) -> None:
        saves.append(1)
        if len(saves) == 5:
            stream.write(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(state, stream)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ModelError, match="disk is full: the checkpoint") as caught:
        run(tiny_model, tmp_path / "cut", recipe())
    assert "same command" in caught.value.hint
    assert torch.load(tmp_path / "cut" / "checkpoint.pt", weights_only=True)["progressed"]["step"] == 4
    assert not list((tmp_path / "cut").glob(".*.tmp"))
    monkeypatch.setattr(torch, "save", real)
    resumed, _ = run(tiny_model, tmp_path / "cut", recipe())
    calm, _ = run(tiny_model, tmp_path / "calm", recipe())
    alike(resumed, calm, 0.0)


def test_other_errors_of_the_disk_are_not_taken_for_a_full_one(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), room_to_write(tmp_path, "it"):
        raise PermissionError(errno.EACCES, "no")


def test_a_checkpoint_that_does_not_fit_is_said_and_not_used(tiny_model: str, tmp_path: Path) -> None:
    _, first = run(tiny_model, tmp_path, recipe())
    encoder = Encoder.load(tiny_model, precision="fp32")
    state = train(encoder, make_pairs(ROWS), recipe(), development(), tmp_path, "another model")
    assert state.log == first.log
    assert any("another model" in note for note in state.notes)
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    state = train(encoder, make_pairs(ROWS), recipe(), development(), tmp_path, "a third")
    assert any("is damaged" in note and "checkpoint.pt.damaged" in note for note in state.notes)
    assert (tmp_path / "checkpoint.pt.damaged").read_bytes() == b"not a checkpoint"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
@pytest.mark.parametrize("opens", [False, True])
def test_a_checkpoint_that_cannot_be_read_now_stays_and_ends_the_training(
    number: int, opens: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, path = torch.nn.Linear(2, 2), tmp_path / "checkpoint.pt"
    state = checkpoint.State(model, torch.optim.AdamW(model.parameters()))
    checkpoint.save_checkpoint(path, "k", checkpoint.Progressed(step=3), state)
    before, real = path.read_bytes(), Path.open

    class Failing(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise OSError(number, os.strerror(number))

        def readinto(self, _: Any) -> int:
            raise OSError(number, os.strerror(number))

    def failing(self: Path, *arguments: Any, **named: Any) -> Any:
        if self != path:
            return real(self, *arguments, **named)
        if opens:
            return Failing(before)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", failing)
        with pytest.raises(ModelError, match=f"cannot be read .{os.strerror(number)}") as caught:
            checkpoint.load_checkpoint(path, "k", state)
    assert str(path) in caught.value.message and "same command again" in caught.value.hint
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"] and path.read_bytes() == before
    assert checkpoint.load_checkpoint(path, "k", state)[0].step == 3


def test_a_training_goes_on_with_fewer_gpus_than_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine whose two GPUs are these two tensors; the model itself needs none."""
    gpus = {0: torch.full((16,), 10, dtype=torch.uint8), 1: torch.full((16,), 11, dtype=torch.uint8)}

    def place(device: Any = "cuda") -> int:
        return torch.device(device).index or 0

    def put(state: torch.Tensor, device: Any = "cuda") -> None:
        if place(device) not in gpus:
            raise IndexError("list index out of range")  # as torch says it
        gpus[place(device)] = state

    def put_all(states: list[torch.Tensor]) -> None:
        for number, state in enumerate(states):
            put(state, f"cuda:{number}")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device="cuda": gpus[place(device)].clone())
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [gpus[number].clone() for number in sorted(gpus)])
    monkeypatch.setattr(torch.cuda, "set_rng_state", put)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", put_all)

    def state(device: str) -> checkpoint.State:
        model = torch.nn.Linear(2, 2)
        return checkpoint.State(model, torch.optim.AdamW(model.parameters()), device=device)

    path = tmp_path / "checkpoint.pt"
    checkpoint.save_checkpoint(path, "k", checkpoint.Progressed(step=3), state("cuda:1"))
    gpus[0], gpus[1] = gpus[0] + 50, gpus[1] + 50
    assert checkpoint.load_checkpoint(path, "k", state("cuda:1"))[0].step == 3
    assert [int(gpus[number][0]) for number in (0, 1)] == [60, 11]  # its own alone
    del gpus[1]
    assert checkpoint.load_checkpoint(path, "k", state("cuda"))[0].step == 3
    assert int(gpus[0][0]) == 11
    earlier = torch.load(path, weights_only=True)  # as earlier versions wrote it, with the states of all
    earlier["cuda_random"] = [torch.full((16,), 20 + number, dtype=torch.uint8) for number in range(4)]
    torch.save(earlier, path)
    assert checkpoint.load_checkpoint(path, "k", state("cuda:0"))[0].step == 3
    assert int(gpus[0][0]) == 20
    assert checkpoint.load_checkpoint(path, "k", state("cpu"))[0].step == 3


def interrupted(model: str, work: Path, made: Recipe, key: str, at: int) -> int:
    """Train until the step `at` of this process, or to the end; returns how many steps were taken."""
    real, steps = loop._step, []

    def failing(*arguments: Any) -> tuple[float, float]:
        if len(steps) == at:
            raise KeyboardInterrupt
        steps.append(1)
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patched, suppress(KeyboardInterrupt):
        patched.setattr(loop, "_step", failing)
        train(Encoder.load(model, precision="fp32"), make_pairs(ROWS), made, development(), work, key)
    return len(steps)


def test_a_checkpoint_of_other_settings_is_kept_and_taken_up_again_with_them(
    tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def key(rate: float, more: str = "") -> str:
        return key_of({"dev data": "d", "training": {"learning_rate": rate, "lora": {"rank": 4}}}) + more

    calm, state = run(tiny_model, tmp_path / "calm", recipe())
    cut = tmp_path / "cut"
    assert interrupted(tiny_model, cut, recipe(), key(1e-3, "-1"), 7) == 7
    capsys.readouterr()
    assert interrupted(tiny_model, cut, recipe(), key(2e-3, "-1"), 1) == 1  # the typing error
    said = " ".join(capsys.readouterr().err.split())
    assert "A checkpoint of step 7 was made with training.learning_rate = 0.001, now 0.002: it is kept until" in said
    assert "Put training.learning_rate = 0.001 back to go on with it. Training begins anew." in said
    assert interrupted(tiny_model, cut, recipe(), key(3e-3, "-1"), 0) == 0  # at once again, before any checkpoint
    capsys.readouterr()
    encoder = Encoder.load(tiny_model, precision="fp32")
    torch.manual_seed(999)
    again = train(encoder, make_pairs(ROWS), recipe(), development(), cut, key(1e-3, "-1"))
    assert again.log == state.log
    alike(encoder, calm, 0.0)
    assert len(list(cut.glob("other-*"))) <= 1


def test_a_kill_between_the_parts_of_a_checkpoint_that_is_put_aside_loses_none(tmp_path: Path) -> None:
    for killed in range(4):
        folder = tmp_path / str(killed)
        (folder / "deepspeed").mkdir(parents=True)
        for name in ("best.pt", "checkpoint.pt", "deepspeed/step-3"):
            (folder / name).write_text(name)
        moves = []

        def moved(source: Path, target: Path, moves: list[int] = moves, killed: int = killed) -> None:
            moves.append(1)
            if len(moves) > killed:
                raise KeyboardInterrupt
            os.rename(source, target)

        with pytest.MonkeyPatch.context() as patched, suppress(KeyboardInterrupt):
            patched.setattr(aside.os, "replace", moved)
            aside.put_aside(folder, "k", 9.0)
        aside.bring_back(folder, "k", begun=(folder / "checkpoint.pt").exists())
        for name in ("best.pt", "checkpoint.pt", "deepspeed/step-3"):
            assert (folder / name).read_text() == name
        assert not list(folder.glob("other-*"))


def test_a_learned_projection_is_trained_and_comes_back_from_a_checkpoint(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fixed(pairs: Pairs) -> FixedVectors:
        rng = np.random.default_rng(0)
        queries, passages = (rng.normal(size=(len(texts), 48)) for texts in (pairs.queries, pairs.passages))
        return FixedVectors(queries.astype(np.float32), passages.astype(np.float32))

    settings = {"projection": "learned", "vector_teacher": "t", "contrastive_share": 0.1, "epochs": 4}
    made = replace(recipe("vectors", **settings), fixed=fixed)
    calm, state = run(tiny_model, tmp_path / "calm", made)
    saved = torch.load(tmp_path / "calm" / "checkpoint.pt", weights_only=True)["module"]["weight"]
    assert saved.shape == (48, 32)
    losses = [row["loss"] for row in state.log if "loss" in row]
    assert losses[-1] < losses[0]
    real, steps = loop._step, []

    def failing(*arguments: Any) -> tuple[float, float]:
        steps.append(1)
        if len(steps) == 12:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop, "_step", failing)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, tmp_path / "cut", made)
    resumed, _ = run(tiny_model, tmp_path / "cut", made)
    alike(resumed, calm, 0.0)
    again = torch.load(tmp_path / "cut" / "checkpoint.pt", weights_only=True)["module"]["weight"]
    assert torch.equal(again, saved)


def test_a_penalty_holds_the_weights_back(tiny_model: str, tmp_path: Path) -> None:
    base = Encoder.load(tiny_model, precision="fp32")
    free, _ = run(tiny_model, tmp_path / "free", recipe(epochs=1))
    encoder = Encoder.load(tiny_model, precision="fp32")
    start = {name: weight.detach().clone() for name, weight in encoder.model.named_parameters()}

    def far() -> torch.Tensor:
        return 100 * sum((weight - start[name]).pow(2).sum() for name, weight in encoder.model.named_parameters())

    train(encoder, make_pairs(ROWS), recipe(epochs=1), development(), tmp_path / "held", "k", Hooks(penalty=far))

    def distance(one: Encoder) -> float:
        there = weights(base)
        return sum(float((weight - there[name]).pow(2).sum()) for name, weight in weights(one).items())

    assert 0 < distance(encoder) < 0.5 * distance(free)


def test_a_gradient_that_is_no_number_ends_training_before_it_reaches_a_checkpoint(
    tiny_model: str, tmp_path: Path
) -> None:
    """The root of a length of 0 has such a gradient, and a value of 0."""
    encoder, calls = Encoder.load(tiny_model, precision="fp32"), []
    weight = next(encoder.model.parameters())

    def penalty() -> torch.Tensor:
        calls.append(1)
        apart = (weight - weight.detach()).pow(2).sum()
        return apart.sqrt() if len(calls) == 6 else apart

    with pytest.raises(ModelError, match=r"the gradient is nan at step 6 of 10, though the loss is a number") as caught:
        train(encoder, make_pairs(ROWS), recipe(), development(), tmp_path, "k", Hooks(penalty=penalty))
    assert "learning_rate" in caught.value.hint
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["progressed"]["step"] == 5
    assert all(torch.isfinite(one).all() for one in saved["model"].values())


def test_vectors_that_are_no_numbers_are_never_kept_as_a_model(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, probe = Encoder.load(tiny_model, precision="fp32"), Probe(["what ends 3"], TEXTS[:2])
    vectors = probe.vectors(encoder)
    with pytest.raises(ModelError, match="trained model gives vectors that are no numbers") as caught:
        save_checked(encoder, tmp_path / "model", probe, vectors * np.float32(np.nan))
    assert "training.learning_rate" in caught.value.hint
    with monkeypatch.context() as patched:
        patched.setattr(Probe, "vectors", lambda *_: vectors * np.float32(np.nan))  # of what was saved
        with pytest.raises(ModelError, match="saved model gives other vectors"):
            save_checked(encoder, tmp_path / "model", probe, vectors)
    assert not (tmp_path / "model").exists()
    assert save_checked(encoder, tmp_path / "model", probe, vectors) > 0.9999


@pytest.mark.parametrize(("scale", "found"), [(65_536.0, 0.0), (0.5, float("inf"))])
def test_a_step_left_out_for_its_scale_is_no_damage_until_no_scale_is_left(
    tiny_model: str, scale: float, found: float
) -> None:
    class Scaler:
        def unscale_(self, _: Any) -> None: ...
        def step(self, _: Any) -> None: ...
        def update(self) -> None: ...
        def get_scale(self) -> float:
            return scale

    encoder = Encoder.load(tiny_model, precision="fp32")
    stepper = Replicated(encoder, recipe(), make_objective(recipe(), None, 32, encoder.model.device), None)
    stepper.scaler = Scaler()  # type: ignore[assignment]
    for weight in encoder.model.parameters():
        weight.grad = torch.full_like(weight, float("inf"))
    stepper.update(1.0)
    assert stepper.norm == found


def test_the_others_are_told_no_state_that_lies_on_a_gpu(tiny_model: str) -> None:
    class OnGpu(torch.Tensor):
        def cpu(self, *_: Any, **__: Any) -> torch.Tensor:
            return self.as_subclass(torch.Tensor)

    class Leading(World):
        def tell(self, order: object) -> None:
            told.append(order)

        def spread(self, tensor: torch.Tensor) -> torch.Tensor:
            return tensor

    told: list[Any] = []
    encoder = Encoder.load(tiny_model, precision="fp32")
    world = Leading(0, 2, torch.device("cpu"), None)
    stepper = Replicated(encoder, recipe(), make_objective(recipe(), None, 32, encoder.model.device), world)
    for weight in encoder.model.parameters():  # as after a resume
        weight.grad = torch.ones_like(weight)
    stepper.optimizer.step()
    for one in stepper.optimizer.state.values():
        one.update({name: value.as_subclass(OnGpu) for name, value in one.items()})
    stepper.start(checkpoint.State(encoder.model, stepper.optimizer))
    state = told[0][0]["state"]
    assert len(state) == len(list(encoder.model.parameters()))
    assert {type(value) for one in state.values() for value in one.values()} == {torch.Tensor}
    assert all(isinstance(value, OnGpu) for one in stepper.optimizer.state.values() for value in one.values())


def test_every_row_of_the_log_is_reported(tiny_model: str, tmp_path: Path) -> None:
    rows: list[dict[str, float]] = []
    _, state = run(tiny_model, tmp_path, recipe(), Hooks(report=rows.append))
    assert rows == state.log
    assert len(rows) >= 4
    assert (tmp_path / "log.jsonl").read_text().count("\n") == len(rows)


def test_a_reporter_that_is_not_there_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("tensorboard", "trackio", "wandb", "mlflow"):
        with pytest.raises(MissingExtraError, match=name) as caught:
            require_reporters([name])
        assert caught.value.hint == f"pip install 'fieldtune[{name}]'"
    require_reporters([])


class Library(types.ModuleType):
    """Stands in for trackio, wandb and mlflow: it writes down what it is told."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.said: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def called(*arguments: Any, **named: Any) -> Any:
            self.said.append((name, (arguments, named)))

            return types.SimpleNamespace(info=types.SimpleNamespace(run_id=f"run {len(self.said)}"))

        return called


@pytest.mark.parametrize(("name", "method"), [("trackio", "log"), ("wandb", "log"), ("mlflow", "log_metrics")])
def test_numbers_reach_the_reporter(name: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(name)
    monkeypatch.setitem(sys.modules, name, library)
    with reporting([name], tmp_path, make_config({})) as report:
        assert report is not None
        report({"step": 10, "loss": 0.5})
        report({"step": 20, "dev_ndcg@10": 0.7})
    sent = [said for told, said in library.said if told == method]
    assert [next(iter(arguments[0].values())) for arguments, _ in sent] == [0.5, 0.7]
    assert [named["step"] for _, named in sent] == [10, 20]
    if name == "mlflow":
        assert "dev_ndcg-at-10" in sent[1][0][0]  # it allows no @
    assert library.said[-1][0] == ("end_run" if name == "mlflow" else "finish")


@pytest.mark.parametrize(("name", "opens", "method", "identity"), [
    ("trackio", "init", "log", "name"), ("wandb", "init", "log", "id"),
    ("mlflow", "start_run", "log_metrics", "run_id"),
])  # fmt: skip
def test_a_resumed_training_goes_on_in_the_same_run_and_sends_each_row_once(
    name: str, opens: str, method: str, identity: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(name)
    monkeypatch.setitem(sys.modules, name, library)
    rows = [{"step": step, "loss": 1 / step} for step in (10, 20, 30)]

    def training(key: str, told: list[dict[str, float]], *, killed: bool = False) -> None:
        with reporting([name], tmp_path, make_config({}), key) as report:
            assert report is not None
            for row in told:
                report(row)
            if killed:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training("k", rows[:2], killed=True)
    training("k", rows)  # the rows of the checkpoint are told again
    training("another", rows[:1])
    sent = [named["step"] for told, (_, named) in library.said if told == method]
    assert sent == [10, 20, 30, 10]
    opened = [named for told, (_, named) in library.said if told == opens]
    if name == "mlflow":
        begun = [number for number, (told, _) in enumerate(library.said, 1) if told == opens]
        assert [one.get("run_id") for one in opened] == [None, f"run {begun[0]}", None]
        assert next(arguments for told, (arguments, _) in library.said if told == "end_run") == ("FAILED",)
        assert sum(told == "log_params" for told, _ in library.said) == 2  # of a run once
    else:
        ids = [one[identity] for one in opened]
        assert ids[0] == ids[1] != ids[2]
        assert {one["resume"] for one in opened} == {"allow"}


def test_a_tracker_that_does_not_let_us_in_is_named_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, cure in (("wandb", "wandb login"), ("mlflow", "MLFLOW_TRACKING_URI"), ("trackio", "report_to")):
        library = Library(name)

        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("api_key not configured (no-tty)\nmore of it")

        library.init = library.set_experiment = fail  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, library)
        with (
            pytest.raises(FieldtuneError, match=rf"^{name} could not be started: api_key not configured") as caught,
            reporting([name], tmp_path, make_config({}), "k"),
        ):
            pass
        assert cure in caught.value.hint
        assert f"take {name} out of training.report_to" in caught.value.hint


def test_a_tracker_that_fails_on_the_way_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    library = Library("wandb")
    monkeypatch.setitem(sys.modules, "wandb", library)

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("gone")

    library.log = library.finish = fail  # type: ignore[attr-defined]
    caplog.set_level("WARNING")  # also forgets what a converter made the logger believe of its level
    with reporting(["wandb"], tmp_path, make_config({}), "k") as report:
        assert report is not None
        report({"step": 10, "loss": 0.5})
    assert caplog.text.count("wandb failed (gone)") == 2


def test_a_training_that_goes_on_tells_what_its_checkpoint_holds(tiny_model: str, tmp_path: Path) -> None:
    first: list[Any] = []
    _, state = run(tiny_model, tmp_path, recipe(), Hooks(report=first.append, restored=first.append))
    again: list[Any] = []
    run(tiny_model, tmp_path, recipe(), Hooks(report=lambda row: pytest.fail("not new"), restored=again.append))
    assert again == first == state.log


def test_a_tracker_has_the_rows_of_all_trainings_in_the_order_of_their_steps(
    tiny_model: str, tiny_beir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wandb drops a row whose step is lower than one before."""
    library = Library("wandb")
    monkeypatch.setitem(sys.modules, "wandb", library)
    monkeypatch.setattr("fieldtune.training.stage.require_reporters", lambda names: None)
    config = make_config({
        "model": {"base": tiny_model}, "negatives": {"per_query": 2, "depth": 30, "rounds": 2},
        "training": {"epochs": 2, "batch_size": 16, "learning_rate": 2e-3, "evaluations": 2, "precision": "fp32",
                     "seeds": 2, "pretrain": "tsdae", "base_share": "auto", "report_to": ["wandb"]},
    })  # fmt: skip
    encoder = Encoder.load(tiny_model, precision="fp32")
    build_dataset(config, load_beir(tiny_beir), {}, encoder, tmp_path / "data", tmp_path / "vectors")
    data = load_beir(tmp_path / "data")
    for _ in range(2):  # the second one finds all of it done
        encoder = Encoder.load(tiny_model, precision="fp32")
        tune(config, data, tmp_path / "data" / "train.jsonl", encoder, tmp_path, tmp_path / "vectors")
    log = [json.loads(line) for line in (tmp_path / "training" / "log.jsonl").read_text().splitlines()]
    sent = [(named["step"], arguments[0]) for told, (arguments, named) in library.said if told == "log"]
    assert [step for step, _ in sent] == sorted(step for step, _ in sent)
    assert len(sent) == len(log)
    first = max(row["pretrain_step"] for row in log if "pretrain_step" in row)
    for row, (step, values) in zip(log, sent, strict=True):
        if "pretrain_step" in row:
            assert (step, values) == (row["pretrain_step"], {"pretrain_loss": row["pretrain_loss"]})
        elif "base_share" in row:
            assert values["base_share/share"] == row["base_share"]
            assert values["base_share/dev"] == row["dev"]
        else:
            assert (step, values) == (first + row["step"], {key: row[key] for key in row if key != "step"})
    assert {(row["seed"], row["round"]) for row in log if "loss" in row} == {(1, 1), (1, 2), (2, 1), (2, 2)}


def test_tensorboard_writes_into_the_runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[Any, ...]] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            said.append(("open", folder))

        def add_scalar(self, *arguments: Any) -> None:
            said.append(arguments)

        def close(self) -> None:
            said.append(("close",))

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    with reporting(["tensorboard"], tmp_path, make_config({})) as report:
        assert report is not None
        report({"step": 10, "loss": 0.5, "rate": 0.1})
    where = str(tmp_path / "training" / "tensorboard")
    assert said == [("open", where), ("loss", 0.5, 10), ("rate", 0.1, 10), ("close",)]


def test_without_reporters_there_is_nothing_to_call(tmp_path: Path) -> None:
    with reporting([], tmp_path, make_config({})) as report:
        assert report is None


def test_memory_that_does_not_suffice_is_named_with_what_saves_it(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*arguments: Any, **named: Any) -> float:
        raise torch.cuda.OutOfMemoryError("out")

    monkeypatch.setattr(loop, "add_gradient", short)
    with pytest.raises(ModelError, match="does not hold a batch of 8") as caught:
        run(tiny_model, tmp_path, recipe())
    assert "gradient_cache" in caught.value.hint


def test_the_log_says_how_exact_dev_is(tiny_model: str, tmp_path: Path) -> None:
    dev = development()
    encoder, state = run(tiny_model, tmp_path, recipe(epochs=2), dev=dev)
    scores = dev.score(encoder)
    row = next(row for row in state.log if row["step"] == state.best_step and "dev_error" in row)
    assert row["dev_error"] == pytest.approx(np.std(scores, ddof=1) / np.sqrt(len(scores)), abs=1e-5)
    assert f"{len(dev.queries):,} queries among {len(dev.passages):,} passages" in dev.about(row["dev_error"])
