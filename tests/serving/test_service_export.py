"""The service computes embeddings of many texts by an export that the user names, where it is one of the model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fieldtune.cli_serve import _settings
from fieldtune.config import Encoding, make_config
from fieldtune.encoding import Encoder
from fieldtune.encoding.exported import RECORD, write_export
from fieldtune.encoding.openvino_engine import OpenVinoEngine
from fieldtune.errors import InputError
from fieldtune.serving.engine import Engine

pytest.importorskip("openvino")

TEXTS = ["rent ends", "lease 7", "deposit covers damages and the notice of a landlord"]


@pytest.fixture(scope="module")
def graph(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graph")
    write_export(Encoder.load(tiny_model, precision="fp32"), "openvino", "fp32", folder)
    return folder


def test_many_texts_go_through_the_export_and_give_the_models_vectors(tiny_model: str, graph: Path) -> None:
    engine = Engine(tiny_model, single=True, probes=TEXTS, encoding=Encoding(export=str(graph)))
    engine.encode("query", TEXTS)
    assert engine._loaded is None, "a question needs no export"
    assert isinstance(engine.whole().faster, OpenVinoEngine)
    for side in ("query", "passage"):
        store = engine.tokenized(TEXTS, side)
        assert store is not None
        exact = Encoder.load(tiny_model, precision="fp32").encode(TEXTS, side)
        np.testing.assert_allclose(engine.forward(store, np.arange(3), side), exact, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"source": "another model"}, "fieldtune export"),
        ({"files": {"model.bin": "0" * 64}}, "not what was exported"),
        ({"precision": "int8"}, "not compared with its model"),
        ({"dimension": 0, "format": 0}, "not an exported model"),
        ({"precision": None}, "not an exported model"),
    ],
)
def test_an_export_that_cannot_be_taken_leaves_the_service_as_it_is(
    tiny_model: str, graph: Path, tmp_path: Path, change: dict[str, object], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(graph, tmp_path / "export")
    record = json.loads((tmp_path / "export" / RECORD).read_text())
    kept = {name: value for name, value in (record | change).items() if value is not None}
    (tmp_path / "export" / RECORD).write_text(json.dumps(kept))
    engine = Engine(tiny_model, probes=TEXTS, encoding=Encoding(export=str(tmp_path / "export")))
    assert not isinstance(engine.whole().faster, OpenVinoEngine)
    assert says in caplog.text
    store = engine.tokenized(TEXTS, "passage")
    assert store is not None
    exact = Encoder.load(tiny_model).encode(TEXTS, "passage")
    assert (engine.forward(store, np.arange(3), "passage") * exact).sum(axis=1).min() > 0.999


def test_an_export_of_other_weights_than_it_says_is_left_out(
    tiny_model: str, graph: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = OpenVinoEngine.forward
    monkeypatch.setattr(OpenVinoEngine, "forward", lambda self, ids, mask: np.roll(true(self, ids, mask), 1, axis=1))
    engine = Engine(tiny_model, probes=TEXTS, encoding=Encoding(export=str(graph)))
    assert not isinstance(engine.whole().faster, OpenVinoEngine) and "its vectors are not those" in caplog.text


def test_one_that_is_named_at_the_command_must_be_there_and_one_of_the_run_need_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = str(tmp_path / "gone")
    recorded = make_config({"encoding": {"export": gone}}, where="test").model_dump(by_alias=True)
    monkeypatch.setattr("fieldtune.stages.record.recorded_config", lambda run: recorded)
    assert _settings(tmp_path, None, None).encoding.export == gone
    with pytest.raises(InputError, match="not an exported model"):
        _settings(tmp_path, None, [f"encoding.export={gone}"])
