from __future__ import annotations

from pathlib import Path

import docx
import pytest

from fieldtune.documents.docx import read_docx, sane_title
from fieldtune.documents.html import html_blocks, read_html
from fieldtune.documents.markdown import read_markdown
from fieldtune.documents.parsed import Report, UnreadableError
from fieldtune.types import Block


def test_html_blocks_in_order_without_furniture() -> None:
    blocks, title = html_blocks(
        "<html><head><title> Leases </title><style>p{}</style></head><body><nav>Home</nav><h1>IFRS&nbsp;16</h1>"
        "<p>A <b>lease</b> is<br>a contract.</p>loose text<ul><li>one</li><li><p>two</p></li></ul>"
        "<script>x()</script><p hidden>no</p><table><tr><th>Year<th>Cost</tr><tr><td rowspan=2>2022<td>$ 5</tr>"
        "<tr><td>a|b</tr></table><div>end</div></body></html>"
    )
    assert title == "Leases"
    assert blocks == [
        Block("heading", "IFRS 16", 1),
        Block("paragraph", "A lease is a contract."),
        Block("paragraph", "loose text"),
        Block("list_item", "one"),
        Block("list_item", "two"),
        Block("table", "| Year | Cost |\n| --- | --- |\n| 2022 | $ 5 |\n|  | a\\|b |"),
        Block("paragraph", "end"),
    ]


def test_a_table_that_lays_out_the_page_is_read_as_text() -> None:
    blocks, _ = html_blocks("<table><tr><td><h2>Part</h2><p>Body text.</p></td></tr></table>")
    assert blocks == [Block("heading", "Part", 2), Block("paragraph", "Body text.")]


def test_deep_nesting_does_not_end_the_reader() -> None:
    blocks, _ = html_blocks("<div>" * 3000 + "core" + "</div>" * 3000)
    assert [block.text for block in blocks] == ["core"]


def test_html_in_a_declared_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_bytes(
        "<meta charset=gb2312><title>合同法</title><p>当事人订立合同，应当具有相应的民事权利能力。</p>".encode("gb2312")
    )
    (parsed,) = read_html(path, "a.html", Report())
    assert parsed.title == "合同法"
    assert parsed.blocks[0].text == "当事人订立合同，应当具有相应的民事权利能力。"


def test_markdown_with_front_matter(tmp_path: Path) -> None:
    path = tmp_path / "guide.md"
    path.write_text(
        "---\ntitle: The Guide\n---\n# Top\n\nText that\nwraps.\n\n- a\n- b\n\n| x | y |\n|---|---|\n| 1 | 2 |\n"
    )
    (parsed,) = read_markdown(path, "guide.md", Report())
    assert parsed.title == "The Guide"
    assert [(b.kind, b.text) for b in parsed.blocks] == [
        ("heading", "Top"),
        ("paragraph", "Text that wraps."),
        ("list_item", "a"),
        ("list_item", "b"),
        ("table", "| x | y |\n| --- | --- |\n| 1 | 2 |"),
    ]


def test_word_headings_lists_tables_and_numbered_clauses(tmp_path: Path) -> None:
    document = docx.Document()
    document.core_properties.title = ""
    document.add_heading("Master Agreement", 1)
    document.add_paragraph("Section 4.2 Payment Terms")
    document.add_paragraph("The “Fee” falls due within 30 days.")
    document.add_paragraph("first", style="List Bullet")
    table = document.add_table(2, 2)
    for cell, text in zip(table._cells, ["Party", "Share", "Lessor", "60 %"], strict=True):
        cell.text = text
    document.save(str(tmp_path / "deal.docx"))
    (parsed,) = read_docx(tmp_path / "deal.docx", "deal.docx", Report())
    assert parsed.title == "Master Agreement"
    assert [(b.kind, b.level) for b in parsed.blocks] == [
        ("heading", 1),
        ("heading", 4),
        ("paragraph", None),
        ("list_item", None),
        ("table", None),
    ]
    assert parsed.blocks[2].text == "The “Fee” falls due within 30 days."
    assert parsed.blocks[4].text.splitlines()[2] == "| Lessor | 60 % |"


def test_an_encrypted_word_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.docx"
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000))
    with pytest.raises(UnreadableError, match="encrypted"):
        list(read_docx(path, "a.docx", Report()))


@pytest.mark.parametrize(
    ("given", "title"),
    [
        ("Form 10-K filed 02/09/2023", "Form 10-K filed 02/09/2023"),
        ("Microsoft Word - contract.doc", ""),
        ("0000064803-23-000009", ""),
        ("C:\\temp\\x y", ""),
        ("report_final.pdf", ""),
        ("untitled", ""),
        ("中华人民共和国民法典", "中华人民共和国民法典"),
    ],
)
def test_titles_that_programs_leave_behind(given: str, title: str) -> None:
    assert sane_title(given) == title
