from __future__ import annotations

import pytest

from fieldtune.corpus.outline import label_of, starts_item


@pytest.mark.parametrize(
    ("line", "citation", "caption"),
    [
        ("第五十条　当事人应当遵守约定。", "第五十条", ""),
        ("第五十条之一 当事人应当遵守约定。", "第五十条之一", ""),
        ("第 12 条 当事人应当遵守约定。", "第12条", ""),
        ("第三条【适用范围】本法适用于合同。", "第三条", "适用范围"),
        ("第一条为了保护权益，制定本法。", "第一条", ""),
        ("Article 5 The State protects property.", "Article 5", ""),
        ("ARTICLE IV TERM AND TERMINATION", "ARTICLE IV", "TERM AND TERMINATION"),
        ("Art. 6a Lawfulness of processing", "Art. 6a", "Lawfulness of processing"),
        ("§ 433 Vertragstypische Pflichten beim Kaufvertrag", "§ 433", "Vertragstypische Pflichten beim Kaufvertrag"),
        ("Section 12.3(b)(ii). Late Payment. A late fee is due.", "Section 12.3(b)(ii)", "Late Payment"),
        ("Sec. 4 Definitions", "Sec. 4", "Definitions"),
        ("Rule 10b-5 Employment of Manipulative Devices", "Rule 10b-5", "Employment of Manipulative Devices"),
        ("Regulation 7: Records", "Regulation 7", "Records"),
        ("4.2 Termination. Either party may terminate.", "4.2", "Termination"),
        ("12. GOVERNING LAW", "12", "GOVERNING LAW"),
    ],
)
def test_numbering_is_read_as_it_is_cited(line: str, citation: str, caption: str) -> None:
    label = label_of(line)
    assert label is not None
    assert (label.citation, label.caption) == (citation, caption)


@pytest.mark.parametrize(
    "line",
    [
        "第五十条规定的情形除外。",
        "第二章所称合同，是指协议。",
        "第三条、第四条的规定不适用。",
        "Section 4 of the Act applies to banks.",
        "Article 5, as amended, applies.",
        "Sections of the road were closed.",
        "Particular care is needed.",
        "12.5 million dollars were paid.",
        "2021 was a good year.",
        "§ 12 gilt entsprechend.",
    ],
)
def test_references_and_figures_are_no_numbering(line: str) -> None:
    assert label_of(line) is None


def test_parts_stand_above_chapters_above_sections_above_articles() -> None:
    lines = ["第一编 总则", "第一分编 通则", "第二章 自然人", "第一节 一般规定", "第十三条 自然人享有权利。"]
    ranks = [label.rank for label in map(label_of, lines) if label is not None]
    assert len(ranks) == 5
    assert ranks == sorted(set(ranks))


def test_items() -> None:
    assert all(map(starts_item, ["（一）甲", "(a) any entity", "① 甲", "1、甲", "(iv) more", "• dot", "- dash"]))
    assert not any(map(starts_item, ["甲（一）", "a party", "1.5 million", "-5 degrees"]))
