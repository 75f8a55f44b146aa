"""Training three kinds of vectors from rows to a saved folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from fieldtune.beir import RetrievalData, load_beir
from fieldtune.config import M3, Config, make_config
from fieldtune.dataset import build_dataset, read_examples, write_examples
from fieldtune.encoding import Encoder
from fieldtune.encoding.m3 import hidden_size, load_heads, new_heads, signals_of, token_counts
from fieldtune.encoding.tokens import TokenStore
from fieldtune.errors import ConfigError
from fieldtune.publish import plan_push
from fieldtune.training import forward, tune
from fieldtune.training.batches import Batch, make_batch
from fieldtune.training.m3.development import ranked_by_sum
from fieldtune.training.m3.gradient import add_m3_gradient
from fieldtune.training.m3.objective import M3Objective
from fieldtune.training.pairs import make_pairs
from fieldtune.types import Example, Result
from fieldtune.workspace import write_json

TEXTS = ["article 3 lease rent", "rent rent rent", "", "fever cough asthma lease ends notice 3 4 5 6", "bond"]


def config_for(model: str, m3: dict[str, Any] | None = None, **training: Any) -> Config:
    settings = {
        "epochs": 1, "batch_size": 16, "learning_rate": 2e-3, "evaluations": 1, "precision": "fp32",
        "matryoshka": [32, 16], "m3": {"train": "both", "size": 16, "head_rate": 2.0} | (m3 or {}),
    }  # fmt: skip
    return make_config({"model": {"base": model}, "negatives": {"per_query": 2, "depth": 30},
                        "training": settings | training})  # fmt: skip


@pytest.fixture
def field(tiny_model: str, tiny_beir: Path, tmp_path: Path) -> tuple[RetrievalData, Path]:
    encoder = Encoder.load(tiny_model, precision="fp32")
    build_dataset(config_for(tiny_model), load_beir(tiny_beir), {}, encoder, tmp_path / "data", tmp_path / "vectors")
    return load_beir(tmp_path / "data"), tmp_path / "data" / "train.jsonl"


def trained(config: Config, field: tuple[RetrievalData, Path], folder: Path) -> Result:
    encoder = Encoder.load(config.model.base, settings=config.model, precision=config.training.precision)
    return tune(config, field[0], field[1], encoder, folder, folder / "vectors")


def gradients(
    encoder: Encoder,
    heads: torch.nn.ModuleDict,
    batch: Batch,
    stores: tuple[TokenStore, TokenStore],
    *,
    cached: bool,
    settings: M3 | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> tuple[float, dict[str, torch.Tensor]]:
    model = torch.nn.ModuleList([encoder.model, heads])
    model.zero_grad(set_to_none=True)
    objective = M3Objective(settings or M3(), 20.0, (32, 16))
    torch.manual_seed(5)  # of dropout
    loss = add_m3_gradient(
        encoder, heads, batch, *stores, objective, 0, weight=0.5, cached=cached, scaler=scaler
    )  # fmt: skip
    size = 1.0 if scaler is None else scaler.get_scale()
    found = {name: part.grad / size for name, part in model.named_parameters() if part.grad is not None}
    return loss, found


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta", "modernbert", "mpnet"])
def test_each_text_is_what_it_is_alone_whatever_stands_beside_it(
    make_model: Callable[..., str], architecture: str
) -> None:
    encoder = Encoder.load(make_model(architecture), precision="fp32")
    heads = new_heads(hidden_size(encoder))
    assert encoder.tokens is not None
    store = encoder.tokens.store(TEXTS)
    with torch.no_grad():
        together = signals_of(encoder, heads, store, np.arange(len(TEXTS)))
        for row in range(len(TEXTS)):
            alone = signals_of(encoder, heads, store, np.array([row]))
            part = together.take(torch.tensor([row]))
            for name in ("dense", "weights", "vectors"):
                torch.testing.assert_close(getattr(part, name), getattr(alone, name), atol=2e-5, rtol=1e-4)
            assert part.ids.tolist() == alone.ids.tolist()
            assert 2 not in part.ids.tolist()  # the token that stands for the whole text
    assert together.counts.tolist() == token_counts(encoder, store, np.arange(len(TEXTS))).tolist()
    np.testing.assert_allclose(together.dense, encoder.encode(TEXTS, "passage"), atol=1e-5)


def uneven(encoder: Encoder) -> tuple[Batch, tuple[TokenStore, TokenStore]]:
    """A batch of texts of many lengths."""
    words = ["lease", "rent", "tenant", "deposit", "eviction", "contract", "breach", "notice", "fever", "cough"]
    rng = np.random.default_rng(0)
    rows = [
        Example(" ".join(rng.choice(words, 1 + n % 5)), (" ".join(rng.choice(words, 2 + 3 * (n % 6))),),
                (" ".join(rng.choice(words, 1 + n)),))
        for n in range(9)
    ]  # fmt: skip
    pairs = make_pairs(rows)
    assert encoder.tokens is not None
    stores = encoder.tokens.store(pairs.queries), encoder.tokens.store(pairs.passages)
    return make_batch(pairs, np.arange(9), 1, 0, 0), stores


def test_a_gradient_through_the_cache_is_that_of_the_direct_way(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder.load(tiny_model, precision="fp32")
    heads = new_heads(32, 16)
    batch, stores = uneven(encoder)
    assert len(set(stores[1].lengths.tolist())) > 4
    whole, direct = gradients(encoder, heads, batch, stores, cached=False)
    monkeypatch.setattr(forward, "_CACHED_BUDGET", {"cpu": 16})  # a text or two at a time
    again, cached = gradients(encoder, heads, batch, stores, cached=True)
    assert again == pytest.approx(whole, rel=1e-5)
    assert direct.keys() == cached.keys()
    assert any("colbert_linear" in name for name in direct)
    for name, gradient in direct.items():
        torch.testing.assert_close(cached[name], gradient, atol=2e-5, rtol=1e-3, msg=name)
    assert sum(float(part.abs().sum()) for part in direct.values()) > 0


def test_the_cache_draws_the_same_dropout_again(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, heads = Encoder.load(tiny_model, precision="fp32"), new_heads(32, 16)
    batch, stores = uneven(encoder)
    for name in ("_BUDGET", "_CACHED_BUDGET"):  # the same passes, so the same numbers are drawn for each
        monkeypatch.setattr(forward, name, {"cpu": 40})
    settings = M3(in_batch=False)
    still, _ = gradients(encoder, heads, batch, stores, cached=True, settings=settings)
    encoder.model.train()
    whole, direct = gradients(encoder, heads, batch, stores, cached=False, settings=settings)
    again, cached = gradients(encoder, heads, batch, stores, cached=True, settings=settings)
    assert again == pytest.approx(whole, rel=1e-5)
    assert abs(whole - still) > 1e-3
    assert direct.keys() == cached.keys()
    for name, gradient in direct.items():
        torch.testing.assert_close(cached[name], gradient, atol=2e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sixteen_bits_give_nearly_the_gradient_of_thirty_two(tiny_model: str, precision: Any) -> None:
    encoder, heads = Encoder.load(tiny_model, precision="fp32"), new_heads(32, 16)
    batch, stores = uneven(encoder)
    loss, exact = gradients(encoder, heads, batch, stores, cached=True)
    encoder.precision = precision  # fp16 too, which a setting allows on a GPU alone: a processor has it, slowly
    scaler = torch.amp.GradScaler("cpu") if precision == "fp16" else None  # begins at 65,536
    near, found = gradients(encoder, heads, batch, stores, cached=True, scaler=scaler)
    assert near == pytest.approx(loss, rel=0.03)
    assert near != loss  # products were rounded
    one, other = (torch.cat([part[name].flatten() for name in exact]) for part in (found, exact))
    assert torch.isfinite(one).all()
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.99
    assert one.norm() == pytest.approx(other.norm().item(), rel=0.05)


@pytest.mark.parametrize("part", ["both", "heads", "encoder"])
def test_what_is_named_is_what_learns(
    part: str, tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path
) -> None:
    result = trained(config_for(tiny_model, {"train": part}, gradient_cache=part == "both"), field, tmp_path / "run")
    folder = tmp_path / "run" / "model"
    before, after = SentenceTransformer(tiny_model), SentenceTransformer(str(folder))  # plain, no code of ours
    same = np.allclose(before.encode(["lease rent"]), after.encode(["lease rent"]), atol=1e-6)
    assert same is (part == "heads")
    heads, fresh = load_heads(folder, 32).state_dict(), new_heads(32, 16).state_dict()
    assert all(torch.equal(heads[name], fresh[name]) for name in fresh) is (part == "encoder")
    own = sum(weight.numel() for weight in fresh.values())
    trainable = result.counts["trainable parameters"]
    whole = sum(weight.numel() for weight in before.parameters())
    assert trainable == {"both": own + whole, "heads": own, "encoder": whole}[part]
    log = [json.loads(line) for line in (tmp_path / "run" / "training" / "log.jsonl").read_text().splitlines()]
    assert all(row["dev_loss"] > 0 for row in log if "dev_ndcg@10" in row)
    assert not any("m3_heads" in name for name in after.state_dict())


def test_training_makes_the_sum_of_all_three_find_more(
    tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path
) -> None:
    result = trained(config_for(tiny_model, epochs=4), field, tmp_path / "run")
    assert result.counts["dev nDCG@10 after"] > result.counts["dev nDCG@10 before"]
    log = [json.loads(line) for line in (tmp_path / "run" / "training" / "log.jsonl").read_text().splitlines()]
    losses = [row["dev_loss"] for row in log if "dev_loss" in row]
    assert losses[-1] < losses[0]
    at = {row["step"]: row["dev_loss"] for row in log if "dev_loss" in row}
    assert result.counts["dev loss before"] == at[0]
    assert result.counts["dev loss after"] == at[result.counts["best step"]] < at[0]
    assert result.details["m3"]["size"] == 16


def test_the_loss_on_dev_has_wrong_passages_where_training_takes_none_from_the_batch(
    tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path
) -> None:
    result = trained(config_for(tiny_model, {"in_batch": False}), field, tmp_path / "run")
    assert result.counts["dev loss before"] > 0
    assert result.counts["dev loss after"] > 0


def test_layers_of_the_folder_are_trained_on_and_lora_leaves_them_whole(
    tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path
) -> None:
    trained(config_for(tiny_model), field, tmp_path / "first")
    folder = tmp_path / "first" / "model"
    config = config_for(str(folder), method="lora", learning_rate=1e-6, lora={"rank": 2})
    result = trained(config, field, tmp_path / "second")
    assert any("taken from the base's folder" in note for note in result.notes)
    old, new = (load_heads(place, 32).state_dict() for place in (folder, tmp_path / "second" / "model"))
    for name, weight in old.items():
        torch.testing.assert_close(new[name], weight, atol=1e-3, rtol=1e-2)  # from there on, not anew
        assert not torch.equal(new[name], weight)
    assert (tmp_path / "second" / "model" / "adapter" / "adapter_config.json").exists()


@pytest.mark.parametrize("how", ["kl_div", "m3_kd_loss"])
def test_a_teachers_scores_are_followed(
    how: str, tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path
) -> None:
    data, examples = field

    def score(query: str, text: str) -> float:
        return float(len(set(query.split()) & set(text.split())))

    write_examples(examples, [
        replace(row, pos_scores=tuple(score(row.query, text) for text in row.pos),
                neg_scores=tuple(score(row.query, text) for text in row.neg))
        for row in read_examples(examples)
    ])  # fmt: skip
    write_json(examples.with_name("teacher.json"), {"kind": "cross-encoder"})
    result = trained(config_for(tiny_model, {"distillation": how}, accumulate=2), (data, examples), tmp_path / "run")
    assert result.details["loss"] == "kl"
    assert result.details["m3"]["distillation"] == how
    assert result.counts["dev nDCG@10 after"] >= result.counts["dev nDCG@10 before"]


@pytest.mark.parametrize(
    ("training", "says"),
    [
        ({"loss": "gte"}, "loss=gte"),
        ({"method": "query"}, "method=query"),
        ({"seeds": 2}, "seeds=2"),
        ({"base_share": 0.3}, "base_share=0.3"),
        ({"loss": "kl", "student_temperature": 0.1}, "student_temperature=0.1"),
        ({"m3": {"train": "heads"}, "method": "lora"}, "method=lora"),
        ({"m3": {"train": "both", "weights": [0, 0, 0]}}, "weights"),
        ({"m3": {"train": "both", "in_batch": False}, "hard_negatives": 0}, "hard_negatives=0 draws none"),
    ],
)
def test_settings_that_mean_nothing_here_are_refused(
    training: dict[str, Any], says: str, tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path
) -> None:
    settings = {"m3": {"train": "both"}} | training
    config = make_config({"model": {"base": tiny_model}, "training": settings})
    with pytest.raises(ConfigError, match=says):
        trained(config, field, tmp_path / "run")


def test_a_run_goes_on_where_it_was_killed(tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path) -> None:
    config = config_for(tiny_model, epochs=2, evaluations=2)
    trained(config, field, tmp_path / "whole")
    steps = []

    def stop(row: dict[str, float]) -> None:
        steps.append(row["step"])
        if "dev_loss" in row and row["step"] and len(set(steps)) < 4:
            raise KeyboardInterrupt

    encoder = Encoder.load(tiny_model, precision="fp32")
    once = config.model_copy(update={"training": config.training.model_copy(update={"checkpoint_seconds": 1e-9})})
    with pytest.raises(KeyboardInterrupt):
        tune(once, *field, encoder, tmp_path / "killed", tmp_path / "killed" / "vectors", watch=stop)
    trained(once, field, tmp_path / "killed")
    whole, again = (load_heads(tmp_path / name / "model", 32).state_dict() for name in ("whole", "killed"))
    for name, weight in whole.items():
        torch.testing.assert_close(again[name], weight, atol=1e-6, rtol=1e-5)


def test_both_layers_are_published_with_the_model(
    tiny_model: str, field: tuple[RetrievalData, Path], tmp_path: Path
) -> None:
    trained(config_for(tiny_model), field, tmp_path / "run")
    sent = {file.name for file in plan_push(tmp_path / "run", "name/repo", public=False).files}
    assert {"sparse_linear.pt", "colbert_linear.pt", "model.safetensors"} <= sent


def test_candidates_are_ranked_by_the_weighted_sum(tiny_model: str) -> None:
    from fieldtune.encoding.m3 import encode_m3, three_scores

    encoder, heads = Encoder.load(tiny_model, precision="fp32"), new_heads(32)
    passages = encode_m3(encoder, heads, ["lease rent", "fever cough", "rent rent notice", "bond"], "passage")
    queries = encode_m3(encoder, heads, ["rent", "cough fever"], "query")
    ranked = ranked_by_sum(queries, passages, (0.0, 1.0, 0.0), 4)
    sparse = three_scores(queries, passages, np.tile(np.arange(4), (2, 1)))[1]
    for query in range(2):
        in_order = sparse[query, ranked[query]]
        assert sorted(in_order, reverse=True) == in_order.tolist()
    assert set(ranked[1, :1]) == {1}
