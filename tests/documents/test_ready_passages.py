from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from fieldtune.documents.parsed import Report, UnreadableError
from fieldtune.documents.ready import read_ready


def test_csv_columns_by_their_several_names(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(
        'ID,Title,Passage,group,year\na,T1,"Line one,\nstill one",law-1,2020\nb,,Second,law-2,\nc,T3,,x,1\nb,,Again,,\n'
    )
    report = Report()
    rows = list(read_ready(path, "p.csv", report))
    assert [row.blocks[0].text for row in rows] == ["Line one,\nstill one", "Second"]
    assert rows[0].title == "T1"
    assert rows[0].metadata == {"year": "2020", "ready": True, "passage_id": "a", "group": "law-1"}
    assert report.rows_dropped == {"rows without text": 1, "rows with a repeated id": 1}


def test_packed_beir_corpus_keeps_metadata(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl.gz"
    row = {
        "_id": 7,
        "title": "民法典",
        "text": "第五十条 文本。",
        "metadata": {"group": "民法典", "page": 3, "url": "u"},
    }
    path.write_bytes(gzip.compress((json.dumps(row) + "\n").encode()))
    (parsed,) = read_ready(path, "corpus.jsonl.gz", Report())
    assert parsed.metadata["passage_id"] == "7" and parsed.metadata["group"] == "民法典"
    assert parsed.metadata["url"] == "u" and parsed.blocks[0].page == 3


def test_tables_in_chinese_encoding_and_with_semicolons(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes("id;text\n1;当事人应当遵守法律的规定\n2;合同自成立时生效\n".encode("gb18030"))
    rows = list(read_ready(path, "p.csv", Report()))
    assert [row.blocks[0].text for row in rows] == ["当事人应当遵守法律的规定", "合同自成立时生效"]


def test_no_text_column_names_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("name,price\nx,1\n")
    with pytest.raises(UnreadableError, match="'name', 'price'"):
        list(read_ready(path, "p.csv", Report()))


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises(UnreadableError, match="line 2"):
        list(read_ready(path, "p.jsonl", Report()))
