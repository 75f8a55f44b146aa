"""Queries made from documents alone: what each style finds, and that the same documents give the same queries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fieldtune.beir import load_beir, write_corpus
from fieldtune.config import Config, Queries
from fieldtune.errors import InputError
from fieldtune.queries import gather_queries
from fieldtune.queries.definitions import defined_terms
from fieldtune.queries.han_phrases import HanPhrases
from fieldtune.queries.keywords import Keywords
from fieldtune.queries.references import reference_drafts, reference_targets
from fieldtune.queries.sampling import draw_passages
from fieldtune.queries.structure import structure_queries
from fieldtune.queries.tables import table_captions, table_questions
from fieldtune.queries.wording import language_of, read_title, sentences
from fieldtune.types import Passage, Query

ACT = {
    "Section 3 Licences": "No firm may take deposits without a licence of the Authority. The Authority grants a licence"
    " when the firm holds the initial capital and its managers are of good repute. A licence names the services that"
    " the firm may offer to its customers.",
    "Section 4 Definitions": '"Deposit" means a sum of money paid on terms under which it is repaid with or without'
    " interest. A branch is a place of business which has no legal personality of its own.",
    "Section 9 Penalties": "A firm that takes deposits in breach of section 3 of this Act is liable to a fine not"
    " exceeding one million francs. The Authority publishes each fine on its pages within ten working days.",
    "Section 12 Liquidity": "A firm holds liquid assets against the outflows of thirty days under stress. The Authority"
    " may ask a firm to hold more liquid assets where its funding is concentrated on few lenders. Liquid assets are"
    " reported each month.",
}
LAW = {
    "第二条": "本法所称不可抗力，是指不能预见、不能避免且不能克服的客观情况。",
    "第七条": "承租人应当按照约定的期限支付租金。承租人逾期支付租金的，出租人可以请求承租人在合理期限内支付；"
    "承租人在合理期限内仍不支付的，出租人可以解除租赁合同。",
    "第二十条": "承租人违反本法第七条规定，经催告后仍拒绝支付租金的，出租人有权没收押金并收回房屋。",
}
PASSAGES = {
    **{f"act-{n}": Passage(f"act-{n}", f"Banking Act {t} (Part I)", x, "act") for n, (t, x) in enumerate(ACT.items())},
    **{f"law-{n}": Passage(f"law-{n}", f"租赁法 {t}（第一章 总则）", x, "law") for n, (t, x) in enumerate(LAW.items())},
}


def made(count: int = 8, passages: dict[str, Passage] = PASSAGES) -> dict[str, tuple[Query, dict[str, int]]]:
    found = structure_queries(Queries(per_passage=count), passages, 13)
    return {query.text: (query, found.qrels["all"][query.id]) for query in found.queries.values()}


def styled(style: str) -> dict[str, dict[str, int]]:
    return {text: row for text, (query, row) in made().items() if query.style == style}


def test_definitions_are_asked_for_in_their_language():
    asked = styled("definition")
    assert [row for text, row in asked.items() if "Deposit" in text] == [{"act-1": 1}]
    assert [row for text, row in asked.items() if "不可抗力" in text] == [{"law-0": 1}]
    assert not any("本法" in text or "means" in text for text in asked)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("“Business Day” shall mean a day on which banks are open.", ["Business Day"]),
        ("The term net debt refers to borrowings less cash.", ["net debt"]),
        ("Asthma is a disease of the airways in which they narrow and swell.", ["Asthma"]),
        ("This is a disease of the airways in which they narrow and swell.", []),
        ("It means that the contract ends. He refers to the table above.", []),
        ("本条例所称的发明创造是指发明、实用新型和外观设计。", ["发明创造"]),
        ("（一）计算机程序，是指可以由计算机执行的代码化指令序列；", ["计算机程序"]),
        ("为了制止正在进行的不法侵害，对不法侵害人造成损害的，属于正当防卫。", ["正当防卫"]),
        ("前款所称其他情形是指下列情形。", []),
    ],
)
def test_defined_terms(text, terms):
    assert list(dict.fromkeys(defined_terms(list(sentences(text)), language_of(text)))) == terms


def test_a_reference_asks_for_the_section_it_names_without_naming_it():
    asked = styled("reference")
    english = next(text for text in asked if text.startswith("A firm"))
    assert asked[english] == {"act-0": 1, "act-2": 1}
    assert "section" not in english and "deposits" in english
    chinese = next(text for text in asked if "押金" in text)
    assert asked[chinese] == {"law-1": 1, "law-2": 1}
    assert "第七条" not in chinese


def test_a_reference_to_another_law_is_none_to_ours():
    text = "当事人依照民法典第七条规定请求解除合同并要求赔偿损失的，人民法院应当予以支持。"
    passage = Passage("x", "租赁法 第三十条", text, "law")
    targets = reference_targets(PASSAGES)
    assert ("law", "第七条") in targets
    assert not list(reference_drafts("x", passage, list(sentences(text)), targets, "zh"))


def test_a_cropped_sentence_knows_where_it_stood():
    crops = [query for query, _ in made().values() if query.style == "crop"]
    assert len(crops) >= 3
    for query in crops:
        crop = query.metadata["crop"]
        start, end = crop["span"]
        passage = PASSAGES[crop["passage"]]
        assert passage.text[start:end] == query.text
        assert len(passage.text) >= 2 * len(query.text)


def test_titles_name_document_and_subject_but_no_number():
    asked = styled("title")
    assert asked["Licences"] == {"act-0": 1}
    rent = next(text for text, row in asked.items() if row == {"law-1": 1})
    assert rent.startswith("租赁法 ") and "第" not in rent


def test_tables_are_asked_for_a_figure():
    table = "|  | 2021 | 2020 |\n| --- | --- | --- |\n| Interest expense (1) | 12 | 9 |\n| Total | 3 | 4 |"
    asked = [question for turn in range(10) for question in table_questions(table, "ACME 10-K", "en", turn)]
    assert len(asked) == 10 and all("nterest expense" in question and "(1)" not in question for question in asked)
    assert "What was the interest expense in 2021 (ACME 10-K)?" in asked
    assert "What was the change in interest expense between 2020 and 2021 (ACME 10-K)?" in asked
    assert not any("Total" in question for question in asked)
    chinese = "|  | 2021年 |\n| --- | --- |\n| 利息支出净额合计 | 12 |"
    assert list(table_questions(chinese, "某公司", "zh")) == ["某公司2021年利息支出净额合计是多少？"]


@pytest.mark.parametrize(
    ("line", "caption"),
    [
        ("The following table sets forth stock-based compensation expense by function (in thousands):",
         "stock-based compensation expense by function"),
        ("NOTE 7—ACCOUNTS RECEIVABLE FROM CUSTOMERS", "accounts receivable from customers"),
        ("The components of accrued liabilities are as follows (in millions):", "accrued liabilities"),
        ("表3 主要会计数据和财务指标", "主要会计数据和财务指标"),
        ("Revenue grew by a tenth in the year, which the board welcomes.", ""),
    ],
)  # fmt: skip
def test_tables_are_asked_for_by_their_captions(line, caption):
    text = f"| a | b |\n| --- | --- |\n| c | 1 |\n\n{line}\n"
    assert list(table_captions(text, language_of(line))) == ([caption] if caption else [])
    assert not list(table_captions(line, language_of(line)))  # without a table it is no caption


def test_key_phrases_are_what_sets_a_passage_apart():
    texts = [f"The annual report of the company covers topic number {n}." for n in range(30)]
    special = "The annual report of the company covers pension obligations and hedge accounting."
    words = Keywords([*texts, special])
    phrases = words.phrases(special, 2)
    assert "pension obligations" in " ".join(phrases) and "annual report" not in phrases


def test_chinese_chunks_end_at_function_words():
    assert HanPhrases().chunks("承租人应当按照约定的期限支付租金，并由出租人开具收据。") == [
        "承租人",
        "约定",
        "期限支付租金",
        "出租人开具收据",
    ]
    assert "有期徒刑" in HanPhrases().chunks("处三年以上十年以下有期徒刑，并处罚金。")


@pytest.mark.parametrize(
    ("title", "taken"),
    [
        ("租赁法 第五十条之一（第二章 自然人）", ("租赁法", "", "第五十条之一")),
        ("ACME 2022 10-K > Item 7 > Liquidity", ("ACME 2022 10-K", "Liquidity", "")),
        ("ACME 2022 10-K > Item 7. MD&A", ("ACME 2022 10-K", "MD&A", "Item 7")),
        ("Banking Act Section 12 Capital (Part II)", ("Banking Act", "Capital", "Section 12")),
        ("Lease > 4.2 Late payment", ("Lease", "Late payment", "4.2")),
        ("Asthma", ("Asthma", "", "")),
        ("", ("", "", "")),
    ],
)
def test_titles_are_taken_apart(title, taken):
    read = read_title(title)
    assert (read.document, read.caption, read.number) == taken


def test_passages_are_drawn_evenly_over_documents():
    passages = {f"big-{n}": Passage(f"big-{n}", "", "x", "big") for n in range(90)}
    passages |= {f"small-{n}": Passage(f"small-{n}", "", "x", f"small-{n % 3}") for n in range(9)}
    drawn = draw_passages(passages, 12, 13)
    groups = [passages[key].group for key in drawn]
    assert {group: groups.count(group) for group in groups} == {"big": 3, "small-0": 3, "small-1": 3, "small-2": 3}
    assert drawn == draw_passages(dict(reversed(passages.items())), 12, 13) != draw_passages(passages, 12, 14)


def test_no_more_than_asked_for_and_no_general_query():
    few = made(1)
    assert len(few) <= len(PASSAGES)
    same = {
        f"p{n}": Passage(f"p{n}", "", "This Act is a law of the land and nothing else at all.", "x") for n in range(5)
    }
    with pytest.raises(InputError, match="no query tells the 5 passages apart"):
        structure_queries(Queries(), same, 13)


def test_the_stage_says_that_the_test_set_is_made_from_the_documents(tmp_path):
    write_corpus(tmp_path / "corpus.jsonl", PASSAGES.values())
    result = gather_queries(Config(), PASSAGES, tmp_path, tmp_path / "cache")
    assert any("test set is made the same way" in note for note in result.notes)
    assert json.loads((tmp_path / "meta.json").read_text())["made_by"] == "structure"
    data = load_beir(tmp_path)
    assert len(data.queries) == result.counts["queries"] == len(data.qrels["all"]) > 8
    assert sum(count for name, count in result.counts.items() if name.startswith("style ")) == len(data.queries)


def test_another_process_makes_the_same_bytes(tmp_path):
    write_corpus(tmp_path / "corpus.jsonl", PASSAGES.values())
    code = (
        "import sys; from pathlib import Path; from fieldtune.beir import read_corpus\n"
        "from fieldtune.config import Config; from fieldtune.queries import gather_queries\n"
        "folder = Path(sys.argv[1]); passages = read_corpus(folder / 'corpus.jsonl')\n"
        "gather_queries(Config(), passages, Path(sys.argv[2]), folder)"
    )
    for seed in ("1", "2"):
        out = tmp_path / seed
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path), str(out)],
            env={"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin"},
            check=True,
            capture_output=True,
        )
    for name in ("queries.jsonl", "qrels/all.tsv", "meta.json"):
        assert Path(tmp_path / "1" / name).read_bytes() == Path(tmp_path / "2" / name).read_bytes()
