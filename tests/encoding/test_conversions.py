"""A model is converted once for mining, evaluation and index; what is kept is checked and bounded."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fieldtune.config import Config, Encoding, load_config
from fieldtune.encoding import Encoder, conversions, corpus_is_cached, corpus_vectors, ways
from fieldtune.encoding.conversions import conversion
from fieldtune.encoding.exported import RECORD, write_export
from fieldtune.encoding.fast import FastEncoder
from fieldtune.errors import FieldtuneError, InputError, ModelError
from fieldtune.pipeline import require_fit
from fieldtune.stages.inputs import format_of_vectors

pytest.importorskip("openvino")

TEXTS = [f"lease {number} ends when rent is due" for number in range(40)]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FIELDTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "conversions"


@pytest.fixture(scope="module")
def encoder(tiny_model: str) -> Encoder:
    return Encoder.load(tiny_model, precision="fp32")


@pytest.fixture(scope="module")
def graph(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, converted; to trace it takes seconds."""
    folder = tmp_path_factory.mktemp("graph")
    write_export(encoder, "openvino", "fp32", folder)
    return folder


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, graph: Path) -> list[str]:
    """The forms that models were converted to."""
    forms: list[str] = []

    def counted(encoder: Encoder, backend: str, precision: str, folder: Path, *rest: object) -> None:
        forms.append(f"{encoder.name} {backend} {precision}")
        shutil.copytree(graph, folder, dirs_exist_ok=True)

    monkeypatch.setattr(conversions, "write_export", counted)
    monkeypatch.setattr(ways, "write_export", counted)
    return forms


def test_a_model_is_converted_once_for_several_corpora_and_runs(
    encoder: Encoder, tiny_model: str, tmp_path: Path, place: Path, written: list[str]
) -> None:
    asked = Encoding(backend="openvino", precision="fp32")
    for number in (1, 2):
        made = corpus_vectors(encoder, TEXTS[number:], tmp_path / "v", asked)
        assert made.made_by == "openvino fp32" and made.notes == ()
        np.testing.assert_allclose(made.vectors, encoder.encode(TEXTS[number:], "passage"), atol=1e-4)
    half = Encoder.load(tiny_model, precision="bf16")  # another run, which computes in another format
    assert half.source == encoder.source and half.fingerprint != encoder.fingerprint
    assert conversion(half, "openvino", "fp32") is not None
    assert len(written) == len(list(place.iterdir())) == 1
    assert conversion(encoder, "openvino", "bf16") is not None
    other = Encoder(encoder.model, name="other", fingerprint="of other weights", precision="fp32")
    assert conversion(other, "openvino", "fp32") is not None
    assert len(written) == len(list(place.iterdir())) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "model.bin").write_bytes((folder / "model.bin").read_bytes()[:-4]),
        lambda folder: (folder / "tokenizer.json").unlink(),
        lambda folder: (folder / RECORD).write_text("{"),
    ],
    ids=["cut", "gone", "record"],
)
def test_a_damaged_conversion_is_made_anew(
    encoder: Encoder,
    place: Path,
    written: list[str],
    damage: Callable[[Path], object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    conversion(encoder, "openvino", "fp32")
    (folder,) = place.iterdir()
    damage(folder)
    again = conversion(encoder, "openvino", "fp32")
    assert again is not None and len(written) == 2 and "converted anew" in caplog.text
    np.testing.assert_allclose(again.encode(TEXTS, "passage"), encoder.encode(TEXTS, "passage"), atol=1e-4)


def test_the_longest_unused_ones_go(
    encoder: Encoder, place: Path, monkeypatch: pytest.MonkeyPatch, written: list[str]
) -> None:
    def writes(encoder: Encoder, backend: str, precision: str, folder: Path, *rest: object) -> None:
        (folder / RECORD).write_text("{}")

    monkeypatch.setattr(conversions, "write_export", writes)
    monkeypatch.setattr(conversions, "load_export", lambda folder: folder)
    named = [Encoder(encoder.model, fingerprint=str(number), precision="fp32") for number in range(6)]
    made = []
    for age, one in enumerate(named[:4]):
        made.append(conversion(one, "openvino", "fp32"))
        os.utime(made[-1], (1e9 + age, 1e9 + age))  # type: ignore[arg-type]
    conversion(named[0], "openvino", "fp32")  # used again: no longer the oldest
    (place / ".killed.tmp").mkdir()
    os.utime(place / ".killed.tmp", (1e9, 1e9))
    made.append(conversion(named[4], "openvino", "fp32"))
    assert sorted(place.iterdir()) == sorted(made[at] for at in (0, 2, 3, 4))  # type: ignore[type-var]


def test_without_a_fingerprint_or_a_folder_nothing_is_kept(
    encoder: Encoder, tmp_path: Path, place: Path, written: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert conversion(Encoder(encoder.model, precision="fp32"), "openvino", "fp32") is None
    assert not place.exists()
    place.parent.mkdir()
    place.write_text("a file")
    made = corpus_vectors(encoder, TEXTS, tmp_path / "v", Encoding(backend="openvino", precision="fp32"))
    assert made.made_by == "openvino fp32" and "is not kept" in caplog.text


def test_an_export_encodes_the_model_that_it_is_of(
    encoder: Encoder, graph: Path, tiny_model: str, tmp_path: Path, place: Path, written: list[str]
) -> None:
    asked = Encoding(export=str(graph))
    assert not corpus_is_cached(encoder, TEXTS, tmp_path / "v", asked)
    half = Encoder.load(tiny_model, precision="bf16")
    for one in (encoder, half):  # what a run computes in elsewhere does not matter
        made = corpus_vectors(one, TEXTS, tmp_path / "v", asked)
        assert made.made_by == "openvino fp32 (exported)" and made.notes == ()
        np.testing.assert_allclose(made.vectors, encoder.encode(TEXTS, "passage"), atol=1e-4)
        assert corpus_is_cached(one, TEXTS, tmp_path / "v", asked)
    assert written == [] and not place.exists()
    other = Encoder(encoder.model, name="tuned", fingerprint="of other weights", precision="fp32")
    made = corpus_vectors(other, TEXTS, tmp_path / "v", asked)
    assert made.made_by == "model fp32"
    assert "fieldtune export tuned" in made.notes[0] and tiny_model in made.notes[0]


def test_an_export_with_other_weights_than_it_says_is_refused(
    encoder: Encoder, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        FastEncoder, "encode", lambda self, texts, side, **_: np.roll(encoder.encode(texts, side), 1, axis=1)
    )
    with pytest.raises(ModelError, match="its vectors are not those"):
        corpus_vectors(encoder, TEXTS, tmp_path / "v", Encoding(export=str(graph)))


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"format": 0}, InputError, "not an exported model"),
        ({"source": ""}, InputError, "which model it was made from"),
        ({"files": {"model.bin": "0" * 64}}, InputError, "not what was exported"),
        ({"precision": "int8"}, ModelError, "not compared with its model"),
        ({"check": {"queries": 9, "ndcg_before": 0.5, "ndcg_after": 0.49}}, ModelError, "loses 1.00 points"),
    ],
)
def test_an_export_that_cannot_be_trusted_is_refused_with_a_cure(
    encoder: Encoder, graph: Path, tmp_path: Path, change: dict[str, object], error: type[FieldtuneError], says: str
) -> None:
    shutil.copytree(graph, tmp_path / "export")
    record = json.loads((tmp_path / "export" / RECORD).read_text())
    (tmp_path / "export" / RECORD).write_text(json.dumps(record | change))
    with pytest.raises(error, match=says) as raised:
        corpus_vectors(encoder, TEXTS, tmp_path / "v", Encoding(export=str(tmp_path / "export")))
    assert raised.value.hint and str(tmp_path) in raised.value.message


def test_a_run_looks_at_the_export_before_any_work_and_takes_its_path_from_the_config(tmp_path: Path) -> None:
    (tmp_path / "fieldtune.toml").write_text('[encoding]\nexport = "graphs/base"\n')
    config = load_config(tmp_path / "fieldtune.toml")
    assert config.encoding.export == str(tmp_path / "graphs" / "base")
    with pytest.raises(InputError, match="not an exported model"):
        require_fit(config)
    before = format_of_vectors(config)
    (tmp_path / "graphs" / "base").mkdir(parents=True)
    (tmp_path / "graphs" / "base" / RECORD).write_text("{}")
    assert before != format_of_vectors(config) != format_of_vectors(Config()) == []
