from __future__ import annotations

import errno
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import numpy as np
import pytest
import torch

from fieldtune.beir import load_beir
from fieldtune.config import Training, make_config
from fieldtune.dataset import build_dataset
from fieldtune.encoding import Encoder, cached_vectors
from fieldtune.encoding.tokens import Tokens, TokenStore
from fieldtune.errors import ModelError
from fieldtune.model_folder import transformer_folder
from fieldtune.training import general, tune
from fieldtune.training import pretrain as module
from fieldtune.training.devices.world import World
from fieldtune.training.general import pretrain_first
from fieldtune.training.masked import hide_tokens
from fieldtune.training.masked_head import fresh_head, masked_head
from fieldtune.training.modes import set_up
from fieldtune.training.pretrain import Pretrained, pretrain
from fieldtune.training.restoring import delete_tokens, make_decoder
from fieldtune.training.tokens_to_find import Task, find_loss

WORDS = ["rent", "lease", "tenant", "notice", "breach", "audit"]
# The word in the middle follows from the first one: there is something to be learned.
PASSAGES = [
    f"article {n} {WORDS[n % 6]} ends {WORDS[(n + 1) % 6]} starts {WORDS[(n + 2) % 6]} covers {n // 6}"
    for n in range(240)
]


@pytest.fixture(scope="session")
def masking_model(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny model with a mask token."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(tiny_model, device="cpu")
    model.tokenizer.add_special_tokens({"mask_token": "[MASK]"})
    model.transformers_model.resize_token_embeddings(len(model.tokenizer), mean_resizing=False)
    folder = tmp_path_factory.mktemp("masking")
    model.save(str(folder))
    return str(folder)


def settings(kind: str, **changes: object) -> Training:
    given = {"pretrain": kind, "pretrain_epochs": 3, "pretrain_rate": 3e-3, "checkpoint_seconds": 0.001}
    return Training(**(given | changes))  # type: ignore[arg-type]


def run(model: str, work: Path, made: Training, key: str = "k") -> tuple[Encoder, Pretrained]:
    encoder = Encoder.load(model, precision="fp32")
    return encoder, pretrain(encoder, transformer_folder(Path(model)), PASSAGES, made, 5, work, key)


def weights(encoder: Encoder) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in encoder.model.state_dict().items()}


def test_tokens_are_hidden_as_often_as_asked_and_marks_never() -> None:
    rng = np.random.default_rng(0)
    ids = np.arange(10, 20)[None].repeat(2_000, axis=0)
    free = np.ones_like(ids, np.bool_)
    free[:, 0] = free[:, -1] = False
    hidden, chosen = hide_tokens(ids, free, 0.3, 4, 1_000, rng)
    assert not chosen[:, [0, -1]].any()
    assert (hidden == ids)[~chosen].all()
    assert chosen.any(axis=1).all()
    assert chosen[:, 1:-1].mean() == pytest.approx(0.3, abs=0.02)
    assert (hidden == 4)[chosen].mean() == pytest.approx(0.8, abs=0.02)
    assert (hidden == ids)[chosen].mean() == pytest.approx(0.1, abs=0.02)
    nothing = np.zeros_like(free)
    assert not hide_tokens(ids, nothing, 0.3, 4, 1_000, rng)[1].any()


def test_deleted_tokens_leave_order_and_marks_and_never_nothing() -> None:
    rng = np.random.default_rng(0)
    ids = np.arange(102, dtype=np.int32)
    free = np.ones(102, np.bool_)
    free[[0, 101]] = False
    lengths = []
    for _ in range(200):
        left = delete_tokens(ids, free, 0.6, rng)
        assert (left[0], left[-1]) == (0, 101)
        assert (np.diff(left) > 0).all()
        lengths.append(len(left) - 2)
    assert np.mean(lengths) == pytest.approx(41, abs=2)
    short = delete_tokens(ids[:3], np.array([False, True, False]), 0.99, rng)
    assert short.tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ["mlm", "tsdae"])
def test_pretraining_learns_the_passages_and_moves_the_encoder(kind: str, masking_model: str, tmp_path: Path) -> None:
    base = weights(Encoder.load(masking_model, precision="fp32"))
    encoder, done = run(masking_model, tmp_path, settings(kind, pretrain_epochs=12))
    assert done.passages + 12 == len(PASSAGES)  # 5% are held out
    assert done.steps == 12 * math.ceil(done.passages / 32)
    assert done.fresh
    assert done.after < done.before - 0.5
    losses = [row["pretrain_loss"] for row in done.log]
    assert losses[-1] < losses[0]
    assert any(not torch.equal(weight, base[name]) for name, weight in weights(encoder).items())
    assert set(weights(encoder)) == set(base)  # the head does not stay
    assert not encoder.model.training
    assert "no query seen" in done.note


def test_a_pretraining_that_is_told_to_end_keeps_the_step_that_it_is_at(
    masking_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = settings("mlm", dropout=True, checkpoint_seconds=1e9, pretrain_epochs=1)
    calm, done = run(masking_model, tmp_path / "calm", made)
    real, steps = module._update, []

    def told(*arguments: object) -> float:
        steps.append(1)
        if len(steps) in (3, done.steps + 1):  # in the middle, and at the last step of all
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_update", told)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(masking_model, tmp_path / "cut", made)
        torch.manual_seed(999)
        steps += [1] * (len(steps) == 3)
    resumed, again = run(masking_model, tmp_path / "cut", made)
    assert len(steps) == done.steps + 1  # one is counted in between
    assert again == done
    assert all(torch.equal(weight, weights(resumed)[name]) for name, weight in weights(calm).items())


@pytest.mark.parametrize("kind", ["mlm", "tsdae"])
def test_a_killed_pretraining_ends_with_the_weights_of_an_undisturbed_one(
    kind: str, masking_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = settings(kind, dropout=True)
    calm, done = run(masking_model, tmp_path / "calm", made)
    real, steps = module._gradient, []

    def failing(*arguments: object) -> float:
        steps.append(1)
        if len(steps) == 9:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_gradient", failing)
    with pytest.raises(KeyboardInterrupt):
        run(masking_model, tmp_path / "cut", made)
    torch.manual_seed(999)
    resumed, again = run(masking_model, tmp_path / "cut", made)
    assert len(steps) == done.steps + 1
    assert again == done and not again.notes
    for name, weight in weights(calm).items():
        assert torch.equal(weight, weights(resumed)[name]), name
    finished, third = run(masking_model, tmp_path / "cut", made)  # what is finished is not done again
    assert len(steps) == done.steps + 1
    assert third == done
    _, other = run(masking_model, tmp_path / "cut", made, "of another model")
    assert "another model" in " ".join(other.notes)
    assert all(torch.equal(weight, weights(finished)[name]) for name, weight in weights(calm).items())


def test_of_pretrainings_put_aside_the_longest_is_kept_and_taken_up_again(
    masking_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, steps = module._gradient, []

    def counted(*arguments: object) -> float:
        steps.append(1)
        if len(steps) in (9, 12, 15):
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_gradient", counted)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 60.0 * len(steps)))
    for rate in (3e-3, 3e-4, 3e-2):  # after 8 steps two changes in a row, each of which is pre-trained for 2 steps
        with pytest.raises(KeyboardInterrupt):
            run(masking_model, tmp_path, settings("mlm", pretrain_rate=rate), str(rate))
    (aside,) = tmp_path.glob("other-*")
    assert torch.load(aside / "checkpoint.pt", weights_only=True)["progressed"]["step"] == 8
    done = len(steps)
    _, again = run(masking_model, tmp_path, settings("mlm"), "0.003")
    assert len(steps) - done == again.steps - 8
    assert "goes on from step 8" in " ".join(again.notes)


def test_word_vectors_that_are_frozen_stay_though_the_head_is_tied_to_them(masking_model: str, tmp_path: Path) -> None:
    encoder = Encoder.load(masking_model, precision="fp32")
    words = encoder.model.transformers_model.get_input_embeddings()
    words.requires_grad_(False)
    before = words.weight.clone()
    pretrain(encoder, transformer_folder(Path(masking_model)), PASSAGES, settings("mlm"), 5, tmp_path, "k")
    assert torch.equal(words.weight, before)


def test_a_head_that_the_folder_brings_along_is_used(
    masking_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForMaskedLM

    encoder = Encoder.load(masking_model, precision="fp32")
    folder = transformer_folder(Path(masking_model))
    whole = AutoModelForMaskedLM.from_pretrained(folder)
    torch.nn.init.normal_(whole.cls.predictions.bias)
    whole.save_pretrained(tmp_path)
    capsys.readouterr()
    head, own = masked_head(encoder, tmp_path)
    assert own and capsys.readouterr().err == ""  # no bar of the library's between lines that say how far training is
    states = torch.randn(5, 32)
    words = encoder.model.transformers_model.get_input_embeddings().weight
    expected = whole.cls.predictions.transform(states) @ words.T + whole.cls.predictions.bias
    assert torch.allclose(head(states), expected, atol=1e-4)
    assert masked_head(encoder, folder)[1] is False
    states.requires_grad_(True)
    head(states).sum().backward()
    assert words.grad is not None  # tied


def test_an_architecture_without_a_head_gets_a_fresh_one(masking_model: str, tmp_path: Path) -> None:
    encoder = Encoder.load(masking_model, precision="fp32")
    (tmp_path / "config.json").write_text('{"model_type": "clip_text_model"}')
    head, own = masked_head(encoder, tmp_path)
    words = encoder.model.transformers_model.get_input_embeddings().weight
    assert not own
    assert head(torch.randn(3, 32)).shape == (3, len(words))
    assert list(fresh_head(words).parameters())[-2] is words or any(p is words for p in fresh_head(words).parameters())


def test_the_decoder_sees_no_token_ahead_and_needs_the_vector() -> None:
    torch.manual_seed(0)
    words = torch.nn.Parameter(torch.randn(50, 32))
    decoder = make_decoder(words, 24, 10).eval()
    ids, vectors = torch.randint(0, 50, (2, 8)), torch.randn(2, 24)
    states = decoder(ids, vectors)
    changed = ids.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 50
    after = decoder(changed, vectors)
    assert torch.allclose(states[:, :5], after[:, :5], atol=1e-5)
    assert not torch.allclose(states[:, 5], after[:, 5], atol=1e-3)
    assert not torch.allclose(states, decoder(ids, vectors + 1), atol=1e-3)
    assert any(weight is words for weight in decoder.parameters())


def test_the_loss_over_a_draw_is_near_the_whole_one() -> None:
    torch.manual_seed(0)
    states, targets, output = torch.randn(4_000, 8), torch.randint(0, 30, (4_000,)), torch.nn.Linear(8, 30)
    whole, count = find_loss(states, targets, output, 30, np.random.default_rng(0))
    drawn, fewer = find_loss(states, targets, output, 2**24 // 1_000, np.random.default_rng(0))
    assert (count, fewer) == (4_000, 1_000)
    assert drawn.item() == pytest.approx(whole.item(), rel=0.05)


def test_a_model_without_a_mask_token_is_named_with_the_cure(tiny_model: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no mask token") as caught:
        run(tiny_model, tmp_path, settings("mlm"))
    assert "tsdae" in caught.value.hint
    encoder = Encoder.load(tiny_model, precision="fp32")
    with pytest.raises(ModelError, match="too few passages"):
        pretrain(encoder, transformer_folder(Path(tiny_model)), ["rent"], settings("tsdae"), 5, tmp_path, "k")


@pytest.mark.parametrize("kind", ["mlm", "tsdae"])
def test_the_stage_trains_on_from_what_pretraining_left(
    kind: str, masking_model: str, tiny_beir: Path, tmp_path: Path
) -> None:
    config = make_config({
        "model": {"base": masking_model}, "negatives": {"per_query": 0},
        "training": {"epochs": 6, "batch_size": 16, "learning_rate": 2e-3, "evaluations": 2, "precision": "fp32",
                     "pretrain": kind, "pretrain_epochs": 2, "pretrain_rate": 2e-3},
    })  # fmt: skip
    encoder = Encoder.load(masking_model, precision="fp32")
    build_dataset(config, load_beir(tiny_beir), {}, encoder, tmp_path / "data", tmp_path / "vectors")
    data = load_beir(tmp_path / "data")
    result = tune(config, data, tmp_path / "data" / "train.jsonl", encoder, tmp_path, tmp_path / "vectors")
    said = " ".join(result.notes)
    assert "Pre-training on 57 passages" in said
    assert "Pre-training alone moved dev nDCG@10 from" in said
    assert result.counts["dev nDCG@10 after"] > result.counts["dev nDCG@10 before"]
    log = (tmp_path / "training" / "log.jsonl").read_text()
    assert "pretrain_loss" in log
    assert "dev_ndcg@10" in log


@pytest.mark.parametrize("kind", ["mlm", "tsdae"])
def test_gradient_checkpointing_computes_layers_again_and_changes_nothing(
    kind: str, masking_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.bert.modeling_bert import BertSelfAttention

    calls, real = [], BertSelfAttention.forward

    def counted(self: torch.nn.Module, *arguments: object, **named: object) -> object:
        calls.append(self.training)
        return real(self, *arguments, **named)

    monkeypatch.setattr(BertSelfAttention, "forward", counted)
    counts, found = [], []
    for again in (False, True):
        calls.clear()
        made = settings(kind, gradient_checkpointing=again, pretrain_epochs=0.5)
        encoder = Encoder.load(masking_model, precision="fp32")
        set_up(encoder.model, made)
        folder = transformer_folder(Path(masking_model))
        pretrain(encoder, folder, PASSAGES, made, 5, tmp_path / str(again), "k")
        counts.append(len(calls))
        found.append(weights(encoder))
        assert not any(calls)  # dropout stays off inside
    assert counts[1] > 1.4 * counts[0]
    for name, weight in found[0].items():
        torch.testing.assert_close(weight, found[1][name], atol=1e-5, rtol=0)


def test_small_gradients_survive_16_bits(masking_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, real = weights(Encoder.load(masking_model, precision="fp32")), module._gradient
    steps, seen = [], []

    def faint(task: Task, *arguments: object) -> float:
        """As of a loss whose gradients are far below what 16 bits hold."""
        loss = task.loss
        return real(replace(task, loss=lambda *rows: (loss(*rows)[0] * 1e-7, 1)), *arguments)  # type: ignore[arg-type]

    def stepped(optimizer: torch.optim.Optimizer, *arguments: object, **named: object) -> object:
        seen.append(max(float(w.grad.abs().max()) for g in optimizer.param_groups for w in g["params"]
                        if w.grad is not None))  # fmt: skip
        steps.append(1)
        return adam(optimizer, *arguments, **named)

    adam = torch.optim.AdamW.step
    monkeypatch.setattr(module, "_gradient", faint)
    monkeypatch.setattr(torch.optim.AdamW, "step", stepped)
    encoder = Encoder.load(masking_model, precision="fp32")
    encoder.precision = "fp16"  # a processor computes it too, slowly
    made = settings("mlm", pretrain_epochs=0.5, max_grad_norm=1e9, weight_decay=0)
    pretrain(encoder, transformer_folder(Path(masking_model)), PASSAGES, made, 5, tmp_path, "k")
    assert steps
    assert min(seen) > 0
    assert max(seen) < 1e-6  # scaled back before the step
    grown = {name for name, weight in weights(encoder).items() if not torch.equal(weight, base[name])}
    assert any("layer.0.attention" in name for name in grown)


def test_passages_are_cut_as_in_training(masking_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []
    real = Tokens.store

    def store(self: Tokens, *arguments: object, **named: object) -> TokenStore:
        made = real(self, *arguments, **named)  # type: ignore[arg-type]
        widths.append(int(made.lengths.max()))
        return made

    monkeypatch.setattr(Tokens, "store", store)
    run(masking_model, tmp_path / "short", settings("mlm", passage_tokens=6, pretrain_epochs=0.2))
    run(masking_model, tmp_path / "long", settings("mlm", pretrain_epochs=0.2))
    assert widths[0] == 6 < widths[1]


def test_a_lower_limit_is_another_pretraining(masking_model: str, tiny_beir: Path, tmp_path: Path) -> None:
    keys = set()
    for limit in (0, 6):
        made = {"pretrain": "tsdae", "passage_tokens": limit, "pretrain_epochs": 0.2}
        config = make_config({"model": {"base": masking_model}, "training": made})
        encoder = Encoder.load(masking_model, precision="fp32")
        keys.add(pretrain_first(config, encoder, load_beir(tiny_beir), None, tmp_path).key)
    assert len(keys) == 2


@pytest.mark.parametrize("kind", ["mlm", "tsdae"])
def test_layers_that_are_frozen_stay_in_pretraining_too(
    kind: str, masking_model: str, tiny_beir: Path, tmp_path: Path
) -> None:
    keys = set()
    for count in (0, 1):
        made = {"pretrain": kind, "pretrain_rate": 2e-3, "pretrain_epochs": 0.5, "freeze_layers": count}
        config = make_config({"model": {"base": masking_model}, "training": made})
        encoder = Encoder.load(masking_model, precision="fp32")
        before = weights(encoder)
        keys.add(pretrain_first(config, encoder, load_beir(tiny_beir), None, tmp_path / str(count)).key)
        moved = {name for name, weight in weights(encoder).items() if not torch.equal(weight, before[name])}
        lower = {name for name in moved if "embeddings" in name or "layer.0." in name}
        assert any("layer.1." in name for name in moved)
        assert bool(lower) == (count == 0), lower
    assert len(keys) == 2


def test_a_gradient_that_is_no_number_ends_pretraining_before_it_reaches_a_checkpoint(
    masking_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The root of 0 has such a gradient, and a value of 0."""
    real, steps = module._gradient, []

    def steep(task: Task, *arguments: object) -> float:
        steps.append(1)
        weight = next(task.modules.parameters())
        if len(steps) == 4:
            (weight - weight.detach()).pow(2).sum().sqrt().backward()
        return real(task, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_gradient", steep)
    with pytest.raises(
        ModelError, match=r"gradient of pre-training is nan at step 4 of \d+, though the loss"
    ) as caught:
        run(masking_model, tmp_path, settings("mlm"))
    assert "training.pretrain_rate" in caught.value.hint
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["progressed"]["step"] == 3
    assert all(torch.isfinite(one).all() for one in saved["model"].values())


@pytest.mark.parametrize("at", [3, 24])  # on the way, and at the end
def test_a_full_disk_leaves_the_last_good_checkpoint_of_pretraining(
    at: int, masking_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, real, saves = settings("mlm"), torch.save, []

    def full(state: object, stream: IO[bytes]) -> None:
        saves.append(1)
        if len(saves) == at:
            stream.write(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(state, stream)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ModelError, match="disk is full: the checkpoint could not be written") as caught:
        run(masking_model, tmp_path, made)
    assert "same command" in caught.value.hint
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["progressed"]["step"] == at - 1
    assert not list(tmp_path.glob(".*.tmp"))
    monkeypatch.setattr(torch, "save", real)
    taken, gradient = [], module._gradient
    monkeypatch.setattr(module, "_gradient", lambda *given: [taken.append(1), gradient(*given)][1])
    _, done = run(masking_model, tmp_path, made)
    assert len(taken) == done.steps - (at - 1)


def test_memory_that_does_not_suffice_for_pretraining_is_named_with_what_saves_it(
    masking_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*arguments: object) -> float:
        raise torch.cuda.OutOfMemoryError("out")

    monkeypatch.setattr(module, "_gradient", short)
    with pytest.raises(ModelError, match="does not hold a pre-training step of 32 passages") as caught:
        run(masking_model, tmp_path, settings("mlm"))
    assert "gradient_checkpointing" in caught.value.hint


def test_of_several_processes_the_one_that_pretrains_says_so(
    masking_model: str, tiny_beir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(general, "current", lambda: World(0, 4, torch.device("cpu"), None))
    config = make_config({"model": {"base": masking_model}, "training": {"pretrain": "mlm", "pretrain_epochs": 0.1}})
    encoder = Encoder.load(masking_model, precision="fp32")
    note = pretrain_first(config, encoder, load_beir(tiny_beir), None, tmp_path).note
    assert "first of the 4 processes did it alone" in note


def test_vectors_of_pretrained_weights_are_not_kept_as_the_base_models(
    masking_model: str, tiny_beir: Path, tmp_path: Path
) -> None:
    made = {"pretrain": "tsdae", "pretrain_rate": 2e-3}
    encoder = Encoder.load(masking_model, precision="fp32")
    before = {side: np.array(cached_vectors(encoder, PASSAGES, side, tmp_path)) for side in ("query", "passage")}
    config = make_config({"model": {"base": masking_model}, "training": made})
    pretrain_first(config, encoder, load_beir(tiny_beir), None, tmp_path / "state")
    base = Encoder.load(masking_model, precision="fp32")
    for side, kept in before.items():
        np.testing.assert_array_equal(cached_vectors(encoder, PASSAGES, side, tmp_path), encoder.encode(PASSAGES, side))
        assert np.abs(encoder.encode(PASSAGES, side) - kept).max() > 1e-3
        np.testing.assert_array_equal(cached_vectors(base, PASSAGES, side, tmp_path), kept)
