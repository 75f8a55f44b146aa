from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def tiny_reranker(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A cross-encoder folder with a random head over the tiny encoder: no judgement, but a real one to load."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("tiny-reranker")
    config = BertConfig.from_pretrained(tiny_model, num_labels=1)
    config.initializer_range = 0.5
    BertForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return str(folder)
