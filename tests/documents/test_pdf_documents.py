from __future__ import annotations

from pathlib import Path

import pytest
from fpdf import FPDF
from pypdf import PdfReader, PdfWriter

from fieldtune.documents.parsed import Parsed, Report, UnreadableError
from fieldtune.documents.pdf import read_pdf

PROSE = (
    "The borrower shall repay each advance on the last day of the interest period that applies to it, and may not "
    "borrow again any part of the facility which has been repaid or cancelled under this agreement. "
)


def read(path: Path, loss: float = 0.02) -> tuple[Parsed, Report]:
    report = Report()
    (parsed,) = read_pdf(path, path.name, report, loss)
    return parsed, report


def filing(path: Path, pages: int = 4) -> Path:
    """A small filing: running header and footer with page numbers, headings, prose, a table, bullets."""

    class Filing(FPDF):
        def header(self) -> None:
            self.set_font("Helvetica", size=8)
            self.cell(0, 8, "ACME Corporation Annual Report", new_x="LMARGIN", new_y="NEXT")

        def footer(self) -> None:
            self.set_y(-15)
            self.set_font("Helvetica", size=8)
            self.cell(0, 8, f"Page {self.page_no()} of {pages}", align="C")

    pdf = Filing()
    for number in range(1, pages + 1):
        pdf.add_page()
        pdf.set_font("Helvetica", style="B", size=14)
        pdf.cell(0, 12, f"ITEM {number}. Liquidity and Capital", new_x="LMARGIN", new_y="NEXT")
        pdf.set_font("Helvetica", size=10)
        pdf.multi_cell(0, 5, PROSE * 2, new_x="LMARGIN", new_y="NEXT")
        pdf.ln(4)
        for label, first, second in [
            ("(in millions)", "2022", "2021"),
            ("Net sales", "5,363", "4,869"),
            ("Pension contributions", "(370)", "(967)"),
            ("Total", "4,993", "3,902"),
        ]:
            pdf.cell(90, 5, label)
            for value in (first, second):
                pdf.cell(8, 5, "$" if label in ("Net sales", "Total") else "")
                pdf.cell(22, 5, value, align="R")
            pdf.ln(5)
        pdf.ln(4)
        pdf.multi_cell(
            0, 5, f"Closing remark number {number} of this filing, \xa7 12(b).", new_x="LMARGIN", new_y="NEXT"
        )
    pdf.output(str(path))
    return path


def test_a_filing_becomes_headings_whole_paragraphs_and_tables(tmp_path: Path) -> None:
    parsed, report = read(filing(tmp_path / "acme_2022.pdf"))
    page = [block for block in parsed.blocks if block.page == 2]
    assert [block.kind for block in page] == ["heading", "paragraph", "table", "paragraph"]
    assert (page[0].text, page[0].level) == ("ITEM 2. Liquidity and Capital", 2)
    assert page[1].text == (PROSE * 2).strip()
    assert page[2].text.splitlines() == [
        "| (in millions) | 2022 | 2021 |",
        "| --- | --- | --- |",
        "| Net sales | $ 5,363 | $ 4,869 |",
        "| Pension contributions | (370) | (967) |",
        "| Total | $ 4,993 | $ 3,902 |",
    ]
    assert page[3].text == "Closing remark number 2 of this filing, § 12(b)."
    assert report.pages == 4 and report.lossy_pages == []


def test_running_lines_go_and_are_reported(tmp_path: Path) -> None:
    parsed, report = read(filing(tmp_path / "a.pdf"))
    text = "\n".join(block.text for block in parsed.blocks)
    assert "Annual Report" not in text and "Page 3" not in text
    assert report.running_lines["ACME Corporation Annual Report"] == 4


def test_a_page_that_loses_words_is_named_and_read_as_plain_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fieldtune.documents import pdf as module

    real = module.page_blocks
    monkeypatch.setattr(
        module, "page_blocks", lambda lines, look, page, known: real(lines, look, page, known)[page == 3 :]
    )
    parsed, report = read(filing(tmp_path / "a.pdf"))
    (lossy,) = report.lossy_pages
    assert lossy["page"] == 3 and lossy["recovered"] and lossy["lost"] > 0.02
    assert "liquidity" in lossy["missing"]
    third = " ".join(block.text for block in parsed.blocks if block.page == 3)
    assert "ITEM 3. Liquidity and Capital" in third and "4,993" in third and "Annual Report" not in third


def test_words_hyphenated_at_line_ends_are_joined_and_compounds_stay(tmp_path: Path) -> None:
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("Helvetica", size=11)
    lines = [
        "The defen-",
        "dant is a self-",
        "employed physician and a non-",
        "resident of the state whose long-",
        "term",
    ]
    for line in [*lines, "contract ended, as the defendant said."]:
        pdf.cell(0, 5, line, new_x="LMARGIN", new_y="NEXT")
    pdf.output(str(tmp_path / "h.pdf"))
    parsed, _ = read(tmp_path / "h.pdf")
    text = " ".join(block.text for block in parsed.blocks)
    assert "The defendant is a self-employed physician and a non-resident of the state whose long-term contract" in text


def test_two_columns_are_read_one_after_the_other(tmp_path: Path) -> None:
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("Helvetica", size=10)
    for number in range(12):
        y = 30 + 5 * number
        pdf.text(15, y, f"left column line {number} goes on with words")
        pdf.text(110, y, f"right column line {number} goes on with words")
    pdf.output(str(tmp_path / "c.pdf"))
    parsed, _ = read(tmp_path / "c.pdf")
    text = " ".join(block.text for block in parsed.blocks)
    assert text.index("left column line 11") < text.index("right column line 0")


def test_an_encrypted_file_says_so(tmp_path: Path) -> None:
    writer = PdfWriter(clone_from=PdfReader(filing(tmp_path / "open.pdf", 1)))
    writer.encrypt("secret")
    writer.write(tmp_path / "locked.pdf")
    with pytest.raises(UnreadableError, match="password") as caught:
        read(tmp_path / "locked.pdf")
    assert "decrypt" in caught.value.cure


def test_a_file_that_opens_without_a_password_is_read_though_it_is_encrypted(tmp_path: Path) -> None:
    writer = PdfWriter(clone_from=PdfReader(filing(tmp_path / "open.pdf", 1)))
    writer.encrypt(user_password="", owner_password="owner")
    writer.write(tmp_path / "restricted.pdf")
    parsed, _ = read(tmp_path / "restricted.pdf")
    assert any("Net sales" in block.text for block in parsed.blocks)


def test_a_truncated_file_says_so(tmp_path: Path) -> None:
    whole = filing(tmp_path / "whole.pdf").read_bytes()
    (tmp_path / "cut.pdf").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(UnreadableError) as caught:
        read(tmp_path / "cut.pdf")
    assert "fetch it again" in caught.value.cure


def test_a_scan_without_text_names_the_cure(tmp_path: Path) -> None:
    pdf = FPDF()
    for _ in range(2):
        pdf.add_page()
        pdf.rect(20, 20, 100, 100, style="F")
    pdf.output(str(tmp_path / "scan.pdf"))
    with pytest.raises(UnreadableError, match="scanned") as caught:
        read(tmp_path / "scan.pdf")
    assert "ocrmypdf" in caught.value.cure


def test_a_blank_page_among_others_is_reported(tmp_path: Path) -> None:
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("Helvetica", size=11)
    pdf.cell(0, 5, "Only the first page speaks.")
    pdf.add_page()
    pdf.output(str(tmp_path / "b.pdf"))
    _, report = read(tmp_path / "b.pdf")
    assert report.empty_pages == [2]
