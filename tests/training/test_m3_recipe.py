"""The ready recipe in small: two processes, DeepSpeed, a teacher."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from test_distributed import launched

from fieldtune.config import load_config
from fieldtune.encoding.m3 import has_heads
from fieldtune.training.m3.fitting import require_m3

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def teacher(tiny_model: str, tmp_path: Path) -> str:
    """A random cross-encoder that knows the words of the tiny field."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.model_max_length = 64
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16,
        max_position_embeddings=64, num_labels=1,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    return str(tmp_path / "teacher")


def test_the_recipe_is_that_of_the_public_example() -> None:
    config = load_config(EXAMPLES / "law" / "m3.toml")
    training = config.training
    require_m3(config)  # its settings go together
    assert (training.query_tokens, training.passage_tokens, training.epochs) == (512, 2048, 5)
    assert (training.learning_rate, training.precision, training.scale) == (1e-5, "bf16", 50)
    assert training.gradient_cache and training.gradient_checkpointing and training.similarity == "cosine"
    assert config.teacher.model and training.m3.distillation == "m3_kd_loss" and training.m3.self_distillation
    # Groups of a positive and seven others, with a teacher or without, and as many mined to draw them from.
    assert training.hard_negatives == training.scored_passages == 7 <= config.negatives.per_query
    assert training.m3.in_batch and config.model.base == "BAAI/bge-m3"


def test_in_small_it_runs_on_two_processes(tiny_model: str, tiny_beir: Path, teacher: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    small = [
        f"out={out}", "documents.paths=[]", f"queries.from={tiny_beir}", "queries.test=", f"model.base={tiny_model}",
        "model.max_tokens=32", f"teacher.model={teacher}", "teacher.max_tokens=0", "teacher.per_band=1",
        "training.batch_size=16", "training.hard_negatives=2", "training.query_tokens=16",
        "training.passage_tokens=32", "training.epochs=1", "training.evaluations=1", "negatives.per_query=2",
        "training.m3.size=16",
    ]  # fmt: skip
    if importlib.util.find_spec("deepspeed") is not None:
        small.append(f"training.deepspeed={EXAMPLES / 'cluster' / 'zero2.json'}")
    words = [word for pair in small for word in ("--set", pair)]
    done = launched("-m", "fieldtune", "run", str(EXAMPLES / "law" / "m3.toml"), "--until", "training", *words)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads((out / "stages" / "training.json").read_text())["result"]
    assert result["details"]["loss"] == "kl" and result["details"]["m3"]["distillation"] == "m3_kd_loss"
    assert any("2 processes" in note for note in result["notes"])
    log = [json.loads(line) for line in (out / "training" / "log.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in log if "loss" in row]
    assert losses and all(0 < loss < 1e3 for loss in losses)
    assert any(row.get("dev_loss", 0) > 0 for row in log)  # the loss on dev, beside the measure
    assert has_heads(out / "model")
