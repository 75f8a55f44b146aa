from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.encoding import Encoder, SingleEncoder, agrees, agrees_closely
from fieldtune.encoding.numpy_bert import NumpyEncoder, gelu
from fieldtune.errors import ModelError
from fieldtune.index import model as index_model

TEXTS = ["what ends the lease?", "rent", "", "  deposit 7, tenant! ", "lease " * 100, "ärzte 合同 ½"]


@pytest.fixture(scope="module")
def roberta(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose places begin behind the number of its padding token, and count for much; pooled by its first
    token."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import AutoTokenizer, XLMRobertaConfig, XLMRobertaModel

    folder = tmp_path_factory.mktemp("roberta")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    torch.manual_seed(1)
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=40, pad_token_id=1, type_vocab_size=1,
    )  # fmt: skip
    model = XLMRobertaModel(config)
    with torch.no_grad():
        model.embeddings.position_embeddings.weight *= 50
    model.save_pretrained(folder / "encoder")
    tokenizer.pad_token_id = 1  # what the tiny tokenizer calls unknown: that token has no place of its own
    tokenizer.save_pretrained(folder / "encoder")
    parts = [Transformer(str(folder / "encoder"), max_seq_length=38), Pooling(32, "cls")]
    SentenceTransformer(modules=parts, device="cpu").save(str(folder / "model"))
    return folder / "model"


def same(folder: Path, encoder: Encoder) -> None:
    alone = NumpyEncoder(folder)
    for side in ("query", "passage"):
        for text in TEXTS:
            np.testing.assert_allclose(alone.encode([text], side), encoder.encode([text], side), atol=2e-6)
        assert alone.encode(TEXTS, side).shape == (len(TEXTS), 32)


def test_vectors_are_those_of_the_library_in_float32(tiny_model: str) -> None:
    same(Path(tiny_model), Encoder.load(tiny_model, precision="fp32"))
    alone = NumpyEncoder(Path(tiny_model))
    assert not np.allclose(alone.encode(["rent"], "query"), alone.encode(["rent"], "passage"), atol=1e-2)
    assert alone.encode([], "query").shape == (0, 32)
    assert agrees_closely(Path(tiny_model), Encoder.load(tiny_model))  # in bf16 where the hardware has it


def test_roberta_counts_its_places_from_behind_its_padding(roberta: Path) -> None:
    same(roberta, Encoder.load(str(roberta), precision="fp32"))
    assert NumpyEncoder(roberta).places([2, 7, 1, 7, 3]).tolist() == [2, 3, 1, 4, 5]
    assert agrees_closely(roberta, Encoder.load(str(roberta)))
    assert agrees(roberta, Encoder.load(str(roberta)))
    both = SingleEncoder(roberta).encode(TEXTS, "query") * NumpyEncoder(roberta).encode(TEXTS, "query")
    np.testing.assert_allclose(both.sum(axis=1), 1, atol=1e-3)


@pytest.mark.e2e
def test_vectors_of_a_real_model(tmp_path: Path) -> None:
    Encoder.load("builtin:all-MiniLM-L6-v2").model.save(str(tmp_path))
    texts = ["breach of contract", "sugar in urine " * 30, "合同", "E11.9 " * 300]
    exact = Encoder.load(str(tmp_path), precision="fp32").encode(texts, "query")
    np.testing.assert_allclose(NumpyEncoder(tmp_path).encode(texts, "query"), exact, atol=2e-6)
    assert agrees_closely(tmp_path, Encoder.load(str(tmp_path)), texts)


@given(st.lists(st.floats(-40, 40, width=32), min_size=1, max_size=50))
def test_gelu_is_that_of_the_normal_distribution(values: list[float]) -> None:
    from scipy.stats import norm

    array = np.array(values, np.float32)
    np.testing.assert_allclose(gelu(array), array * norm.cdf(array.astype(np.float64)), atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("config.json", {"model_type": "mpnet"}),
        ("config.json", {"hidden_act": "relu"}),
        ("config.json", {"num_hidden_layers": 3}),
        ("1_Pooling/config.json", {"pooling_mode": "max"}),
        ("config_sentence_transformers.json", {"prompts": {"query": "when ", "document": ""}}),
    ],
)
def test_another_model_than_the_folders_is_seen(
    path: str, change: dict[str, object], tiny_model: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    encoder = Encoder.load(str(copy))
    assert agrees_closely(copy, encoder)
    (copy / path).write_text(json.dumps(json.loads((copy / path).read_text()) | change))
    assert not agrees_closely(copy, encoder)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "nothing", "damaged"])
def test_numbers_that_numpy_does_not_know_are_left_to_the_library(dtype: str, tiny_model: str, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    encoder = Encoder.load(str(copy))
    weights = copy / "model.safetensors"
    if dtype == "nothing":
        weights.unlink()
    elif dtype == "damaged":
        weights.write_bytes(weights.read_bytes()[:2_000])
    else:
        kind = getattr(torch, dtype)
        save_file({name: value.to(kind) for name, value in load_file(str(weights)).items()}, str(weights))
    assert agrees_closely(copy, encoder) == (dtype == "float16")


def test_numbers_that_are_none_are_said(tiny_model: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    weights = load_file(str(copy / "model.safetensors"))
    weights["encoder.layer.1.output.dense.bias"][3] = float("nan")
    save_file(weights, str(copy / "model.safetensors"))
    with pytest.raises(ModelError, match="NaN"):
        NumpyEncoder(copy).encode(["rent"], "query")


def test_queries_that_are_too_much_for_it_go_through_torch(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    meta = {"numpy": True, "single": True}
    short, long = ["rent"], ["rent " * 30]
    most = NumpyEncoder(Path(tiny_model)).work(short, "query")
    assert NumpyEncoder(Path(tiny_model)).work(long, "query") > 5 * most
    monkeypatch.setattr(index_model, "_WORTH", most)
    model = index_model.IndexModel(tiny_model, None, once=True)
    assert isinstance(model.encoder(meta, short), NumpyEncoder)
    assert isinstance(model.encoder(meta, long), SingleEncoder)
    assert isinstance(index_model.IndexModel(tiny_model, None, once=True).encoder(meta, long), SingleEncoder)
    whole = index_model.IndexModel(tiny_model, None, once=True).encoder({"numpy": True}, long)
    assert isinstance(whole, Encoder)
    assert isinstance(index_model.IndexModel(tiny_model, None).encoder(meta, short), Encoder)  # a service's


def test_it_loads_neither_torch_nor_the_library(tiny_model: str) -> None:
    code = (
        "import sys, pathlib; from fieldtune.encoding.numpy_bert import NumpyEncoder\n"
        "NumpyEncoder(pathlib.Path(sys.argv[1])).encode(['rent'], 'query')\n"
        "print(*sorted({'torch', 'transformers', 'sentence_transformers', 'scipy', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, tiny_model], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
