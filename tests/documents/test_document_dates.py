"""The date that a search can be limited by: from the file's name, else from what the file says of itself."""

from __future__ import annotations

import datetime
from pathlib import Path

import docx
import pytest
from fpdf import FPDF

from fieldtune.config import Corpus
from fieldtune.corpus import build_corpus
from fieldtune.documents.dates import date_in_name, stated_date
from fieldtune.documents.one import read_one
from fieldtune.documents.parsed import Report
from fieldtune.index.columns import columns_of
from fieldtune.types import Document, Passage


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("leases/2023-05-01 Lease Smith.pdf", "2023-05-01"),
        ("aapl-20230930.htm", "2023-09-30"),
        ("minutes_2021.12.07_final.docx", "2021-12-07"),
        ("租赁合同2023年5月1日.docx", "2023-05-01"),
        ("2023-13-45 then 2024-02-29.md", "2024-02-29"),
        ("2023-05-01/lease.pdf", ""),  # the folder's, which may be that of a scan or a backup
        ("account 10293847.pdf", ""),
        ("1234567890123.pdf", ""),
        ("01.05.2023.pdf", ""),
        ("2023-02-30.pdf", ""),
    ],
)
def test_dates_in_names(name: str, date: str) -> None:
    assert date_in_name(name) == date


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("D:20230501120000+02'00'", "2023-05-01"),
        ("2023-05-01T10:00:00Z", "2023-05-01"),
        ('"2023-05-01"', "2023-05-01"),
        ("2023/05/01", "2023-05-01"),
        ("20230501", "2023-05-01"),
        ("2023", ""),
        ("05/01/2023", ""),
        ("D:00000000", ""),
        ("1980-01-01T00:00:00Z", ""),
        ("1601-01-01T00:00:00Z", ""),  # what some programs write for none
        ("", ""),
    ],
)
def test_dates_as_properties_state_them(text: str, date: str) -> None:
    assert stated_date(text) == date


def write_files(folder: Path) -> None:
    (folder / "front.md").write_text("---\ntitle: Guide\ndate: 2022-03-04\n---\n# Top\n\nText of the guide.\n")
    (folder / "page.html").write_text(
        '<head><meta name="dcterms.modified" content="2021-06-06"><meta property="article:published_time" '
        'content="2021-05-05T08:00:00+08:00"></head><body><p>Text of the page.</p></body>'
    )
    word = docx.Document()
    word.add_paragraph("Text of the contract.")
    word.core_properties.created = datetime.datetime(2010, 1, 1)
    word.core_properties.modified = datetime.datetime(2020, 7, 8)
    word.save(str(folder / "contract.docx"))
    pdf = FPDF()
    pdf.set_creation_date(datetime.datetime(2019, 2, 3, tzinfo=datetime.UTC))
    pdf.add_page()
    pdf.set_font("helvetica", size=12)
    pdf.cell(text="Text of the report that was printed.")
    pdf.output(str(folder / "report.pdf"))
    (folder / "2018-01-09 memo.md").write_text("---\ndate: 2022-03-04\n---\nText of the memo.\n")
    (folder / "plain.txt").write_text("Text without any date.")
    (folder / "rows.jsonl").write_text('{"_id": "a-20230101", "text": "A row.", "date": "2001-01-01"}\n')


def test_each_format_gives_its_date_and_the_passages_can_be_limited_by_it(tmp_path: Path) -> None:
    write_files(tmp_path)
    documents, dates = [], {}
    for path in sorted(tmp_path.iterdir()):
        (parsed,) = read_one(path, path.name, Report(), max_bytes=10**9, max_word_loss=0.02)
        dates[path.name] = parsed.metadata.get("date", "")
        documents.append(Document(path.name, path.name, parsed.title, parsed.blocks, parsed.metadata))
    assert dates == {
        "front.md": "2022-03-04", "page.html": "2021-05-05", "contract.docx": "2020-07-08", "report.pdf": "2019-02-03",
        "2018-01-09 memo.md": "2018-01-09", "plain.txt": "", "rows.jsonl": "2001-01-01",
    }  # fmt: skip
    build_corpus(
        Corpus(min_tokens=1), iter(documents), lambda texts: [len(text.split()) for text in texts], tmp_path / "corpus"
    )
    from fieldtune.beir import read_corpus

    passages: list[Passage] = list(read_corpus(tmp_path / "corpus" / "corpus.jsonl").values())
    (column,) = [one for one in columns_of(passages) if one.name == "date"]
    assert column.kind == "date"
    assert {one.source: value or "" for one, value in zip(passages, column.values, strict=True)} == dates
