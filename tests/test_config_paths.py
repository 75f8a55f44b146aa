"""Paths in a config file count from the file's folder, those typed on the command line from where they were typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fieldtune.config import Config, load_config, parse_overrides

FILES = ("queries.test", "queries.examples", "queries.corpus", "training.replay", "training.deepspeed",
         "encoding.export", "serving.keys", "queries.source", "llm.local")  # fmt: skip
MODELS = ("model.base", "negatives.check", "teacher.model", "training.guide", "training.vector_teacher",
          "evaluation.rerank", "index.reranker", "serving.rerank")  # fmt: skip


def value(config: Config, name: str) -> Any:
    section, key = name.split(".")
    return getattr(getattr(config, section), key)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Of the file, and the current one."""
    file, here = tmp_path / "file", tmp_path / "here"
    file.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    return file, here


def written(folder: Path, name: str, text: str) -> Path:
    section, key = name.split(".")
    path = folder / "fieldtune.toml"
    path.write_text(f'[{section}]\n{key} = "{text}"\n')
    return path


@pytest.mark.parametrize("name", [*FILES, *MODELS])
def test_a_relative_path_is_made_absolute_from_where_it_was_given(folders: tuple[Path, Path], name: str) -> None:
    file, here = folders
    path = written(file, name, "./x")
    assert value(load_config(path), name) == str(file / "x")
    assert value(load_config(path, parse_overrides([f"{name}=./y"])), name) == str(here / "y")


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_a_hub_keeps_its_name(folders: tuple[Path, Path], name: str) -> None:
    assert value(load_config(written(folders[0], name, "owner/model")), name) == "owner/model"


@pytest.mark.parametrize("name", ["documents.paths", "evaluation.judgements", "evaluation.general_data"])
def test_lists_of_paths_too(folders: tuple[Path, Path], name: str) -> None:
    section, key = name.split(".")
    path = folders[0] / "fieldtune.toml"
    path.write_text(f'[{section}]\n{key} = ["x", "/y"]\n')
    assert value(load_config(path), name) == (str(folders[0] / "x"), "/y")


def test_a_base_folder_that_is_there_may_be_typed_without_a_dot(folders: tuple[Path, Path]) -> None:
    path = written(folders[0], "model.base", "owner/model")
    (folders[1] / "mine").mkdir()
    assert load_config(path, parse_overrides(["model.base=mine"])).model.base == str(folders[1] / "mine")
    assert load_config(path, parse_overrides(["model.base=other"])).model.base == "other"
