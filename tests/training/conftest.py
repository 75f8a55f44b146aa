"""Tiny random models of the architectures that embedding models are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def make_model(tiny_model: str, tmp_path: Path) -> Callable[..., str]:
    """A function from an architecture to a Sentence Transformers folder with a random transformer of it."""

    def made(architecture: str, *, layers: int = 2, seed: int = 0) -> str:
        return _model(tiny_model, architecture, tmp_path / f"{architecture}-{layers}-{seed}", layers, seed)

    return made


def _model(tokenizer_of: str, architecture: str, folder: Path, layers: int, seed: int) -> str:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of)
    torch.manual_seed(seed)
    _transformer(architecture, len(tokenizer), layers).save_pretrained(folder / "encoder")
    tokenizer.save_pretrained(folder / "encoder")
    modules = [Transformer(str(folder / "encoder"), max_seq_length=32), Pooling(32, "mean"), Normalize()]
    prompts = {"query": "query: ", "document": ""}
    SentenceTransformer(modules=modules, prompts=prompts, device="cpu").save(str(folder / "model"))
    return str(folder / "model")


def _transformer(architecture: str, words: int, layers: int) -> Any:
    import transformers as t

    shape: dict[str, Any] = {
        "vocab_size": words,
        "hidden_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    }
    if architecture == "bert":
        return t.BertModel(t.BertConfig(**shape))
    if architecture == "xlm-roberta":
        return t.XLMRobertaModel(t.XLMRobertaConfig(**shape))
    if architecture == "mpnet":
        return t.MPNetModel(t.MPNetConfig(**shape))
    if architecture == "modernbert":
        special = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
        return t.ModernBertModel(t.ModernBertConfig(**shape, **special, reference_compile=False))
    if architecture == "distilbert":
        return t.DistilBertModel(
            t.DistilBertConfig(
                vocab_size=words, dim=32, n_layers=layers, n_heads=2, hidden_dim=48, max_position_embeddings=64
            )
        )
    return t.Qwen3Model(t.Qwen3Config(**shape, num_key_value_heads=1, head_dim=16, bos_token_id=2, eos_token_id=3))
