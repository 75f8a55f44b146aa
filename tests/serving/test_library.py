"""What a server searches while its run is built anew: one version of index and model, until both change together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fieldtune.config import Index as Settings
from fieldtune.index import build_index
from fieldtune.models import resolve_model
from fieldtune.serving import library as serving_library
from fieldtune.serving.library import Library, Search
from fieldtune.types import Passage

DIM = 4


class Known:
    """Stands in for a model; counts how often one was loaded."""

    loaded = 0

    def __init__(self, model: str, **_: Any) -> None:
        Known.loaded += 1
        self.dimension = DIM

    def whole(self) -> None:
        pass

    def encode(self, _: str, texts: list[str]) -> np.ndarray:
        return np.eye(DIM, dtype=np.float32)[: len(texts)]


def build(run: Path, name: str) -> None:
    """An index of three passages that say which build they are from, by the model that is in the folder now."""
    passages = [Passage(f"p{row}", name, f"{name} {row}", source="a.txt") for row in range(3)]
    model = run / "model"
    fingerprint = resolve_model(str(model)).fingerprint
    build_index(Settings(), passages, np.eye(DIM, dtype=np.float32)[:3], run / "index", model_fingerprint=fingerprint,
                model=model, seed=1)  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    (model / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "Transformer"}]))
    (model / "config.json").write_text(json.dumps({"vocab_size": 9, "model_type": "bert"}))
    (model / "model.safetensors").write_bytes(b"old")
    build(tmp_path, "first")
    monkeypatch.setattr(serving_library, "Engine", Known)
    monkeypatch.setattr(Known, "loaded", 0)
    return tmp_path


def titles(library: Library) -> set[str]:
    kind = Search(3, "dense", "", library.volume.model)
    (hits,) = library.search(kind, [(np.eye(DIM, dtype=np.float32)[:1], "x")])
    return {hit.passage.title for hit in hits}


def test_the_same_model_s_new_index_is_taken_up_without_loading_anything(run: Path) -> None:
    library = Library(run, seed=1)
    build(run, "second")
    assert titles(library) == {"first"}  # until it is looked for
    assert library.refresh() and titles(library) == {"second"} and Known.loaded == 1


def test_another_model_s_index_changes_over_with_its_model_and_not_before(run: Path) -> None:
    library = Library(run, seed=1)
    before = library.volume
    (run / "model" / "model.safetensors").write_bytes(b"trained anew")
    assert library.refresh() and titles(library) == {"first"}  # a model without an index changes nothing yet
    build(run, "second")
    assert not library.refresh()
    assert titles(library) == {"first"} and not library.fault, "searches stopped while the new model was loaded"
    fresh = library.reopened()
    assert fresh is not None and library.volume is before and titles(library) == {"first"}
    library.take(fresh)
    assert titles(library) == {"second"} and library.volume.model != before.model and Known.loaded == 2
    assert library.refresh() and Known.loaded == 2


def test_an_index_of_a_model_that_is_not_there_is_refused(run: Path) -> None:
    library = Library(run, seed=1)
    meta = (run / "index" / "meta.json").read_text()
    (run / "index" / "meta.json").write_text(json.dumps(json.loads(meta) | {"model_fingerprint": "0" * 32}))
    assert not library.refresh() and library.reopened() is None
    assert "not the one that the index" in library.fault and Known.loaded == 1
    (run / "index" / "meta.json").write_text(meta)
    assert library.refresh() and not library.fault and titles(library) == {"first"}
