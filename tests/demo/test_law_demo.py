from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from law_cases import database

from fieldtune.beir import load_beir, read_queries
from fieldtune.config import make_config, merge
from fieldtune.demo.law import prepare_law, sample_articles
from fieldtune.pipeline import run_pipeline
from fieldtune.types import Passage
from fieldtune.workspace import read_json

LAWS = ["租赁法", "劳动法", "交通法", "继承法", "食品法", "专利法"]
NUMERALS = "一二三四五六七八九"
CHARACTERS = (
    "出租人应当修缮房屋工资按月支付给劳动者机动车行经横道减速让行遗产由配偶子女父母继承产经营许可发明创造授予"
    "权利义务合同责任赔偿损失期限届满通知登记机关罚款拘留申请审查公告异议撤销变更终止解除协商调解仲裁诉讼"
)


def number(place: int) -> str:
    tens, ones = divmod(place, 10)
    return f"第{(NUMERALS[tens - 1] if tens > 1 else '') + '十' if tens else ''}{NUMERALS[ones - 1] if ones else ''}条"


@pytest.fixture
def laws(tmp_path: Path) -> Path:
    """Six laws of forty articles, each of sentences that no other has, and a repealed text of the first."""
    rng = random.Random(3)
    known = [(f"law{i}", f"中华人民共和国{name}", "2020-01-01", "现行有效") for i, name in enumerate(LAWS)]
    rows: list[tuple[str, str | None, str | None, str, str | None]] = []
    for key, *_ in known:
        for place in range(1, 41):
            sentences = ["".join(rng.sample(CHARACTERS, 24)) + "。" for _ in range(4)]
            rows.append((key, "第一章 总则", None, number(place), "".join(sentences)))
    old = [("old", "第一章 总则", None, row[3], row[4]) for row in rows[:40]]
    return database(
        tmp_path / "laws.db", [*known, ("old", "中华人民共和国租赁法", "2010-01-01", "历史版本")], rows + old
    )


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    path = tmp_path / "asked.jsonl"
    kinds = ["colloquial", "case", "keyword", "formal"]
    rows = [
        {
            "_id": f"ask-{i}",
            "text": f"{CHARACTERS[3 * i : 3 * i + 8]}怎么办",
            "kind": kinds[i % 4],
            "articles": [{"law": f"中华人民共和国{LAWS[i % 6]}", "article": number(i + 1)}],
        }
        for i in range(24)
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def chinese_model(tmp_path: Path) -> str:
    """Two small random layers that know the characters of the laws."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        *sorted(set(CHARACTERS + NUMERALS + "".join(LAWS) + "中华人民共和国第条怎么办")),
    ]
    tokenizer = Tokenizer(models.WordPiece({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
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
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(tmp_path / "encoder")
    fast.save_pretrained(tmp_path / "encoder")
    parts = [Transformer(str(tmp_path / "encoder"), max_seq_length=64), Pooling(32, "mean"), Normalize()]
    SentenceTransformer(modules=parts, device="cpu").save(str(tmp_path / "model"))
    return str(tmp_path / "model")


def test_from_the_database_to_figures_on_questions_that_training_knows_nothing_of(
    laws: Path, asked: Path, chinese_model: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    prepared = prepare_law(out, quick=True, database=laws, questions=asked)
    small = {
        "model": {"base": chinese_model, "max_tokens": 64},
        "corpus": {"max_tokens": 64, "overlap_tokens": 0},
        "training": {"batch_size": 8, "precision": "fp32", "evaluations": 1},
        "evaluation": {"bootstrap": 100, "permutations": 100},
    }
    config = make_config(merge(prepared.model_dump(by_alias=True), small))
    results = {result.stage: result for result in run_pipeline(config)}
    assert results["corpus"].counts["passages"] == 280
    assert results["evaluation"].counts["queries"] == 24

    data = load_beir(out / "data")
    test = data.positives("test")
    held = {passage for found in test.values() for passage in found}
    # Each article that answers, and for the six of 租赁法 the old text, which says the same.
    assert len(held) == 24 + 4
    assert {data.queries[query].style for query in test} == {"colloquial", "case", "keyword", "formal"}
    seen = {passage for side in ("train", "dev") for found in data.positives(side).values() for passage in found}
    assert seen
    assert not seen & held
    made = read_queries(out / "queries" / "queries.jsonl")
    assert len(made) > 24 + len(data.positives("train")) + len(data.positives("dev"))  # some knew an answer and went
    gone = results["dataset"].dropped["near-duplicate of a passage labelled on another side"]
    assert gone >= len(held) / 2
    examples = [json.loads(line) for line in (out / "data" / "train.jsonl").read_text("utf-8").splitlines()]
    answers = {data.passages[key].content for key in held}
    assert not any(answers & {*row["pos"], *row["neg"]} for row in examples)
    # The account of how the training queries were made is kept, and does not call the test set made.
    assert results["queries"].counts["test"] == 24
    assert read_json(out / "queries" / "meta.json")["made_by"] == "structure"
    assert not any("test set is made" in note for note in results["queries"].notes)


def test_preparing_again_changes_nothing_that_a_finished_stage_rests_on(
    laws: Path, asked: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    first = prepare_law(out, database=laws, questions=asked)
    before = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    assert prepare_law(out, database=laws, questions=asked) == first
    assert {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()} == before


def test_the_quick_form_keeps_every_answer_and_draws_the_others() -> None:
    passages = {f"p{place}": Passage(f"p{place}", f"法 第{place}条", "文字", group="法") for place in range(100)}
    kept = sample_articles(passages, ["p7", "p93"], 40)
    assert len(kept) == 40
    assert {"p7", "p93"} <= kept.keys()
    assert list(kept) == [key for key in passages if key in kept]
    assert kept == sample_articles(dict(reversed(passages.items())), ["p93", "p7"], 40)
    assert sample_articles(passages, ["p7", "p8", "p9"], 2).keys() == {"p7", "p8", "p9"}
    assert sample_articles(passages, ["p7"], 1_000) == passages
