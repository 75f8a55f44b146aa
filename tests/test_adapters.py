"""Several adapters on one base, merged ones, and query adapters on vectors of any model."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapter_cases import KINDS, random_query_adapter, write_other_base, write_tuned
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer

from fieldtune import cli
from fieldtune.adapter_folder import AdapterRecord, weights_digest, write_record
from fieldtune.adapters import QueryAdapter, load_adapters, merge_adapter
from fieldtune.config import Model, make_config
from fieldtune.encoding import Encoder, cached_vectors, with_query_adapter
from fieldtune.errors import ConfigError, FieldtuneError, InputError, ModelError
from fieldtune.models import load_model

TEXTS = ["what ends 3", "lease covers rent 4", "fever cough asthma", "insulin 7", "article 9 audit revenue"]


@pytest.fixture(scope="module")
def tuned(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model for each kind, as training saves it, with weights at random."""
    return {name: write_tuned(tiny_model, name, tmp_path_factory.mktemp("tuned") / "model") for name in KINDS}


def alone(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    encoder = Encoder.load(str(folder), precision="fp32")
    return encoder.encode(TEXTS, "query"), encoder.encode(TEXTS, "passage")


def test_adapters_side_by_side_give_the_vectors_that_each_gave_alone(tiny_model: str, tuned: dict[str, Path]) -> None:
    model = load_adapters(tiny_model, tuned, precision="fp32")
    base = Encoder.load(tiny_model, precision="fp32")
    assert model.names == tuple(KINDS)
    for name in [*KINDS, "law", "finance.zh", "medicine"]:  # in turns: nothing of the one before is left
        queries, passages = alone(tuned[name])
        np.testing.assert_allclose(model.encode(TEXTS, "query", adapter=name), queries, atol=1e-5)
        np.testing.assert_allclose(model.encode(TEXTS, "passage", adapter=name), passages, atol=1e-5)
        np.testing.assert_allclose(model.encode(TEXTS, "query"), base.encode(TEXTS, "query"), atol=1e-6)
    vectors = [model.encode(TEXTS, adapter=name) for name in KINDS]
    assert max(float((a * b).sum(1).max()) for n, a in enumerate(vectors) for b in vectors[:n]) < 0.999


def test_requests_from_many_threads_get_their_own_adapter(tiny_model: str, tuned: dict[str, Path]) -> None:
    model = load_adapters(tiny_model, tuned, precision="fp32")
    expected = {name: model.encode(TEXTS, adapter=name) for name in ("", *KINDS)}
    asked = [*expected] * 8
    with ThreadPoolExecutor(4) as pool:
        for name, found in zip(asked, pool.map(lambda one: model.encode(TEXTS, adapter=one), asked), strict=True):
            np.testing.assert_allclose(found, expected[name], atol=1e-6)


def test_the_base_is_in_memory_once(tiny_model: str, tuned: dict[str, Path]) -> None:
    model = load_adapters(tiny_model, tuned)
    assert model.base.tokens is not None
    ours = {weight.data_ptr() for weight in model.base.model.parameters()}
    for name in KINDS:
        encoder = model.encoder(name)
        assert ours <= {weight.data_ptr() for weight in encoder.model.parameters()}
        assert encoder.tokens is not None
        assert encoder.tokens._tokenizer is model.base.tokens._tokenizer
    # What is put into one tree is in no other.
    for other in (model.base, model.encoder("search")):
        assert not any("lora" in key for key in other.model.state_dict())


def test_an_adapter_keeps_the_length_that_it_was_trained_with(
    tiny_model: str, tuned: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "short"
    shutil.copytree(tuned["law"] / "adapter", folder)
    record = json.loads((folder / "fieldtune.json").read_text())
    (folder / "fieldtune.json").write_text(json.dumps(record | {"max_tokens": 8}))
    model = load_adapters(tiny_model, {"law": tuned["law"], "short": folder}, precision="fp32")
    long, cut = ["lease covers rent 4 " * 6], ["lease covers rent 4 lease covers"]  # with [CLS] and [SEP] eight tokens
    with ThreadPoolExecutor(4) as pool:  # one tokenizer, two lengths
        found = list(pool.map(lambda one: model.encode(long, "passage", adapter=one), ["law", "short", ""] * 20))
    assert model.base.model.max_seq_length == 32
    for place, name in enumerate(["law", "short", ""] * 20):
        expected = model.encode(cut if name == "short" else long, "passage", adapter=name)
        np.testing.assert_allclose(found[place], expected, atol=1e-5)
    assert not np.allclose(found[0], found[1], atol=1e-3)


def test_vectors_of_adapters_are_kept_apart_and_passages_of_query_adapters_with_the_base(
    tiny_model: str, tuned: dict[str, Path], tmp_path: Path
) -> None:
    model = load_adapters(tiny_model, tuned)
    encoders = [model.encoder(name) for name in ("", *KINDS)]
    assert len({encoder.fingerprint for encoder in encoders}) == len(encoders)
    assert len({encoder.passage_fingerprint for encoder in encoders}) == len(encoders) - 1
    again = load_adapters(tiny_model, {"other name": tuned["law"]}).encoder("other name")
    assert again.fingerprint == model.encoder("law").fingerprint
    saved = Encoder.load(str(tuned["search"]))
    for encoder in (model.base, model.encoder("search"), saved):
        cached_vectors(encoder, TEXTS, "passage", tmp_path)
        cached_vectors(encoder, TEXTS, "query", tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 1 + 3


@pytest.mark.parametrize("name", KINDS)
def test_a_merged_export_is_a_plain_model_with_the_same_vectors(
    name: str, tiny_model: str, tuned: dict[str, Path], tmp_path: Path
) -> None:
    said = merge_adapter(tiny_model, tuned[name], tmp_path / "out")
    assert "merged model" in said[0]
    queries, passages = alone(tuned[name])
    trusted = name == "finance.zh"  # bottleneck adapters are code in the folder
    model = SentenceTransformer(str(tmp_path / "out"), device="cpu", trust_remote_code=trusted)
    np.testing.assert_allclose(model.encode_query(TEXTS, normalize_embeddings=True), queries, atol=1e-5)
    np.testing.assert_allclose(model.encode_document(TEXTS, normalize_embeddings=True), passages, atol=1e-5)
    with pytest.raises(ConfigError, match="not empty"):
        merge_adapter(tiny_model, tuned[name], tmp_path / "out")


@pytest.fixture(scope="module")
def other_base(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_other_base(tiny_model, tmp_path_factory.mktemp("other") / "model"))


@pytest.mark.parametrize("name", KINDS)
def test_an_adapter_of_another_base_is_refused(
    name: str, tiny_model: str, other_base: str, tuned: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="trained on another base") as caught:
        load_adapters(other_base, {name: tuned[name]})
    assert tiny_model in caught.value.hint
    with pytest.raises(ModelError, match="trained on another base"):
        merge_adapter(other_base, tuned[name], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def foreign_copy(tuned: dict[str, Path], folder: Path, base: str | None) -> Path:
    """An adapter as another program writes it: with the name of its base and no record."""
    import shutil

    shutil.copytree(tuned["law"] / "adapter", folder)
    (folder / "fieldtune.json").unlink()
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": base}))
    return folder


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("intfloat/e5-small", "names intfloat/e5-small as its base"),
        ("/elsewhere/run/model", "names /elsewhere/run/model"),
        (None, "names no base model"),
    ],
)
def test_a_foreign_adapter_that_names_another_base_is_refused(
    named: str | None, says: str, other_base: str, tuned: dict[str, Path], tmp_path: Path
) -> None:
    folder = foreign_copy(tuned, tmp_path / "foreign", named)
    for refused in (
        lambda: load_adapters(other_base, {"law": folder}),
        lambda: merge_adapter(other_base, folder, tmp_path / "out"),
    ):
        with pytest.raises(ModelError, match=says) as caught:
            refused()
        assert f"write this name as base_model_name_or_path into {folder}" in caught.value.hint


def test_an_adapter_on_vectors_from_files_goes_into_no_model_but_the_one_that_it_is_said_to_be_of(
    tiny_model: str, other_base: str, tmp_path: Path
) -> None:
    folder, adapter = tmp_path / "adapter", random_query_adapter(2, 5)
    adapter.save(folder)
    record = AdapterRecord("query", base="", base_weights="", base_fingerprint="", dimension=32)
    write_record(folder, record)
    prompted = Model(base=tiny_model, query_prompt="query: ")
    for named, base in (("", tiny_model), (tiny_model, other_base)):
        write_record(folder, replace(record, base=named))
        for refused in (
            lambda base=base: load_adapters(base, {"law": folder}),
            lambda base=base: merge_adapter(base, folder, tmp_path / "out"),
        ):
            with pytest.raises(ModelError, match="trained on vectors from files") as caught:
                refused()
            assert f"if {base} made those vectors, write this name as base into {folder}" in caught.value.hint
    assert not (tmp_path / "out").exists()
    write_record(folder, replace(record, base=tiny_model))
    expected = adapter.apply(Encoder.load(tiny_model, settings=prompted, precision="fp32").encode(TEXTS, "query"))
    model = load_adapters(tiny_model, {"law": folder}, settings=prompted, precision="fp32")
    np.testing.assert_allclose(model.encode(TEXTS, "query", adapter="law"), expected, atol=1e-5)
    own = Encoder.load(tiny_model, precision="fp32")
    merge_adapter(tiny_model, folder, tmp_path / "out")
    merged = Encoder.load(str(tmp_path / "out"), precision="fp32")
    assert merged.prompts == own.prompts and merged.prompts["query"]
    np.testing.assert_allclose(merged.encode(TEXTS, "query"), adapter.apply(own.encode(TEXTS, "query")), atol=1e-5)


def test_a_foreign_adapter_loads_on_the_base_that_it_names_wherever_that_lies(
    tiny_model: str, tuned: dict[str, Path], tmp_path: Path
) -> None:
    moved = tmp_path / "Tiny-Encoder"
    moved.symlink_to(tiny_model)
    for number, (named, base) in enumerate(
        [(tiny_model, tiny_model), ("org/tiny-encoder", str(moved)), (f"{moved}/", tiny_model)]
    ):
        folder = foreign_copy(tuned, tmp_path / str(number), named)
        assert load_adapters(base, {"law": folder}).names == ("law",)


def test_a_base_is_known_wherever_and_however_it_is_stored(tiny_model: str, other_base: str, tmp_path: Path) -> None:
    model = load_model(tiny_model)
    model.save(str(tmp_path / "copy"), safe_serialization=True)
    assert weights_digest(load_model(str(tmp_path / "copy"))) == weights_digest(model)
    assert weights_digest(load_model(other_base)) != weights_digest(model)


def test_names_and_folders_that_are_wrong_are_said(tiny_model: str, tuned: dict[str, Path], tmp_path: Path) -> None:
    model = load_adapters(tiny_model, {"law": tuned["law"]})
    with pytest.raises(ModelError, match="no adapter 'lwa'") as caught:
        model.encode(TEXTS, adapter="lwa")
    assert "law" in caught.value.hint
    with pytest.raises(ModelError, match="empty or taken"):
        model.add("law", tuned["medicine"])
    with pytest.raises(ModelError, match="holds no adapter"):
        model.add("new", tmp_path)
    with pytest.raises(ModelError, match="does not exist"):
        model.add("new", tmp_path / "absent")
    assert model.names == ("law",)


def damaged_copy(name: str, tuned: dict[str, Path], folder: Path) -> Path:
    """An adapter of which a part fits its base, and the weights are cut off."""
    folder.mkdir()
    for path in (tuned[name] / "adapter").iterdir():
        (folder / path.name).write_bytes(path.read_bytes()[: 200 if path.suffix == ".safetensors" else None])
    return folder


def misplaced_copy(name: str, tuned: dict[str, Path], folder: Path) -> Path:
    """An adapter one of whose places this base does not have, its weights those of another size."""
    import shutil

    shutil.copytree(tuned[name] / "adapter", folder)
    path = folder / ("adapter_config.json" if (folder / "adapter_config.json").exists() else "bottleneck.json")
    said = json.loads(path.read_text())
    if "places" in said:
        said["places"][-1] = "encoder.layer.99.output.dense"
    else:
        said["r"] += 1
    path.write_text(json.dumps(said))
    return folder


@pytest.mark.parametrize("spoil", [damaged_copy, misplaced_copy])
@pytest.mark.parametrize("name", ["law", "finance.zh"])
@pytest.mark.parametrize("first", [True, False])
def test_an_adapter_that_cannot_be_put_in_leaves_all_as_it_was(
    spoil: Any, name: str, first: bool, tiny_model: str, tuned: dict[str, Path], tmp_path: Path
) -> None:
    model = load_adapters(tiny_model, {} if first else {"there": tuned["medicine"]}, precision="fp32")
    transformer = model.base.model.transformers_model
    before = model.encode(TEXTS)
    weights = {key: weight.clone() for key, weight in transformer.state_dict().items()}
    with pytest.raises(ModelError, match=r"cannot be put in|does not fit"):
        model.add(name, spoil(name, tuned, tmp_path / "spoilt"))
    after = transformer.state_dict()
    assert weights.keys() == after.keys()
    assert all(torch.equal(weight, after[key]) for key, weight in weights.items())
    assert not any(module._forward_hooks for module in transformer.modules())
    np.testing.assert_array_equal(model.encode(TEXTS), before)
    model.add(name, tuned[name])
    np.testing.assert_allclose(model.encode(TEXTS, adapter=name), alone(tuned[name])[0], atol=1e-5)
    if not first:
        np.testing.assert_allclose(model.encode(TEXTS, adapter="there"), alone(tuned["medicine"])[0], atol=1e-5)
    np.testing.assert_allclose(model.encode(TEXTS), before, atol=1e-6)


def test_a_model_with_the_code_of_an_earlier_version_still_loads(
    tuned: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from fieldtune import model_folder

    folder = tmp_path / "model"
    shutil.copytree(tuned["finance.zh"], folder)
    code = folder / "bottleneck_adapters.py"
    code.write_text(code.read_text() + "\n# as it was\n")
    assert not model_folder.has_own_code_alone(folder)
    monkeypatch.setattr(model_folder, "_EARLIER", frozenset({model_folder.file_digest(code)}))
    assert model_folder.has_own_code_alone(folder)


def test_foreign_code_in_a_model_folder_is_not_run(tuned: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tuned["finance.zh"], folder)
    Encoder.load(str(folder))
    code = folder / "bottleneck_adapters.py"
    code.write_text(code.read_text() + f"\nopen({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ModelError) as caught:
        Encoder.load(str(folder))
    assert "trust_remote_code" in caught.value.hint
    assert not (tmp_path / "ran").exists()


# -- vectors of a closed model ----------------------------------------------------------------------------------------


@pytest.fixture
def closed(tmp_path: Path) -> tuple[Path, Path]:
    """A BEIR folder and the vectors of a "closed model" whose queries are turned away from their passages."""
    draw = np.random.default_rng(0)
    data, vectors = tmp_path / "beir", tmp_path / "vectors"
    (data / "qrels").mkdir(parents=True)
    vectors.mkdir()
    passages = draw.normal(size=(120, 16)).astype(np.float32)
    turn = np.linalg.qr(draw.normal(size=(16, 16)))[0]
    queries = (passages @ turn + 0.1 * draw.normal(size=(120, 16))).astype(np.float32)
    rows = [json.dumps({"_id": f"p{n}", "title": "", "text": f"passage {n}"}) for n in range(120)]
    (data / "corpus.jsonl").write_text("\n".join(rows) + "\n")
    rows = [json.dumps({"_id": f"q{n}", "text": f"query {n}"}) for n in range(120)]
    (data / "queries.jsonl").write_text("\n".join(rows) + "\n")
    for split, places in (("train", range(80)), ("dev", range(80, 100)), ("test", range(100, 120))):
        lines = ["query-id\tcorpus-id\tscore", *(f"q{n}\tp{n}\t1" for n in places)]
        (data / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    order = draw.permutation(120)  # ids say which row is whose
    np.save(vectors / "passages.npy", passages[order])
    (vectors / "passages.ids.txt").write_text("".join(f"p{n}\n" for n in order))
    np.save(vectors / "queries.npy", queries)
    (vectors / "queries.ids.txt").write_text("".join(f"q{n}\n" for n in range(120)))
    return data, vectors


@pytest.mark.parametrize("hidden", [0, 48])
def test_a_query_adapter_is_trained_and_measured_on_vectors_from_files(
    hidden: int, closed: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, vectors = map(str, closed)
    out, figures = tmp_path / "adapter", tmp_path / "figures.json"
    words = ["adapter", "train", "--data", data, "--vectors", vectors, "--out", str(out)]
    words += ["--set", f"training.query.hidden={hidden}", "--set", "training.learning_rate=0.02"]
    words += ["--set", "training.epochs=40", "--set", "training.batch_size=16"]
    assert run(words) == 0
    assert (
        run(
            ["adapter", "evaluate", "--data", data, "--vectors", vectors, "--adapter", str(out), "--json", str(figures)]
        )
        == 0
    )
    systems = json.loads(figures.read_text())["systems"]
    assert systems["with the adapter"]["ndcg@10"] > systems["vectors"]["ndcg@10"] + 0.1
    first = QueryAdapter.load(out)
    assert run([*words[:-1], "training.batch_size=16"]) == 0
    assert QueryAdapter.load(out).digest() == first.digest()  # the same seed, the same adapter
    given = np.load(closed[1] / "queries.npy")[:3]
    np.testing.assert_allclose(first.apply(given), first.apply(7 * given), atol=1e-6)
    with pytest.raises(ModelError, match="do not fit an adapter of 16"):
        first.apply(given[:, :8])
    capsys.readouterr()


@pytest.mark.parametrize("hidden", [0, 7])
def test_the_layers_of_a_query_model_compute_what_apply_does(hidden: int, tiny_model: str) -> None:
    base, adapter = Encoder.load(tiny_model, precision="fp32"), random_query_adapter(4, hidden)
    found = with_query_adapter(base, adapter).encode(TEXTS, "query")
    expected = base.encode(TEXTS, "query")
    change = expected @ adapter.outer.T if adapter.inner is None else (
        np.maximum(expected @ adapter.inner.T + adapter.inner_bias, 0) @ adapter.outer.T
    )  # fmt: skip
    wanted = expected + change + adapter.outer_bias
    np.testing.assert_allclose(found, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "queries.ids.txt").unlink(), "no such file"),
        (lambda folder: (folder / "queries.ids.txt").write_text("q1\nq2\n"), "2 ids for 120 vectors"),
        (lambda folder: (folder / "queries.ids.txt").write_text("q1\n" * 120), "'q1' stands there twice"),
        (lambda folder: (folder / "queries.ids.txt").write_text("".join(f"x{n}\n" for n in range(120))), "no vector"),
        (lambda folder: np.save(folder / "passages.npy", np.zeros((120, 16), np.float32)), "zero or not finite"),
        (
            lambda folder: np.save(folder / "passages.npy", np.ones((120, 8), np.float32)),
            "16 numbers, passage vectors 8",
        ),
        (lambda folder: np.save(folder / "passages.npy", np.ones(120, np.float32)), "an array of shape"),
        (lambda folder: (folder / "passages.npy").write_text("1 2 3"), "not an array"),
    ],
)
def test_vector_files_that_do_not_fit_are_named(
    change: Any, says: str, closed: tuple[Path, Path], tmp_path: Path
) -> None:
    from fieldtune.adapters import train_query_adapter

    change(closed[1])
    with pytest.raises(InputError, match=says) as caught:
        train_query_adapter(make_config({}), *closed, tmp_path / "out")
    assert str(closed[1]) in caught.value.message
    assert not (tmp_path / "out").exists()


def test_training_on_vectors_from_files_has_one_method(
    closed: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, vectors = map(str, closed)
    words = ["adapter", "train", "--data", data, "--vectors", vectors, "--out", str(tmp_path / "out")]
    assert run([*words, "--set", "training.method=full"]) == 2
    said = capsys.readouterr().err
    assert "training.method=full" in said and "vectors alone" in said and "fieldtune train" in said
    assert not (tmp_path / "out").exists()
    assert run([*words, "--set", "training.method=query", "--set", "training.epochs=1"]) == 0


@pytest.mark.parametrize(
    ("settings", "says", "cure"),
    [
        ({"training": {"replay": "general.jsonl"}}, "replay does not go", "leave it out"),
        ({"training": {"anchor": 0.1}}, "anchor has no meaning", "weight_decay"),
        ({"training": {"dev_dimension": 99}}, "dev_dimension asks for 99 dimensions, the vectors have 16", "up to 16"),
        ({"training": {"matryoshka": [99]}}, "matryoshka asks for 99 dimensions", "up to 16"),
        ({"training": {"seeds": 3}}, "seeds averages whole models", "seeds=1"),
        ({"training": {"m3": {"train": "heads"}}}, "needs a model's tokens", "m3.train=none"),
        ({"teacher": {"model": "fused"}}, "teacher.model=fused does not go with vectors from files", "leave it out"),
        ({"negatives": {"check": "llm"}}, "negatives.check=llm does not go", "negatives.skip_first"),
    ],
)
def test_settings_that_vectors_from_files_cannot_honour_are_refused(
    settings: dict[str, Any], says: str, cure: str, closed: tuple[Path, Path], tmp_path: Path
) -> None:
    from fieldtune.adapters import train_query_adapter

    with pytest.raises(ConfigError, match=says) as caught:
        train_query_adapter(make_config(settings), *closed, tmp_path / "out")
    assert cure in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_shorter_vectors_are_trained_with_the_weights_that_were_set(
    closed: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fieldtune.adapters import train_query_adapter
    from fieldtune.training import given

    recipes: list[Any] = []
    train = given.fit_query_adapter
    monkeypatch.setattr(given, "fit_query_adapter", lambda *all: (recipes.append(all[3]), train(*all))[1])
    made = []
    for name, weights in (("plain", []), ("same", [1.0]), ("less", [0.1])):
        settings = {"epochs": 2, "batch_size": 16, "learning_rate": 0.02, "matryoshka": [8]}
        config = make_config({"training": settings | {"matryoshka_weights": weights}})
        train_query_adapter(config, *closed, tmp_path / name)
        made.append(QueryAdapter.load(tmp_path / name))
    assert [recipe.dimensions for recipe in recipes] == [(16, 8)] * 3
    assert [recipe.weights for recipe in recipes] == [(), (1.0, 1.0), (1.0, 0.1)]
    np.testing.assert_allclose(made[1].outer, made[0].outer, atol=1e-5)
    assert np.abs(made[2].outer - made[0].outer).max() > 1e-3


def test_training_on_vectors_from_files_reports_its_log(
    closed: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import contextmanager

    from fieldtune.adapters import train_query_adapter
    from fieldtune.training import reports

    sent: list[tuple[int, str]] = []

    @contextmanager
    def tensorboard(folder: Path, config: Any, run: Any) -> Any:
        assert folder.name == "out"
        (folder / "training" / "tensorboard").mkdir(parents=True)
        yield lambda values, step: sent.extend((step, name) for name in values)

    monkeypatch.setitem(reports._OPEN, "tensorboard", tensorboard)
    monkeypatch.setattr(reports.importlib.util, "find_spec", lambda name: True)
    config = make_config({"training": {"report_to": ["tensorboard"], "epochs": 2, "batch_size": 16}})
    train_query_adapter(config, *closed, tmp_path / "out")
    assert {"loss", "rate", "dev_nDCG@10"} <= {name for _, name in sent}
    assert (tmp_path / "out" / "training" / "tensorboard").is_dir()
    assert QueryAdapter.load(tmp_path / "out").dimension == 16


def test_another_training_on_vectors_sends_all_of_its_log_and_a_killed_one_the_rest(
    closed: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import contextmanager

    from fieldtune.adapters import train_query_adapter
    from fieldtune.training import reports

    sent: list[tuple[str, int, tuple[str, ...]]] = []
    ends: list[int] = []

    @contextmanager
    def tracker(folder: Path, config: Any, run: Any) -> Any:
        def send(values: Any, step: int) -> None:
            if ends and len(sent) >= ends[0]:
                raise KeyboardInterrupt
            sent.append((run.id, step, tuple(values)))

        yield send

    monkeypatch.setitem(reports._OPEN, "trackio", tracker)
    monkeypatch.setattr(reports.importlib.util, "find_spec", lambda name: True)
    out, reported = tmp_path / "out", tmp_path / "out" / "training" / "state" / "reported.json"

    def train(rate: float) -> list[tuple[str, int, tuple[str, ...]]]:
        settings = {"report_to": ["trackio"], "epochs": 4, "batch_size": 16, "learning_rate": rate}
        sent.clear()
        train_query_adapter(make_config({"training": settings}), *closed, out)
        return list(sent)

    first = train(1e-3)
    assert len(first) > 2 and len({run for run, *_ in first}) == 1
    assert not (out / "training").exists()  # done: nothing is to be gone on with
    again = train(1e-3)
    assert [row[1:] for row in again] == [row[1:] for row in first] and again[0][0] != first[0][0]

    def killed(rate: float, after: int) -> list[tuple[str, int, tuple[str, ...]]]:
        ends.append(after)
        with pytest.raises(KeyboardInterrupt):
            train(rate)
        ends.clear()
        assert reported.exists()
        return list(sent)

    begun = killed(1e-3, 2)
    rest = train(1e-3)
    assert [row[1:] for row in begun + rest] == [row[1:] for row in first]
    assert {run for run, *_ in begun + rest} == {begun[0][0]}
    begun = killed(1e-3, 2)
    other = train(2e-3)
    assert len(other) == len(first) and other[0][0] != begun[0][0]
    begun = killed(2e-3, 2)
    turned = np.load(closed[1] / "queries.npy")[:, ::-1]
    np.save(closed[1] / "queries.npy", turned)  # the same settings, other vectors
    assert len(train(2e-3)) == len(first)


def test_a_folder_with_anything_but_an_earlier_adapter_on_vectors_is_not_replaced(
    closed: tuple[Path, Path], tuned: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fieldtune.adapters import train_query_adapter
    from fieldtune.training import given

    config = make_config({"training": {"epochs": 1}})
    train_query_adapter(config, *closed, tmp_path / "adapter")
    extended = tmp_path / "extended"
    shutil.copytree(tmp_path / "adapter", extended)
    (extended / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    part = tmp_path / "part"  # a query adapter, but one that belongs to a tuned model
    shutil.copytree(tuned["search"] / "adapter", part)
    train = given.fit_on_given
    monkeypatch.setattr(given, "fit_on_given", None)  # it is refused before
    for out in (*closed, tuned["law"], tuned["law"] / "adapter", part, extended, tmp_path / "file"):
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        with pytest.raises(ConfigError, match="holds something else than an adapter") as caught:
            train_query_adapter(config, *closed, out)
        assert "--out" in caught.value.hint and str(out) in caught.value.message
        assert out.exists() and before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    monkeypatch.setattr(given, "fit_on_given", train)
    (tmp_path / "begun" / "training" / "tensorboard").mkdir(parents=True)  # as a killed training leaves it
    (tmp_path / "begun" / "training" / "tensorboard" / "events").write_text("")
    for out in (tmp_path / "adapter", tmp_path / "begun"):
        train_query_adapter(config, *closed, out)
        assert QueryAdapter.load(out).dimension == 16


def test_an_adapter_that_does_not_load_as_it_was_trained_is_not_kept(
    closed: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fieldtune.adapters import train_query_adapter

    config, out = make_config({"training": {"epochs": 1}}), tmp_path / "out"
    assert any(
        "least cosine to the trained adapter: 1.0000" in line for line in train_query_adapter(config, *closed, out)
    )
    before = {path: path.read_bytes() for path in out.iterdir()}
    save = QueryAdapter.save
    for wrong in (np.linspace(-3, 3, 16, dtype=np.float32), np.full(16, np.nan, np.float32)):

        def spoilt(self: QueryAdapter, folder: Path, wrong: np.ndarray = wrong) -> None:
            save(QueryAdapter(self.outer, self.outer_bias + wrong), folder)

        monkeypatch.setattr(QueryAdapter, "save", spoilt)
        with pytest.raises(ModelError, match="saved adapter gives other vectors than the trained one"):
            train_query_adapter(config, *closed, out)
        assert before == {path: path.read_bytes() for path in out.iterdir()}


@pytest.mark.parametrize(
    ("outer", "bias", "says"),
    [
        (np.zeros((16, 16)), np.zeros(16), "training changed nothing"),
        (np.full((16, 16), 1e30), np.full(16, 3e38), "no numbers"),
        (np.zeros((16, 16)), np.full(16, 1e4), "has collapsed: all queries get the same vector"),
    ],
)
def test_an_adapter_that_does_nothing_or_breaks_down_is_said(
    outer: Any, bias: Any, says: str, closed: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fieldtune.adapters import train_query_adapter
    from fieldtune.training import given

    train = given.fit_query_adapter
    made = QueryAdapter(np.asarray(outer, np.float32), np.asarray(bias, np.float32))
    monkeypatch.setattr(given, "fit_query_adapter", lambda *arguments: (made, train(*arguments)[1]))
    config = make_config({"training": {"epochs": 1}})
    if "collapsed" in says:
        (line,) = (line for line in train_query_adapter(config, *closed, tmp_path / "out") if says in line)
        assert "Search without it; lower training.learning_rate" in line
        return
    with pytest.raises(ModelError, match=says) as caught:
        train_query_adapter(config, *closed, tmp_path / "out")
    assert "training.learning_rate" in caught.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("dev", "says"),
    [("q80\tp80\t0\n", "No dev query has a passage of grade 1 or more"), ("", "There is no dev set")],
)
def test_an_adapter_without_positives_on_dev_is_kept_unchecked_and_that_is_said(
    dev: str, says: str, closed: tuple[Path, Path], tmp_path: Path
) -> None:
    from fieldtune.adapters import train_query_adapter

    path = closed[0] / "qrels" / "dev.tsv"
    path.write_text(f"query-id\tcorpus-id\tscore\n{dev}") if dev else path.unlink()
    said = train_query_adapter(make_config({"training": {"epochs": 1}}), *closed, tmp_path / "out")
    (line,) = (line for line in said if "unchecked" in line)
    assert line.startswith(says)
    assert not any(line.startswith("dev ") for line in said)
    assert QueryAdapter.load(tmp_path / "out").dimension == 16


def test_a_collapse_on_the_way_of_an_adapter_is_said(
    closed: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fieldtune.adapters import train_query_adapter
    from fieldtune.training import query_side

    answers = [True, False]  # the trained layer's vectors, the base's; then never again
    monkeypatch.setattr(query_side, "collapsed", lambda vectors: answers.pop(0) if answers else False)
    config = make_config({"training": {"epochs": 4, "batch_size": 16, "evaluations": 2}})
    said = train_query_adapter(config, *closed, tmp_path / "out")
    assert any("At step 10 all queries got the same vector" in line for line in said)


def test_a_gradient_that_is_no_number_stops_the_training_of_an_adapter(
    closed: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fieldtune.adapters import train_query_adapter
    from fieldtune.training import query_side

    changed = query_side._changed

    def steep(weights: dict[str, torch.Tensor], vectors: torch.Tensor) -> torch.Tensor:
        found = changed(weights, vectors)
        found.register_hook(lambda gradient: gradient * torch.inf)
        return found

    monkeypatch.setattr(query_side, "_changed", steep)
    with pytest.raises(ModelError, match=r"the gradient is (nan|inf) at step 1 of 5, though the loss") as caught:
        train_query_adapter(make_config({"training": {"epochs": 1, "batch_size": 16}}), *closed, tmp_path / "out")
    assert "training.learning_rate" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_loss_that_needs_a_teacher_is_refused_on_vectors(closed: tuple[Path, Path], tmp_path: Path) -> None:
    from fieldtune.adapters import train_query_adapter

    with pytest.raises(FieldtuneError, match="loss=kl"):
        train_query_adapter(make_config({"training": {"loss": "kl"}}), *closed, tmp_path / "out")
    qrels = closed[0] / "qrels" / "train.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\nq1\tp1\t1\nq2\tp1\t1\n")
    with pytest.raises(ConfigError, match="two queries or more with different positives"):
        train_query_adapter(make_config({"negatives": {"per_query": 0}}), *closed, tmp_path / "out")


def test_a_disk_that_fills_under_an_adapter_is_named_and_leaves_nothing(
    tiny_model: str, tuned: dict[str, Path], closed: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fieldtune.adapters import train_query_adapter

    def full(_: Any, folder: Path | str) -> None:
        (Path(folder) / "weights").write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(SentenceTransformer, "save", full)
    monkeypatch.setattr(QueryAdapter, "save", full)
    with pytest.raises(ModelError, match="disk is full: the merged model") as caught:
        merge_adapter(tiny_model, tuned["law"], tmp_path / "new" / "merged")
    assert "make room" in caught.value.hint and "checkpoint" not in caught.value.hint
    config = make_config({"training": {"epochs": 1}})
    with pytest.raises(ModelError, match="disk is full: the adapter"):
        train_query_adapter(config, *closed, tmp_path / "new" / "adapter")
    assert not list((tmp_path / "new").iterdir())


def run(words: list[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    return int(caught.value.code or 0)
