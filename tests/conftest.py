"""A tiny model and a tiny field, made afresh: nothing is fetched, everything is quick."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_endpoint import Endpoint, completion

TOPICS = [
    "lease", "rent", "tenant", "deposit", "eviction", "contract", "breach", "damages", "notice", "landlord",
    "fever", "cough", "asthma", "insulin", "fracture", "bond", "equity", "dividend", "revenue", "audit",
]  # fmt: skip
VERBS = ["ends", "starts", "covers", "excludes", "requires", "allows"]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Sentence Transformers folder with two small random layers that knows the words of `tiny_beir`."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-model")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *TOPICS, *VERBS, "what", "when", "article", "query", ":"]
    words += [str(number) for number in range(60)]
    tokenizer = Tokenizer(models.WordPiece({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder / "encoder")
    fast.save_pretrained(folder / "encoder")
    parts = [Transformer(str(folder / "encoder"), max_seq_length=32), Pooling(32, "mean"), Normalize()]
    SentenceTransformer(modules=parts, prompts={"query": "query: ", "document": ""}, device="cpu").save(
        str(folder / "model")
    )
    return str(folder / "model")


@pytest.fixture(scope="session")
def spaced_model(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """`tiny_model` with a tokenizer to which white space is text, as to that of XLM-RoBERTa; a token is a character."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("spaced-model") / "model"
    shutil.copytree(tiny_model, folder)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁", "\n", "\t", "\u3000", *"?abcdefghilmnopqrstuvwy:合同"]
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=1, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(pieces[:4])
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)


@pytest.fixture
def tiny_beir(tmp_path: Path) -> Path:
    """A BEIR folder: 60 passages in 20 groups, 120 undivided queries that name their passage's number."""
    folder = tmp_path / "beir"
    rng = random.Random(1)
    rows, queries, qrels = [], [], ["query-id\tcorpus-id\tscore"]
    for number in range(60):
        topic = TOPICS[number % len(TOPICS)]
        words = [topic, rng.choice(VERBS), *rng.sample(TOPICS, 6)]
        rows.append({
            "_id": f"p{number}", "title": f"article {number}", "text": " ".join(words), "metadata": {"group": topic},
        })  # fmt: skip
        for other, ask in enumerate(("what", "when")):
            text = f"{ask} {rng.choice(VERBS)} {' '.join(rng.sample(words, 3))} {number}"
            queries.append({"_id": f"q{number}-{other}", "text": text})
            qrels.append(f"q{number}-{other}\tp{number}\t1")
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (folder / "qrels" / "all.tsv").write_text("\n".join(qrels) + "\n")
    return folder


@pytest.fixture
def divided(tiny_beir: Path) -> Path:
    """`tiny_beir` with train, dev and test by topic."""
    qrels = tiny_beir / "qrels"
    rows = (qrels / "all.tsv").read_text().splitlines()[1:]
    sides: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for row in rows:
        topic = int(row.split("\t")[1][1:]) % 20
        sides["test" if topic < 5 else "dev" if topic < 8 else "train"].append(row)
    for side, kept in sides.items():
        (qrels / f"{side}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(kept) + "\n")
    (qrels / "all.tsv").unlink()
    return tiny_beir


@pytest.fixture
def serve_llm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Endpoint]]:
    """Start endpoints on loopback: `speak(number, body)` is the text of the number-th answer."""
    monkeypatch.setattr("fieldtune.llm.pace._FIRST_PAUSE", 0.005)
    monkeypatch.setenv("FIELDTUNE_LLM_API_KEY", "sk-key")
    started: list[Endpoint] = []

    def start(speak: Callable[[int, dict[str, Any]], str]) -> Endpoint:
        started.append(Endpoint(lambda number, body: (200, {}, completion(speak(number, body)))))
        return started[-1]

    yield start
    for endpoint in started:
        endpoint.server.shutdown()
        endpoint.server.server_close()
