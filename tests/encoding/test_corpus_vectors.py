"""Which way makes a corpus' vectors: chosen by measurement, remembered, refused where it is not sound."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fieldtune import config as settings
from fieldtune.beir import load_beir
from fieldtune.config import Config, Encoding
from fieldtune.encoding import Encoder, cached_vectors, conversions, corpus_is_cached, corpus_vectors, settings_for
from fieldtune.encoding import corpus as corpus_module
from fieldtune.encoding import speed as speed_module
from fieldtune.encoding import ways as ways_module
from fieldtune.encoding.exported import calibration_texts
from fieldtune.encoding.fast import with_torch
from fieldtune.encoding.speed import Failure, Speed, by_speed, recalled
from fieldtune.encoding.ways import Passages, Way, ways_of
from fieldtune.errors import ConfigError, ModelError
from fieldtune.evaluation import line_up

WORDS = ["lease", "rent", "tenant", "fever", "cough", "audit", "bond", "ends", "starts", "article", "7", "12"]
PLAIN, TORCH, GRAPH = Way("model", "fp32"), Way("torch", "fp32"), Way("openvino", "fp32")


@pytest.fixture(scope="module")
def encoder(tiny_model: str) -> Encoder:
    return Encoder.load(tiny_model, precision="fp32")


@pytest.fixture(scope="module")
def texts() -> list[str]:
    draw = random.Random(3)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 20))) for _ in range(300)]


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FIELDTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"


def timed(monkeypatch: pytest.MonkeyPatch, rates: dict[str, float]) -> list[list[str]]:
    """Every measurement gives these tokens a second and is written down."""
    asked: list[list[str]] = []

    def measure(encoder: Encoder, ways: Any, sample: Any, folder: Path) -> dict[str, Speed]:
        asked.append([way.name for way in ways])
        return {way.name: Speed(rates[way.name], 0.0 if way.backend == "model" else 5.0) for way in ways}

    monkeypatch.setattr(speed_module, "_measured", measure)
    return asked


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_named_backend_ranks_as_the_model_does(
    encoder: Encoder, texts: list[str], tmp_path: Path, backend: Any
) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    made = corpus_vectors(encoder, texts, tmp_path / "v", Encoding(backend=backend))
    assert made.made_by == f"{backend} fp32" and made.notes == ()
    exact = encoder.encode(texts, "passage")
    np.testing.assert_allclose(made.vectors, exact, atol=1e-4)
    queries = encoder.encode([text[:20] for text in texts[:40]], "query")
    assert (np.argmax(queries @ made.vectors.T, 1) == np.argmax(queries @ exact.T, 1)).mean() > 0.95
    assert sorted(path.suffix for path in (tmp_path / "v").iterdir()) == [".json", ".npy", ".txt"]  # no graph is left


def test_vectors_of_two_ways_lie_apart_and_queries_are_the_models_own(
    encoder: Encoder, texts: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "v"
    assert not corpus_is_cached(encoder, texts, folder, Encoding())
    corpus_vectors(encoder, texts, folder, Encoding(backend="torch"))
    assert corpus_is_cached(encoder, texts, folder, Encoding())
    assert not corpus_is_cached(encoder, texts, folder, Encoding(backend="openvino"))
    cached_vectors(encoder, texts, "passage", folder)
    assert len(list(folder.glob("*.npy"))) == 2
    by = Passages(encoder, TORCH)
    assert by.fingerprint == encoder.fingerprint and by.passage_fingerprint != encoder.passage_fingerprint
    int8 = Way("openvino", "int8")
    told_apart = {Passages(encoder, int8, calibration_texts(some)).passage_fingerprint for some in (texts, texts[1:])}
    assert len(told_apart) == 2


def test_a_killed_encoding_goes_on_where_it_was(
    encoder: Encoder, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fieldtune.encoding.feeding.BLOCK", 100)
    encoded: list[int] = []
    sampled: list[bool] = []  # whether the sample of the check is through
    check = corpus_module.require_same
    monkeypatch.setattr(corpus_module, "require_same", lambda *given: (check(*given), sampled.append(True)))

    @contextmanager
    def dying(encoder: Encoder, way: Way, *rest: Any) -> Iterator[Any]:
        with ways_module.opened(encoder, way, *rest) as fast:
            plain = fast.engine.forward

            def forward(ids: Any, mask: Any) -> Any:
                if len(encoded) == 200:
                    raise KeyboardInterrupt
                encoded.extend(range(len(ids)) if sampled else [])
                return plain(ids, mask)

            monkeypatch.setattr(fast.engine, "forward", forward)
            monkeypatch.setattr(fast.engine, "workers", 1)
            yield fast

    once = list(dict.fromkeys(f"{text} {number}" for number, text in enumerate(texts)))
    whole = corpus_vectors(encoder, once, tmp_path / "whole", Encoding(backend="torch")).vectors
    sampled.clear()
    with monkeypatch.context() as patch:
        patch.setattr(corpus_module, "opened", dying)
        with pytest.raises(KeyboardInterrupt):
            corpus_vectors(encoder, once, tmp_path / "v", Encoding(backend="torch"))
    (mark,) = (tmp_path / "v").glob("*.json")
    assert json.loads(mark.read_text())["done"] == 200
    again = corpus_vectors(encoder, once, tmp_path / "v", Encoding(backend="torch"))
    np.testing.assert_array_equal(again.vectors, whole)
    assert again.made_by == "torch fp32"


def test_the_choice_is_remembered_and_read_back(
    encoder: Encoder, texts: list[str], tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = timed(monkeypatch, {"model fp32": 10.0, "torch fp32": 20.0, "openvino fp32": 40.0})
    ways = (PLAIN, TORCH, GRAPH)
    assert by_speed(encoder, ways, texts, tmp_path)[0] == (GRAPH, TORCH, PLAIN)
    assert asked == [["model fp32"], ["model fp32", "torch fp32", "openvino fp32"]]
    assert by_speed(encoder, ways, texts, tmp_path)[0] == (GRAPH, TORCH, PLAIN)
    assert len(asked) == 2  # nothing is measured again
    (path,) = memory.iterdir()
    assert recalled(path)["openvino fp32"] == Speed(40.0, 5.0)
    # The weights do not matter, the shapes do: a tuned model has the speed of its base.
    other = Encoder(encoder.model, name="tuned", fingerprint="other", precision="fp32")
    assert by_speed(other, ways, texts, tmp_path)[0][0] == GRAPH
    assert len(asked) == 2


DAMAGED = [
    "",
    "{",
    "[]",
    '{"format": 2, "failed": {}, "ways": {"model fp32": {"tokens": "x"}}}',
    '{"format": 2, "failed": {}, "ways": {"model fp32": {"tokens": 0, "setup": 0}}}',
    '{"format": 2, "failed": {}, "ways": {"model fp32": {"tokens": NaN, "setup": 0}}}',
    "\xff",
]


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_memory_is_measured_anew(
    encoder: Encoder, texts: list[str], tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    asked = timed(monkeypatch, {"model fp32": 10.0, "torch fp32": 20.0})
    by_speed(encoder, (PLAIN, TORCH), texts, tmp_path)
    (path,) = memory.iterdir()
    path.write_bytes(damage.encode("latin-1"))
    assert by_speed(encoder, (PLAIN, TORCH), texts, tmp_path)[0] == (TORCH, PLAIN)
    assert len(asked) == 4
    assert recalled(path)["torch fp32"] == Speed(20.0, 5.0)


def test_a_corpus_that_is_soon_encoded_stays_with_the_model(
    encoder: Encoder, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = timed(monkeypatch, {"model fp32": 1e6, "torch fp32": 1e7})
    assert by_speed(encoder, (PLAIN, TORCH), texts, tmp_path)[0] == (PLAIN,)
    assert asked == [["model fp32"]]
    assert by_speed(encoder, (PLAIN, TORCH), texts[:100], tmp_path)[0] == (PLAIN,)
    made = corpus_vectors(encoder, texts, tmp_path / "v", Encoding())
    assert made.made_by == "model fp32"
    np.testing.assert_array_equal(made.vectors[:8], encoder.encode(texts, "passage")[:8])


def test_setting_up_counts_against_the_seconds_that_are_left(
    encoder: Encoder, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = encoder.tokens.store(texts[:: len(texts) // 64]) if encoder.tokens else None
    assert store is not None
    total = float(store.lengths.mean()) * len(texts)
    timed(monkeypatch, {"model fp32": total / 61, "torch fp32": total / 57})
    assert by_speed(encoder, (PLAIN, TORCH), texts, tmp_path)[0][0] == PLAIN  # 61 s, and 57 s with 5 s before


def test_the_measurement_is_of_real_texts_and_names_what_fails(
    encoder: Encoder, texts: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = speed_module._measured(encoder, [PLAIN, TORCH, Way("onnx", "bf16")], texts[:64], tmp_path)
    plain, torch, none = found["model fp32"], found["torch fp32"], found["onnx bf16"]
    assert isinstance(plain, Speed) and isinstance(torch, Speed) and isinstance(none, Failure)
    assert plain.tokens > 0 and torch.tokens > 0
    assert "no bf16" in none.why and "no bf16" in caplog.text  # ONNX Runtime has no such format
    assert plain.setup == 0.0 < torch.setup
    assert list(tmp_path.glob(".engine*")) == []


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), ImportError("half installed"), RuntimeError("a broken pass")]
)
def test_a_way_that_fails_once_is_named_and_tried_again_later(
    encoder: Encoder,
    texts: list[str],
    tmp_path: Path,
    memory: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    monkeypatch.setattr(speed_module, "_PAYS", 0.0)
    monkeypatch.setattr(corpus_module, "ways_of", lambda *_: (PLAIN, TORCH))
    tried: list[str] = []
    broken = True

    def trying(*_: Any) -> Any:
        tried.append("torch")
        if broken:
            raise error
        return with_torch(encoder, "fp32")

    monkeypatch.setattr(ways_module, "with_torch", trying)
    made = corpus_vectors(encoder, texts, tmp_path / "v", Encoding())
    assert made.made_by == "model fp32" and len(tried) == 1
    assert "torch fp32" in made.notes[0] and str(error)[:20] in made.notes[0]
    assert any(row.levelname == "WARNING" and "torch fp32" in row.getMessage() for row in caplog.records)
    broken = False
    again = corpus_vectors(encoder, texts[1:], tmp_path / "v", Encoding())
    assert len(tried) == 1 and again.notes == made.notes  # the next stage says so too, and does not try in vain
    (path,) = memory.iterdir()
    saved = json.loads(path.read_text())
    assert list(saved["ways"]) == ["model fp32"] and list(saved["failed"]) == ["torch fp32"]
    saved["failed"]["torch fp32"]["until"] -= 3_601
    path.write_text(json.dumps(saved))
    third = corpus_vectors(encoder, texts[2:], tmp_path / "v", Encoding())
    assert len(tried) >= 2 and third.notes == ()
    assert set(recalled(path)) == {"model fp32", "torch fp32"}
    assert isinstance(recalled(path)["torch fp32"], Speed)


def test_what_openvino_cannot_do_the_next_way_does(
    encoder: Encoder, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")

    def broken(*_: object) -> None:
        raise ModelError("no such operation in the graph")

    monkeypatch.setattr(conversions, "write_export", broken)
    timed(monkeypatch, {"model fp32": 10.0, "torch fp32": 20.0, "openvino fp32": 40.0})
    with monkeypatch.context() as patch:
        patch.setattr(corpus_module, "ways_of", lambda *_: (PLAIN, TORCH, GRAPH))
        made = corpus_vectors(encoder, texts, tmp_path / "v", Encoding())
    assert made.made_by == "torch fp32"
    assert "openvino fp32" in made.notes[0] and "no such operation" in made.notes[0]
    np.testing.assert_allclose(made.vectors, encoder.encode(texts, "passage"), atol=1e-5)
    named = corpus_vectors(encoder, texts, tmp_path / "v", Encoding(backend="openvino"))
    assert named.made_by == "model fp32" and named.notes


def test_vectors_that_are_not_the_models_are_not_taken(
    encoder: Encoder, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Turned:
        def encode(self, some: Any, side: Any, *, advance: Any = None) -> Any:
            return np.roll(encoder.encode(some, side), 1, axis=1)

    @contextmanager
    def opened(*_: Any) -> Iterator[Any]:
        yield Turned()

    monkeypatch.setattr(corpus_module, "opened", opened)
    made = corpus_vectors(encoder, texts, tmp_path / "v", Encoding(backend="torch"))
    assert made.made_by == "model fp32" and "cosine" in made.notes[0]
    np.testing.assert_allclose(made.vectors, encoder.encode(texts, "passage"), atol=1e-5)


def test_int8_is_never_chosen_and_refused_without_a_check(
    encoder: Encoder, texts: list[str], tmp_path: Path, divided: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(way.precision != "int8" for way in ways_of(Encoding(), encoder))
    pytest.importorskip("nncf")
    wanted = Encoding(precision="int8", backend="openvino")
    with pytest.raises(ModelError, match="dev queries"):
        corpus_vectors(encoder, texts, tmp_path / "v", wanted)
    assert list((tmp_path / "v").glob("*.npy")) == []
    data = load_beir(divided)
    passages = [passage.content for passage in data.passages.values()]
    lax = wanted.model_copy(update={"max_loss": 100.0})
    made = corpus_vectors(encoder, passages, tmp_path / "v", lax, dev=data)
    assert made.made_by == "openvino int8"
    exact = encoder.encode(passages, "passage")
    assert (made.vectors * exact).sum(axis=1).min() > 0.9 and np.abs(made.vectors - exact).max() > 1e-4
    (record,) = json.loads((tmp_path / "v" / "int8-checks.json").read_text()).values()
    assert record["queries"] > 0
    ranked: list[str] = []
    check = corpus_module.check_retrieval
    monkeypatch.setattr(corpus_module, "check_retrieval", lambda *a, **k: (ranked.append(a[3]), check(*a, **k))[1])
    assert corpus_vectors(encoder, passages, tmp_path / "v", lax, dev=data).made_by == "openvino int8"
    assert ranked == []  # known
    strict = wanted.model_copy(update={"max_loss": record["ndcg_before"] * 100 - record["ndcg_after"] * 100 - 0.01})
    with pytest.raises(ModelError, match="as measured before, loses"):
        corpus_vectors(encoder, passages, tmp_path / "v", strict, dev=data)
    with pytest.raises(ModelError, match="dev queries"):
        corpus_vectors(encoder, passages, tmp_path / "v", lax)
    fewer = dict(list(data.qrels["dev"].items())[:-1])
    corpus_vectors(encoder, passages, tmp_path / "v", lax, dev=replace(data, qrels={"dev": fewer}))
    assert ranked == ["dev"]  # other queries, measured anew on vectors that are kept


def test_int8_that_loses_too_much_is_refused(
    encoder: Encoder, tmp_path: Path, divided: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Coarse:
        def encode(self, some: Any, side: Any, *, advance: Any = None) -> Any:
            vectors = encoder.encode(some, side)
            noise = np.random.default_rng(1).normal(0, 0.03, vectors.shape)
            worse = vectors + noise
            return (worse / np.linalg.norm(worse, axis=1, keepdims=True)).astype(np.float32)

    @contextmanager
    def opened(*_: Any) -> Iterator[Any]:
        yield Coarse()

    monkeypatch.setattr(corpus_module, "opened", opened)
    monkeypatch.setattr(corpus_module, "ways_of", lambda *_: (Way("openvino", "int8"),))
    data = load_beir(divided)
    passages = [passage.content for passage in data.passages.values()]
    with pytest.raises(ModelError, match=r"loses|not the model's"):
        corpus_vectors(encoder, passages, tmp_path / "v", Encoding(precision="int8", max_loss=0), dev=data)


def test_what_the_settings_leave_to_choose_from(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways_module, "installed", lambda backend: True)
    assert [way.name for way in ways_of(Encoding(), encoder)] == [
        "model fp32", "torch fp32", "openvino fp32", "onnx fp32",
    ]  # fmt: skip
    assert [way.name for way in ways_of(Encoding(precision="bf16"), encoder)] == ["torch bf16", "openvino bf16"]
    assert ways_of(Encoding(backend="torch", precision="bf16"), encoder) == (Way("torch", "bf16"),)
    with pytest.raises(ConfigError, match="no bf16"):
        ways_of(Encoding(backend="onnx", precision="bf16"), encoder)
    monkeypatch.setattr(ways_module, "installed", lambda backend: False)
    assert [way.name for way in ways_of(Encoding(), encoder)] == ["model fp32", "torch fp32"]


def test_models_that_engines_cannot_run_stay_as_they_are(tiny_model: str, texts: list[str], tmp_path: Path) -> None:
    routed = Encoder.load(tiny_model, precision="fp32")
    folder = tmp_path / "v"
    corpus_vectors(routed, texts, folder, Encoding(backend="torch"))
    routed.routed = True  # queries alone go another way: the base's passages are its own
    assert corpus_vectors(routed, texts, folder, Encoding()).made_by == "torch fp32"
    made = corpus_vectors(routed, texts, tmp_path / "other", Encoding(backend="torch"))
    assert made.made_by == "model fp32" and "token ids" in made.notes[0]
    three = Config(evaluation=settings.Evaluation(m3=True), encoding=Encoding(backend="torch"))
    assert settings_for(three) is None
    assert corpus_vectors(routed, texts, tmp_path / "third", settings_for(three)).made_by == "model fp32"
    unchecked = settings_for(Config(encoding=Encoding(precision="int8")), checked=False)
    assert unchecked is not None and unchecked.precision == "auto"


def test_an_evaluation_says_what_encoded_each_model(tiny_model: str, divided: Path, tmp_path: Path) -> None:
    data = load_beir(divided)
    loaders = [(name, lambda: Encoder.load(tiny_model, precision="fp32")) for name in ("base", "tuned")]
    short = settings.Evaluation(dimensions=(), hybrid=False, precisions=())
    by_engine = line_up(data, "test", loaders, tmp_path / "a", short, bm25=False, encoding=Encoding(backend="torch"))
    assert by_engine.encoded_by == {"base": "torch fp32", "tuned": "torch fp32"}
    assert "passages by torch fp32" in by_engine.costs[0].stage and by_engine.notes == ()
    plain = line_up(data, "test", loaders, tmp_path / "b", short, bm25=False)
    assert plain.encoded_by == {"base": "model fp32", "tuned": "model fp32"}
    same = plain.systems[0].run.rows[:, 0] == by_engine.systems[0].run.rows[:, 0]
    assert same.mean() > 0.9
