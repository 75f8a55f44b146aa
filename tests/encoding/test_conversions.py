"""A model is converted once for mining, evaluation and index; what is kept is checked and bounded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fieldtune.config import Encoding
from fieldtune.encoding import Encoder, conversions, corpus_vectors, ways
from fieldtune.encoding.conversions import conversion
from fieldtune.encoding.exported import RECORD, write_export

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
