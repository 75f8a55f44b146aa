from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.documents.clean import dehyphenate, join_lines, markdown_table, tidy, title_from_name
from fieldtune.documents.headings import heading_level
from fieldtune.documents.words import restorer, word_loss


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("第一编　总　则", 1),
        ("第三分编 准合同", 2),
        ("第一章　基本规定", 2),
        ("第二节 监护", 3),
        ("第五十条", 4),
        ("第五十条【正当防卫】", 4),
        ("附　则", 2),
        ("一、总体要求", 3),
        ("PART II", 1),
        ("ANNEX I", 1),
        ("Item 7. Management’s Discussion and Analysis of Financial Condition", 2),
        ("ITEM 1A. RISK FACTORS", 2),
        ("CHAPTER 3 Transfers", 2),
        ("Article 5", 3),
        ("Article 17 Right to erasure (‘right to be forgotten’)", 3),
        ("NOTE 16. Commitments and Contingencies", 3),
        ("Section 4.2", 4),
        ("§ 12", 4),
        ("Rule 3", 4),
        ("1. Definitions", 3),
        ("2.1 Grant of Licence", 4),
    ],
)
def test_headings(line: str, level: int) -> None:
    assert heading_level(line) == level


@pytest.mark.parametrize(
    "line",
    [
        "第五十条　民事主体依法享有收养的权利。",
        "第二章所称的合同，是指本法规定的合同",
        "第二条规定的情形",
        "Section 4.2 of the Agreement provides that the fee is due.",
        "Article 5 shall not apply where the controller is established in the Union.",
        "Item 7 describes what happened",
        "§ 12 Whoever takes the thing of another shall be punished by a fine.",
        "1. The Supplier shall deliver the goods within thirty days.",
        "2022 2021 2020",
        "12 Months",
        "Note 16, which follows, says more",
        "Part of the agreement",
        "",
    ],
)
def test_text_that_is_no_heading(line: str) -> None:
    assert heading_level(line) is None


def test_hyphens_at_line_ends() -> None:
    assert dehyphenate("defen-\ndant") == "defendant"
    assert dehyphenate("soft\u00ad\nware") == "software"
    assert dehyphenate("COVID-\n19") == "COVID-19"
    assert dehyphenate("brand-\nname", frozenset({"brand-name"})) == "brand-name"
    assert dehyphenate("over-\nall", frozenset({"overall"})) == "overall"
    assert join_lines(["民法调整平等", "主体之间的关系。"]) == "民法调整平等主体之间的关系。"


@given(st.text())
def test_tidy_is_idempotent_and_on_one_line(text: str) -> None:
    once = tidy(text)
    assert tidy(once) == once
    assert "\n" not in once and "  " not in once


@given(st.lists(st.lists(st.text("ab| \n", max_size=5), max_size=4), max_size=4))
def test_every_table_row_has_as_many_cells(rows: list[list[str]]) -> None:
    lines = markdown_table(rows).splitlines()
    assert len({line.replace("\\|", "").count("|") for line in lines}) <= 1


def test_titles_from_names() -> None:
    assert title_from_name("sub/annual_report-2022.v2.pdf") == "annual report-2022.v2"
    assert title_from_name("two\nlines.txt") == "two lines"
    assert title_from_name("c.jsonl.gz") == "c"


def test_word_loss_counts_each_missing_word_once() -> None:
    total, missing = word_loss("the fee the fee\r\nof $ 5,363", ["the fee of", "| $ 5,363 |"])
    assert (total, missing) == (7, ["the", "fee"])
    assert word_loss("Note 16 and a defen-\r\ndant 甲方", ["Note16 and a defendant", "甲方"])[1] == []


def test_typographic_marks_come_back_in_their_places() -> None:
    restore = restorer("“Fee” means – under the Lender’s non-GAAP terms\r\n制定“本法”——包括")
    given = ['"Fee"', "-", "Lender's", "non-GAAP", '制定"本法"--包括', "other-word"]
    assert [restore(word) for word in given] == ["“Fee”", "–", "Lender’s", "non-GAAP", "制定“本法”——包括", "other-word"]
