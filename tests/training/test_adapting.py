"""Each way to train few weights: trains what it should and no more, saves, reloads, resumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from fieldtune.adapter_folder import read_record
from fieldtune.beir import Passage, Query, RetrievalData
from fieldtune.config import make_config
from fieldtune.dataset import write_examples
from fieldtune.encoding import Encoder
from fieldtune.errors import ConfigError, FieldtuneError, MissingExtraError, ModelError
from fieldtune.models import resolve_model
from fieldtune.pipeline import run_pipeline
from fieldtune.training import loop as training_loop
from fieldtune.training import stage, tune
from fieldtune.training.adapting import finish, prepare
from fieldtune.training.blocks import layers_of, linears_of, sublayer_ends
from fieldtune.training.fit import require_parts, require_training
from fieldtune.training.lora import targets
from fieldtune.training.methods import said_of_unused
from fieldtune.training.optimizer import make_optimizer, set_rate
from fieldtune.training.qlora import require_qlora
from fieldtune.types import Example, Result

ARCHITECTURES = ("bert", "xlm-roberta", "mpnet", "modernbert", "distilbert", "qwen3")
TEXTS = [f"article {n} lease {n} covers rent {n}" for n in range(40)]
ASKED = [f"what ends {n}" for n in range(40)]
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"method": "lora"},
    "lora, rank-stabilised, attention, faster B": {
        "method": "lora", "learning_rate": 5e-3,
        "lora": {"rslora": True, "targets": "attention", "b_rate": 4, "rank": 4, "dropout": 0.1},
    },
    "dora": {"method": "lora", "lora": {"dora": True, "rank": 4}},
    "pfeiffer": {"method": "adapter", "bottleneck": {"size": 8}},
    "houlsby": {"method": "adapter", "bottleneck": {"size": 8, "placement": "houlsby"}},
    "lower layer frozen": {"freeze_layers": 1, "learning_rate": 5e-3},
    "query, linear": {"method": "query", "learning_rate": 5e-3},
    "query, two layers": {"method": "query", "learning_rate": 5e-3, "query": {"hidden": 24}},
}  # fmt: skip


def data() -> RetrievalData:
    passages = {f"p{n}": Passage(f"p{n}", "", text) for n, text in enumerate(TEXTS)}
    queries = {f"q{n}": Query(f"q{n}", text) for n, text in enumerate(ASKED)}
    labels = {f"q{n}": {f"p{n}": 1} for n in range(40)}
    return RetrievalData(passages, queries, {"train": labels, "dev": labels})


def train(model: str, work: Path, **settings: Any) -> Result:
    own = {"epochs": 1, "batch_size": 8, "evaluations": 2, "precision": "fp32", "learning_rate": 2e-2}
    config = make_config({"training": own | settings, "model": {"base": model}})
    rows = [Example(ASKED[n], (TEXTS[n],), (TEXTS[(n + 1) % 40],)) for n in range(40)]
    write_examples(work / "train.jsonl", rows)
    encoder = Encoder.load(model, precision="fp32")
    return tune(config, data(), work / "train.jsonl", encoder, work, work / "vectors")


def cosines(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.einsum("ij,ij->i", a, b).min())


def plain(folder: Path, method: str = "") -> tuple[np.ndarray, np.ndarray]:
    """What a user without fieldtune gets."""
    model = SentenceTransformer(str(folder), device="cpu", trust_remote_code=method == "adapter")
    return (
        model.encode_query(ASKED, normalize_embeddings=True),
        model.encode_document(TEXTS, normalize_embeddings=True),
    )


@pytest.mark.parametrize("name", METHODS)
def test_each_method_trains_saves_and_reloads_as_a_plain_model(name: str, tiny_model: str, tmp_path: Path) -> None:
    result = train(tiny_model, tmp_path, **METHODS[name])
    assert result.counts["dev nDCG@10 after"] > result.counts["dev nDCG@10 before"]
    base = Encoder.load(tiny_model, precision="fp32")
    saved = Encoder.load(str(tmp_path / "model"), precision="fp32")
    queries, passages = saved.encode(ASKED, "query"), saved.encode(TEXTS, "passage")
    assert cosines(queries, base.encode(ASKED, "query")) < 0.999
    alike = plain(tmp_path / "model", METHODS[name].get("method", ""))
    assert cosines(queries, alike[0]) > 0.9999
    assert cosines(passages, alike[1]) > 0.9999
    moved = cosines(passages, base.encode(TEXTS, "passage"))
    assert moved > 0.999999 if METHODS[name].get("method") == "query" else moved < 0.999
    assert 0 < result.counts["trainable parameters"] < sum(w.numel() for w in base.model.parameters())


@pytest.mark.parametrize("name", ["full", "lora", "dora", "pfeiffer", "query, linear", "query, two layers"])
def test_a_training_that_learns_nothing_is_an_error(name: str, tiny_model: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="changed nothing") as caught:
        train(tiny_model, tmp_path, **METHODS.get(name, {}) | {"learning_rate": 1e-30})
    assert "training.learning_rate" in caught.value.hint
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "settings", [{"method": "lora"}, {"method": "adapter", "bottleneck": {"placement": "houlsby"}}]
)
def test_every_architecture_starts_as_the_base_trains_only_what_was_added_and_merges(
    architecture: str, settings: dict[str, Any], make_model: Callable[..., str]
) -> None:
    encoder = Encoder.load(make_model(architecture), precision="fp32")
    before = encoder.encode(ASKED, "query")
    own = {name: weight.clone() for name, weight in encoder.model.state_dict().items()}
    prepared = prepare(encoder, make_config({"training": settings}).training, seed=1)
    np.testing.assert_array_equal(encoder.encode(ASKED, "query"), before)
    trainable = {name for name, weight in encoder.model.named_parameters() if weight.requires_grad}
    assert trainable
    assert all("lora_" in name or "bottlenecks" in name for name in trainable)
    assert prepared.trainable == sum(dict(encoder.model.named_parameters())[name].numel() for name in trainable)
    torch.manual_seed(3)
    with torch.no_grad():
        for name in sorted(trainable):
            weight = dict(encoder.model.named_parameters())[name]
            weight.add_(0.1 * torch.randn_like(weight))
    unmerged = encoder.encode(ASKED, "query")
    assert cosines(unmerged, before) < 0.999
    finish(encoder, prepared)
    assert cosines(encoder.encode(ASKED, "query"), unmerged) > 0.9999
    if settings["method"] == "adapter":
        for name, weight in own.items():
            assert torch.equal(weight, encoder.model.state_dict()[name]), name
    else:
        assert set(encoder.model.state_dict()) == set(own)  # nothing of PEFT is left


@pytest.mark.parametrize("name", ["lora, rank-stabilised, attention, faster B", "houlsby", "query, two layers"])
def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(
    name: str, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "calm").mkdir()
    (tmp_path / "cut").mkdir()
    train(tiny_model, tmp_path / "calm", **METHODS[name])
    real, steps = training_loop._step, []

    def failing(*arguments: Any) -> tuple[float, float]:
        steps.append(1)
        if len(steps) == 4:  # the last checkpoint was written after step 2
            raise KeyboardInterrupt
        return real(*arguments)

    if METHODS[name]["method"] != "query":
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(training_loop, "_step", failing)
            train(tiny_model, tmp_path / "cut", **METHODS[name])
    torch.manual_seed(999)
    train(tiny_model, tmp_path / "cut", **METHODS[name])
    for side, calm, again in zip("qp", plain_pair(tmp_path / "calm"), plain_pair(tmp_path / "cut"), strict=True):
        np.testing.assert_array_equal(calm, again, side)


def plain_pair(work: Path) -> tuple[np.ndarray, np.ndarray]:
    encoder = Encoder.load(str(work / "model"), precision="fp32")
    return encoder.encode(ASKED, "query"), encoder.encode(TEXTS, "passage")


def test_the_adapter_beside_the_model_is_one_that_peft_loads(tiny_model: str, tmp_path: Path) -> None:
    from peft import PeftModel

    train(tiny_model, tmp_path, method="lora")
    base = SentenceTransformer(tiny_model, device="cpu")
    base[0].model = PeftModel.from_pretrained(base.transformers_model, str(tmp_path / "model" / "adapter"))
    found = base.encode_query(ASKED, normalize_embeddings=True)
    assert cosines(found, plain(tmp_path / "model")[0]) > 0.9999
    record = read_record(tmp_path / "model" / "adapter")
    assert record is not None
    assert (record.method, record.base, record.query_prompt) == ("lora", tiny_model, "query: ")


@pytest.mark.parametrize("method", ["lora", "adapter"])
def test_no_adapter_of_weights_that_are_not_kept_lies_beside_the_model(
    method: str, tiny_model: str, tmp_path: Path
) -> None:
    result = train(tiny_model, tmp_path, method=method, pretrain="tsdae", pretrain_rate=2e-3)
    assert not (tmp_path / "model" / "adapter").exists()
    assert any("No adapter lies beside the model" in note for note in result.notes)
    saved = Encoder.load(str(tmp_path / "model"), precision="fp32").encode(ASKED, "query")
    assert cosines(saved, plain(tmp_path / "model", method)[0]) > 0.9999  # bottlenecks are in the model itself


def test_a_share_of_the_base_weakens_model_and_adapter_alike(tiny_model: str, tmp_path: Path) -> None:
    from fieldtune.encoding import load_adapters

    train(tiny_model, tmp_path, method="lora", base_share=0.4)
    beside = load_adapters(tiny_model, {"field": tmp_path}, precision="fp32").encode(ASKED, adapter="field")
    assert cosines(beside, plain(tmp_path / "model")[0]) > 0.9999
    assert cosines(beside, plain(Path(tiny_model))[0]) < 0.999


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_an_adapter_that_no_share_of_the_base_can_weaken_is_left_out_and_that_is_said(
    share: float, tiny_model: str, tmp_path: Path
) -> None:
    settings = METHODS["dora"] | {"evaluations": 1, "share_curve": False}
    result = train(tiny_model, tmp_path, **settings, base_share=share)
    said = [note for note in result.notes if "No adapter lies beside the model" in note]
    assert (tmp_path / "model" / "adapter").exists() == (not share)
    assert len(said) == bool(share)
    assert not share or ("40% of the weights" in said[0] and "training.lora.dora=false keeps" in said[0])


def test_frozen_layers_get_no_change(tiny_model: str, tmp_path: Path) -> None:
    result = train(tiny_model, tmp_path, freeze_layers=1)
    before, after = (SentenceTransformer(str(f), device="cpu").state_dict() for f in (tiny_model, tmp_path / "model"))
    changed = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert any("layer.1." in name for name in changed)
    assert not any("embeddings" in name or "layer.0." in name for name in changed)
    assert any("lower 1 layers" in note for note in result.notes)
    encoder = Encoder.load(tiny_model)
    prepare(encoder, make_config({"training": {"method": "lora", "freeze_layers": 1}}).training, 0)
    assert {n.split("layer.")[1][0] for n, w in encoder.model.named_parameters() if w.requires_grad} == {"1"}


def test_faster_b_is_a_share_of_the_rate_at_every_step(tiny_model: str) -> None:
    encoder = Encoder.load(tiny_model)
    settings = make_config({"training": {"method": "lora", "lora": {"b_rate": 16}}}).training
    prepare(encoder, settings, 0)
    optimizer = make_optimizer(encoder.model, settings)
    names = {id(weight): name for name, weight in encoder.model.named_parameters()}
    for step in (0, 5, 9):
        rate = set_rate(optimizer, settings, step, 10)
        rates = {names[id(w)]: group["lr"] for group in optimizer.param_groups for w in group["params"]}
        assert {value for name, value in rates.items() if ".lora_A." in name} == {rate}
        assert {value for name, value in rates.items() if ".lora_B." in name} == {rate * 16}


def test_target_names_choose_matrices(tiny_model: str) -> None:
    linears = linears_of(Encoder.load(tiny_model).model.transformers_model)

    def chosen(names: Any, frozen: int = 0) -> set[str]:
        lora = make_config({"training": {"lora": {"targets": names}}}).training.lora
        return {linear.name for linear in targets(linears, lora, frozen, "tiny")}

    assert len(chosen("all")) == 12
    assert len(chosen("attention")) == 8
    assert chosen(["query", "value"], 1) == {f"encoder.layer.1.attention.self.{name}" for name in ("query", "value")}
    assert chosen("query") == {f"encoder.layer.{n}.attention.self.query" for n in (0, 1)}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"method": "lora", "lora": {"targets": ["q_proj", "query"]}}, "q_proj.* matches no linear layer"),
        ({"method": "lora", "freeze_layers": 2}, "nothing to train: the model has 2 layers"),
    ],
)
def test_parts_that_the_base_does_not_have_are_named_before_any_work(
    settings: dict[str, Any], says: str, make_model: Callable[..., str], tmp_path: Path
) -> None:
    for architecture in ("bert", "mpnet", "distilbert"):
        base, out = make_model(architecture), tmp_path / "run"
        with pytest.raises(ModelError) as late:
            prepare(Encoder.load(base, precision="fp32"), make_config({"training": settings}).training, 0)
        config = make_config({"model": {"base": base}, "out": str(out), "training": settings})
        with pytest.raises(ModelError, match=says) as early:
            run_pipeline(config)
        assert (early.value.message, early.value.hint) == (late.value.message, late.value.hint)
        assert not out.exists()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parts_are_known_without_the_weights(architecture: str, make_model: Callable[..., str]) -> None:
    base = resolve_model(make_model(architecture))
    there = [linear.name for linear in linears_of(Encoder.load(base.name).model.transformers_model)]
    names = sorted({name.rpartition(".")[2] for name in there})
    for wanted in ("attention", names):
        settings = make_config({"training": {"method": "lora", "lora": {"targets": wanted}}}).training
        require_parts(settings, base, trust=False)
    settings = make_config({"training": {"method": "lora", "lora": {"targets": ["none such"]}}}).training
    with pytest.raises(ModelError, match="none such") as caught:
        require_parts(settings, base, trust=False)
    assert all(name in caught.value.hint for name in names)


@pytest.mark.parametrize(
    ("settings", "error", "says", "cure"),
    [
        ({"method": "lora", "lora": {"targets": ["q_proj", "query"]}}, ModelError, "q_proj matches no", "query, key"),
        ({"method": "lora", "lora": {"targets": []}}, ModelError, "an empty list", "all, or attention"),
        ({"freeze_layers": 2}, ModelError, "nothing to train: the model has 2 layers", "1 or fewer"),
        ({"method": "adapter", "freeze_layers": 5}, ModelError, "the model has 2 layers", "1 or fewer"),
        ({"method": "qlora"}, ModelError, "needs an NVIDIA GPU; this run is on cpu", "method=lora"),
        ({"method": "adapter", "base_share": 0.5}, ConfigError, "mixes weights", "base_share=0"),
        ({"method": "lora", "anchor": 1}, ConfigError, "at its random beginning", "weight_decay"),
        ({"method": "adapter", "anchor": 1}, ConfigError, "at its random beginning", "anchor=0"),
        ({"method": "query", "freeze_layers": 1}, ConfigError, "freeze_layers", "no layer"),
        ({"method": "query", "dropout": True}, ConfigError, "dropout has no meaning", "weight_decay"),
        ({"method": "query", "anchor": 1}, ConfigError, "anchor has no meaning", "weight_decay"),
        ({"method": "query", "query_tokens": 8}, ConfigError, "query_tokens has no", "model.max_tokens"),
        ({"method": "query", "passage_tokens": 8}, ConfigError, "passage_tokens has no", "model.max_tokens"),
        ({"method": "query", "pretrain": "mlm"}, ConfigError, "no index would stay valid", "pretrain=none"),
        ({"method": "qlora", "pretrain": "mlm"}, ConfigError, "reads the base anew", "method=lora"),
        ({"method": "query", "gradient_cache": True}, ConfigError, "gradient_cache has no meaning", "batch_size"),
        ({"method": "query", "gradient_checkpointing": True}, ConfigError, "gradient_checkpointing has no", "leave"),
        ({"method": "query", "freeze_embeddings": True}, ConfigError, "freeze_embeddings has no meaning", "no word"),
        ({"lora": {"rank": 64}}, ConfigError, "lora.rank is set, but counts with .*lora or qlora alone", "method=lora"),
        ({"method": "lora", "bottleneck": {"size": 8}}, ConfigError, "bottleneck.size is set", "method=adapter"),
        ({"query": {"hidden": 9}}, ConfigError, "query.hidden is set, but counts with .*method=query", "method=query"),
        ({"m3": {"sparse_share": 1}}, ConfigError, "m3.sparse_share is set", "m3.train=both"),
        ({"guide": "nonexistent/x"}, ConfigError, "training.guide is set", "set training.loss=guided, or leave"),
        ({"vector_teacher": "nonexistent/y"}, ConfigError, "vector_teacher is set", "set training.loss=vectors"),
        ({"method": "lora", "freeze_embeddings": False}, ConfigError, "word vectors, and .*method=lora", "freeze_emb"),
        ({"freeze_layers": 1, "freeze_embeddings": False}, ConfigError, "freeze_layers=1 leaves", "freeze_layers=0"),
        ({"m3": {"train": "heads"}, "freeze_embeddings": False}, ConfigError, "m3.train=heads leaves", "encoder"),
        ({"pretrain_epochs": 3}, ConfigError, "pretrain_epochs is set, but counts with", "training.pretrain=mlm"),
    ],
)
def test_what_cannot_work_is_said_with_its_cure(
    settings: dict[str, Any], error: type[FieldtuneError], says: str, cure: str, tiny_model: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=says) as caught:
        train(tiny_model, tmp_path, **settings)
    assert cure in caught.value.hint
    assert not (tmp_path / "model").exists()


def test_what_is_set_beside_the_chosen_loss_is_told(tiny_model: str, tmp_path: Path) -> None:
    def said(loss: str, **settings: Any) -> list[str]:
        given = {
            "teacher": {"model": "fused"},
            "training": {"loss": loss, "margin": 0.9, "replay_share": 0.5} | settings,
        }
        return said_of_unused(make_config(given), "mnrl" if loss == "auto" else loss)

    margin, share, teacher = said("auto")
    assert (
        margin == "training.margin is set, but counts with training.loss=triplet or contrastive or "
        "online_contrastive alone."
    )
    assert "training.replay_share" in share and "training.replay alone" in share
    assert "scores of teacher.model are not used: the loss mnrl takes none" in teacher
    assert len(said("kl")) == len(said("cosent")) == 2  # they take the scores
    assert len(said("triplet", replay="general.jsonl")) == 1  # the teacher's alone
    assert said_of_unused(make_config({}), "mnrl") == []
    for loss in ("triplet", "contrastive", "online_contrastive", "cosine"):
        (scale,) = [note for note in said(loss, scale=500) if "training.scale" in note]
        assert "counts with training.loss=mnrl or symmetric" in scale
    followed = {"vector_teacher": tiny_model, "scale": 500, "margin": 0.5, "replay_share": 0.2}
    (scale, _) = said("vectors", contrastive_share=0, **followed)
    assert "training.scale is set, but" in scale and "contrastive_share alone, which is 0" in scale
    for loss in ("auto", "cosent", "kl", "vectors"):
        assert not [
            note
            for note in said(loss, **followed | {"vector_teacher": ""} if loss != "vectors" else followed)
            if "training.scale" in note
        ]
    assert [note for note in train(tiny_model, tmp_path, margin=0.9).notes if note == margin]


def test_nothing_is_said_of_word_vectors_where_the_model_is_not_trained(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "freezes_embeddings", lambda *_: True)  # as of a model with mostly word vectors
    for method, told in (("query", 0), ("full", 1)):
        (tmp_path / method).mkdir()
        notes = train(tiny_model, tmp_path / method, method=method).notes
        assert sum("word vectors were left" in note for note in notes) == told


def test_batches_of_the_query_layer_add_up_to_a_large_one(tiny_model: str, tmp_path: Path) -> None:
    made = []
    for name, sizes in {"large": {"batch_size": 8}, "added": {"batch_size": 2, "accumulate": 4}, "small": {}}.items():
        (tmp_path / name).mkdir()
        own = {"method": "query", "loss": "triplet", "batch_size": 2, "learning_rate": 5e-3} | sizes
        result = train(tiny_model, tmp_path / name, **own)
        made.append((result.counts["steps"], plain_pair(tmp_path / name)[0]))
    (steps, large), (same, added), (more, small) = made
    assert steps == same == more / 4
    np.testing.assert_allclose(added, large, atol=1e-4)
    assert np.abs(small - large).max() > 1e-3


@pytest.mark.parametrize("method", ["full", "query"])
def test_texts_that_are_cut_are_counted_and_those_that_just_fit_are_not(
    method: str, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(asked: list[str]) -> list[str]:
        monkeypatch.setitem(globals(), "ASKED", asked)
        result = train(tiny_model, tmp_path, method=method, epochs=0.2)
        return [note for note in result.notes if "cut off" in note]

    long, tokens = [f"{text}{' rent' * 25}" for text in ASKED[:3]], Encoder.load(tiny_model).tokens
    assert tokens is not None and tokens.store(long, "query: ").lengths.tolist() == [tokens.limit] * 3
    assert said([*long, *ASKED[3:]]) == []
    (note,) = said([*(f"{text} rent" for text in long), *ASKED[3:]])
    assert f"3 of 40 query texts are longer than the {tokens.limit} tokens that training reads" in note
    assert "model.max_tokens" in note and ("training.query_tokens" in note) == (method == "full")


def test_qlora_without_its_package_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        require_qlora("cuda:0")
    assert "fieldtune[qlora]" in caught.value.hint


def test_a_model_with_adapters_is_not_taken_for_a_base(tiny_model: str, tmp_path: Path) -> None:
    for method, says in (("query", "layer for queries alone"), ("adapter", "carries bottleneck adapters")):
        work = tmp_path / method
        work.mkdir()
        train(tiny_model, work, method=method)
        with pytest.raises(ModelError, match=says):
            train(str(work / "model"), work, method="adapter")
        config = make_config({"training": {"method": "adapter"}})
        with pytest.raises(ModelError, match=says):  # before anything is read
            require_training(config, resolve_model(str(work / "model")))
    require_training(make_config({}), resolve_model(str(work / "model")))  # all of a model with bottlenecks can be


def test_word_vectors_of_a_base_that_is_pretrained_may_be_asked_for(tiny_model: str) -> None:
    settings = {"method": "lora", "freeze_embeddings": False, "pretrain": "tsdae"}
    require_training(make_config({"training": settings}), resolve_model(tiny_model))


def test_methods_have_rates_of_their_own_that_a_given_one_overrides() -> None:
    rate = {name: make_config({"training": {"method": name}}).training.learning_rate for name in ("full", "lora")}
    assert rate["lora"] > rate["full"]
    assert make_config({"training": {"method": "lora", "learning_rate": 1e-5}}).training.learning_rate == 1e-5


def test_layers_and_their_ends_are_found(make_model: Callable[..., str]) -> None:
    found = {}
    for architecture in ARCHITECTURES:
        model = Encoder.load(make_model(architecture)).model.transformers_model
        assert len(layers_of(model)[1]) == 2
        found[architecture] = tuple(
            sublayer_ends(model, attention=kind, width=32)[1].name.split(".1.")[1] for kind in (True, False)
        )
    assert found == {
        "bert": ("attention.output.dense", "output.dense"),
        "xlm-roberta": ("attention.output.dense", "output.dense"),
        "mpnet": ("attention.attn.o", "output.dense"),
        "modernbert": ("attn.Wo", "mlp.Wo"),
        "distilbert": ("attention.out_lin", "ffn.lin2"),
        "qwen3": ("self_attn.o_proj", "mlp.down_proj"),
    }
    with pytest.raises(ModelError, match="no stack of layers") as caught:
        layers_of(torch.nn.Sequential(torch.nn.Linear(2, 2)))
    assert "method=query" in caught.value.hint
