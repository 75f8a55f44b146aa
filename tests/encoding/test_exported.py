from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fieldtune.config import Encoding
from fieldtune.encoding import Encoder, cached_vectors
from fieldtune.encoding.exported import RECORD, load_export
from fieldtune.encoding.fast import with_torch
from fieldtune.errors import ConfigError, FieldtuneError, InputError, MissingExtraError, ModelError
from fieldtune.exporting import export

TEXTS = ["lease ends", "rent", "fever requires insulin when cough starts", "", "lease ends", "bond " * 100, "?!"]


def test_the_torch_engine_gives_the_models_vectors(tiny_model: str) -> None:
    encoder = Encoder.load(tiny_model, precision="fp32")
    fast = with_torch(encoder, "fp32")
    for side in ("query", "passage"):
        np.testing.assert_allclose(fast.encode(TEXTS, side), encoder.encode(TEXTS, side), atol=1e-5)
    assert np.array_equal(fast.encode(TEXTS, "query")[0], fast.encode(TEXTS, "query")[4])
    assert fast.encode([], "query").shape == (0, 32)
    counted: list[int] = []
    fast.encode(TEXTS, "passage", advance=counted.append)
    assert sum(counted) == len(TEXTS)


def test_the_model_itself_stays_in_fp32(tiny_model: str) -> None:
    encoder = Encoder.load(tiny_model, precision="fp32")
    before = encoder.encode(TEXTS, "query")
    half = with_torch(encoder, "bf16").encode(TEXTS, "query")
    assert np.array_equal(encoder.encode(TEXTS, "query"), before)
    assert (half * before).sum(axis=1).min() > 0.999 and not np.array_equal(half, before)


def test_a_stream_gives_the_vectors_block_by_block_in_order(tiny_model: str) -> None:
    encoder = Encoder.load(tiny_model, precision="fp32")
    texts = [f"article {number % 60} {'rent ' * (number % 7)}" for number in range(5_000)]
    for by in (encoder, with_torch(encoder, "fp32")):
        counted: list[int] = []
        parts = list(by.stream(iter(texts), "passage", advance=counted.append))
        assert [len(part) for part in parts] == [4_096, 904] and sum(counted) == 5_000
        np.testing.assert_allclose(np.concatenate(parts), by.encode(texts, "passage"), atol=1e-5)
        assert list(by.stream(iter([]), "passage")) == []


def test_a_reader_that_breaks_ends_the_stream(tiny_model: str) -> None:
    def broken():  # type: ignore[no-untyped-def]
        yield "rent"
        raise OSError("the reader broke")

    fast = with_torch(Encoder.load(tiny_model, precision="fp32"), "fp32")
    with pytest.raises(OSError, match="the reader broke"):
        list(fast.stream(broken(), "passage"))


def test_vectors_of_two_engines_are_never_mixed(tiny_model: str, tmp_path: Path) -> None:
    encoder = Encoder.load(tiny_model, precision="fp32")
    ways = [encoder, with_torch(encoder, "fp32"), with_torch(encoder, "bf16")]
    assert len({way.fingerprint for way in ways}) == len({way.passage_fingerprint for way in ways}) == 3
    for way in ways:
        cached_vectors(way, TEXTS, "passage", tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 3


@pytest.fixture(scope="module")
def exported(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("openvino")
    out = tmp_path_factory.mktemp("exports") / "openvino"
    said = export(tiny_model, "openvino", "fp32", out)
    assert any("1.0000" in line for line in said)
    return out


def test_an_export_gives_the_models_vectors(tiny_model: str, exported: Path) -> None:
    encoder, fast = Encoder.load(tiny_model, precision="fp32"), load_export(exported)
    for side in ("query", "passage"):
        np.testing.assert_allclose(fast.encode(TEXTS, side), encoder.encode(TEXTS, side), atol=1e-4)
    assert json.loads((exported / RECORD).read_text())["check"]["lowest_cosine"] > 0.9999
    assert fast.fingerprint not in (encoder.fingerprint, with_torch(encoder, "fp32").fingerprint)


def test_an_export_reads_white_space_as_the_library_does(spaced_model: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    export(spaced_model, "openvino", "fp32", tmp_path / "out")
    texts = ["rent", "rent\n", " rent", "合同 ", "\u3000合同", "", " ", "\n"]
    theirs = Encoder.load(spaced_model, precision="fp32").model.encode_document(texts)
    assert theirs[0] @ theirs[1] < 0.99
    np.testing.assert_allclose(load_export(tmp_path / "out").encode(texts, "passage"), theirs, atol=1e-4)


def test_an_export_runs_without_torch(exported: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from fieldtune.encoding.exported import load_export\n"
        f"print(load_export(Path({str(exported)!r})).encode(['rent'], 'query').shape, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "(1, 32) False"


def test_onnx_gives_the_models_vectors(tiny_model: str, tmp_path: Path) -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    export(tiny_model, "onnx", "fp32", tmp_path / "out")
    fast = load_export(tmp_path / "out")
    expected = Encoder.load(tiny_model, precision="fp32").encode(TEXTS, "query")
    np.testing.assert_allclose(fast.encode(TEXTS, "query"), expected, atol=1e-4)


def test_int8_is_calibrated_checked_and_refused(tiny_model: str, divided: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    with pytest.raises(ModelError, match="calibrated on your passages"):
        export(tiny_model, "openvino", "int8", tmp_path / "blind")
    generous = Encoding(max_loss=100)
    said = export(tiny_model, "openvino", "int8", tmp_path / "out", data=divided, settings=generous)
    assert any("nDCG@10 on 18 queries" in line for line in said)
    record = json.loads((tmp_path / "out" / RECORD).read_text())
    assert record["check"]["queries"] == 18
    fast, exact = load_export(tmp_path / "out"), Encoder.load(tiny_model, precision="fp32")
    cosines = (fast.encode(TEXTS, "passage") * exact.encode(TEXTS, "passage")).sum(axis=1)
    assert 0.97 < cosines.mean() < 0.999999


@pytest.mark.parametrize(
    ("backend", "precision", "error", "says"),
    [("torch", "fp32", ConfigError, "as it is"), ("onnx", "bf16", ConfigError, "has no bf16")],
)
def test_what_there_is_not_is_named(
    tiny_model: str, tmp_path: Path, backend: str, precision: str, error: type[FieldtuneError], says: str
) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(error, match=says):
        export(tiny_model, backend, precision, tmp_path / "out")  # type: ignore[arg-type]


def test_a_missing_backend_names_the_command(tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldtune.encoding.engine._PACKAGES", {"openvino": ("no_such_package",)})
    with pytest.raises(MissingExtraError) as raised:
        export(tiny_model, "openvino", "fp32", tmp_path / "out")
    assert raised.value.hint == "pip install 'fieldtune[fast]'"


def test_other_files_are_not_overwritten(tiny_model: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="holds other things"):
        export(tiny_model, "openvino", "fp32", tmp_path)
    with pytest.raises(InputError, match="not an exported model"):
        load_export(tmp_path)
