from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fieldtune.encoding import Encoder, agrees_closely
from fieldtune.encoding.single import SingleEncoder, agrees
from fieldtune.index import model as index_model

TEXTS = ["what ends the lease?", "rent", "", "  deposit 7, tenant! ", "lease " * 100, "ärzte 合同 ½"]


def test_it_gives_the_very_vectors_of_the_library(tiny_model: str) -> None:
    encoder, single = Encoder.load(tiny_model), SingleEncoder(Path(tiny_model))
    for side in ("query", "passage"):
        for text in TEXTS:
            np.testing.assert_array_equal(single.encode([text], side), encoder.encode([text], side))
    assert not np.array_equal(single.encode(["rent"], "query"), single.encode(["rent"], "passage"))
    assert agrees(Path(tiny_model), encoder)


def test_several_texts_together_have_the_vectors_that_each_has_alone(tiny_model: str) -> None:
    single = SingleEncoder(Path(tiny_model))
    texts = [*TEXTS, *(f"rent {number} lease" for number in range(40)), "deposit " * 300]
    together = single.encode(texts, "passage")
    alone = np.concatenate([single.encode([text], "passage") for text in texts])
    np.testing.assert_allclose((together * alone).sum(axis=1), 1, atol=1e-4)
    assert not np.allclose(together[1], together[4], atol=1e-2)  # neighbours do not look at each other
    np.testing.assert_allclose((together * Encoder.load(tiny_model).encode(texts, "passage")).sum(axis=1), 1, atol=1e-4)


@pytest.mark.e2e
def test_it_gives_the_very_vectors_of_a_real_model(tmp_path: Path) -> None:
    encoder = Encoder.load("builtin:all-MiniLM-L6-v2")
    encoder.model.save(str(tmp_path))
    assert agrees(tmp_path, Encoder.load(str(tmp_path)), ["breach of contract", "sugar in urine " * 30])


def test_another_model_than_the_folders_is_seen(tiny_model: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    encoder = Encoder.load(str(copy))
    assert agrees(copy, encoder)
    settings = json.loads((copy / "config_sentence_transformers.json").read_text())
    prompts = json.dumps(settings | {"prompts": {"query": "what ", "document": ""}})
    (copy / "config_sentence_transformers.json").write_text(prompts)
    assert not agrees(copy, encoder)


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("config.json", {"model_type": "roberta"}),
        ("config.json", {"hidden_act": "relu"}),
        ("config.json", {"num_hidden_layers": 3}),
        ("config.json", {"dtype": "bfloat16"}),
        ("1_Pooling/config.json", {"pooling_mode": "max"}),
    ],
)
def test_a_model_of_another_kind_is_left_to_the_library(
    path: str, change: dict[str, object], tiny_model: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    encoder = Encoder.load(str(copy))
    (copy / path).write_text(json.dumps(json.loads((copy / path).read_text()) | change))
    assert not agrees(copy, encoder)


@pytest.mark.parametrize(
    ("modes", "taken"),
    [
        ({"mean_tokens": True}, True),
        ({"cls_token": False, "mean_tokens": True, "max_tokens": False, "mean_sqrt_len_tokens": False}, True),
        ({"cls_token": True, "mean_tokens": False, "max_tokens": False}, True),
        ({"mean_tokens": False, "max_tokens": True}, False),
        ({"cls_token": True, "mean_tokens": True}, False),
    ],
)
@pytest.mark.parametrize("prompt", [True, False])
def test_poolings_are_read_as_versions_before_6_wrote_them(
    modes: dict[str, bool], taken: bool, prompt: bool, tiny_model: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    config: dict[str, object] = {f"pooling_mode_{mode}": used for mode, used in modes.items()}
    if not prompt:
        config["include_prompt"] = False
    (copy / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32} | config))
    encoder = Encoder.load(str(copy))
    assert agrees(copy, encoder) == agrees_closely(copy, encoder) == (taken and prompt)


def test_it_loads_neither_transformers_nor_its_trainers(tiny_model: str) -> None:
    code = (
        "import sys, pathlib; from fieldtune.encoding.single import SingleEncoder\n"
        "SingleEncoder(pathlib.Path(sys.argv[1])).encode(['rent'], 'query')\n"
        "print(*sorted({'transformers', 'sentence_transformers', 'sklearn', 'scipy', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, tiny_model], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_search_that_goes_the_slow_way_says_so_and_what_it_costs(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(folder: Path) -> None:
        raise KeyError("embeddings.word_embeddings.weight\nin line 3")

    monkeypatch.setattr(index_model, "SingleEncoder", broken)
    caplog.set_level("WARNING")  # also forgets what a converter made the logger believe of its level
    found = index_model.IndexModel(tiny_model, None, once=True).encoder({"single": True})
    assert isinstance(found, Encoder)
    (said,) = [row for row in caplog.records if row.name == index_model.__name__]
    assert said.levelname == "WARNING"
    assert "word_embeddings" in said.getMessage() and "seconds more" in said.getMessage()
    assert "fieldtune index" in said.getMessage()
