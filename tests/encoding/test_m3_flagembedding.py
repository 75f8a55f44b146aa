"""A folder that was trained here, read by BGE-M3's own code: the three scores are the same.

FlagEmbedding wants an environment of its own. FIELDTUNE_FLAGEMBEDDING_PYTHON names its python:
python -m venv flag && flag/bin/pip install FlagEmbedding
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from fieldtune.encoding import Encoder
from fieldtune.encoding.m3 import WEIGHTS, encode_m3, m3_heads, three_scores

PYTHON = os.environ.get("FIELDTUNE_FLAGEMBEDDING_PYTHON", "")
QUERIES = ["what ends lease 3", "rent 7 tenant", "cough fever 12"]
PASSAGES = ["article 3 lease rent tenant", "rent rent 7", "fever cough asthma lease ends notice 3 4 5 6", "bond 12"]
THEIRS = """
import json, sys
import numpy as np
from FlagEmbedding import BGEM3FlagModel

folder, queries, passages, size = json.loads(sys.stdin.read())
model = BGEM3FlagModel(folder, use_fp16=False, devices="cpu", colbert_dim=size)
wanted = dict(return_dense=True, return_sparse=True, return_colbert_vecs=True, max_length=32)
q, p = (model.encode(texts, **wanted) for texts in (queries, passages))
score = model.compute_lexical_matching_score
words = [[float(score(a, b)) for b in p["lexical_weights"]] for a in q["lexical_weights"]]
multi = [[float(model.colbert_score(a, b)) for b in p["colbert_vecs"]] for a in q["colbert_vecs"]]
pairs = [(a, b) for a in queries for b in passages]
both = model.compute_score(pairs, max_query_length=32, max_passage_length=32, weights_for_different_modes=[1, 0.3, 1])
print("FOUND", json.dumps({
    "dense": (q["dense_vecs"] @ p["dense_vecs"].T).tolist(), "sparse": words, "multi": multi,
    "sum": np.reshape(both["colbert+sparse+dense"], (len(queries), len(passages))).tolist(),
}))
"""


@pytest.fixture
def folder(tiny_model: str, tmp_path: Path) -> Path:
    """A model of the XLM-RoBERTa family with the first token's state as its vector, as BGE-M3 is, trained a little."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import AutoTokenizer, XLMRobertaConfig, XLMRobertaModel

    from fieldtune.beir import load_beir, write_corpus
    from fieldtune.config import make_config
    from fieldtune.dataset import write_examples
    from fieldtune.training import tune
    from fieldtune.types import Example, Passage

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_special_tokens({"bos_token": "[CLS]", "eos_token": "[SEP]"})
    torch.manual_seed(2)
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=64, pad_token_id=0, bos_token_id=2, eos_token_id=3,
        initializer_range=0.4,  # or the first token's state would be about the same for all texts
    )  # fmt: skip
    XLMRobertaModel(config).save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    modules = [Transformer(str(tmp_path / "encoder"), max_seq_length=32), Pooling(32, "cls"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "base"))
    data = tmp_path / "data"
    (data / "qrels").mkdir(parents=True)
    passages = [Passage(f"p{row}", "", f"{text} {row}") for row, text in enumerate(PASSAGES * 6)]
    write_corpus(data / "corpus.jsonl", passages)
    rows = [{"_id": f"q{row}", "text": f"what {one.text}"} for row, one in enumerate(passages)]
    (data / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split, part in (("train", range(16)), ("dev", range(16, 24))):
        lines = "".join(f"q{row}\tp{row}\t1\n" for row in part)
        (data / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + lines)
    write_examples(data / "train.jsonl", [Example(rows[row]["text"], (passages[row].text,)) for row in range(16)])
    training = {
        "epochs": 2, "batch_size": 8, "learning_rate": 2e-3, "precision": "fp32", "matryoshka": [],
        "m3": {"train": "both", "size": 16},
    }  # fmt: skip
    settings = make_config({"model": {"base": str(tmp_path / "base")}, "training": training})
    encoder = Encoder.load(str(tmp_path / "base"), settings=settings.model, precision="fp32")
    tune(settings, load_beir(data), data / "train.jsonl", encoder, tmp_path / "run", tmp_path / "vectors")
    return tmp_path / "run" / "model"


@pytest.mark.skipif(not PYTHON, reason="FIELDTUNE_FLAGEMBEDDING_PYTHON names no python that has FlagEmbedding")
def test_flagembedding_gives_the_same_scores(folder: Path) -> None:
    asked = json.dumps([str(folder), QUERIES, PASSAGES, 16])
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [PYTHON, "-c", THEIRS], input=asked, capture_output=True, text=True, timeout=300, env=environment
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = next(line for line in ran.stdout.splitlines() if line.startswith("FOUND"))
    theirs = json.loads(found.removeprefix("FOUND"))
    encoder = Encoder.load(str(folder), precision="fp32")
    heads = m3_heads(encoder, folder)
    queries = encode_m3(encoder, heads, QUERIES, "query", form="float32")
    passages = encode_m3(encoder, heads, PASSAGES, "passage", form="float32")
    ours = three_scores(queries, passages, np.tile(np.arange(len(PASSAGES)), (len(QUERIES), 1)))
    for name, scores in zip(("dense", "sparse", "multi"), ours, strict=True):
        assert np.ptp(scores) > 0.01
        print(name, "largest difference", np.abs(scores - np.array(theirs[name])).max())
        np.testing.assert_allclose(scores, theirs[name], atol=2e-5, err_msg=name)
    # compute_score divides the weighted sum by the weights' sum.
    total = np.tensordot(WEIGHTS, ours.astype(np.float64), 1) / sum(WEIGHTS)
    np.testing.assert_allclose(total, theirs["sum"], atol=2e-5)
