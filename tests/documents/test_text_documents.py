from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fieldtune.documents import plain
from fieldtune.documents.encoding import detect_encoding
from fieldtune.documents.parsed import Parsed, Report
from fieldtune.documents.plain import read_plain, text_blocks

STATUTE = (
    "第一编　总　则\n第一章　基本规定\n　　第一条　为了保护民事主体的合法权益，制定本法。\n"
    "　　第二条　民法调整平等主体之间的人身关系和财产关系。\n"
)


def read(path: Path) -> tuple[list[Parsed], Report]:
    report = Report()
    return list(read_plain(path, path.name, report)), report


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", STATUTE),
        ("utf-8-sig", STATUTE),
        ("gb18030", STATUTE),
        ("gbk", STATUTE),
        ("utf-16", STATUTE),
        ("utf-16-le", "Plain words in wide characters. " * 5),
        ("cp1252", "The café’s naïve clause – § 12 “applies”.\n" * 3),
        ("latin-1", "Der Schuldner trägt die Kosten gemäß § 91. " * 3),
    ],
)
def test_encodings(tmp_path: Path, encoding: str, text: str) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(text.encode(encoding))
    (document,), _ = read(path)
    got = "".join("".join(block.text.split()) for block in document.blocks)
    assert got == "".join(text.split())


def test_a_late_chinese_character_decides_the_encoding(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(b"x" * 79 + b"\n" + b"plain line\n" * 300_000 + "最高人民法院关于适用法律的规定".encode("gb18030"))
    assert detect_encoding(path).name == "gb18030"


def test_invalid_utf8_is_replaced_and_said(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(("民法典规定合同的效力。" * 30).encode() + b"\xff\xfe" + "违约责任。".encode())
    (document,), report = read(path)
    assert "民法典规定合同的效力" in document.blocks[0].text and "违约责任" in document.blocks[0].text
    assert "�" in document.blocks[0].text
    assert any("not valid utf-8" in note for note in report.notes)


def test_a_chinese_statute(tmp_path: Path) -> None:
    path = tmp_path / "民法典.txt"
    path.write_text(STATUTE, "utf-8")
    (document,), _ = read(path)
    assert [(b.kind, b.level) for b in document.blocks] == [
        ("heading", 1),
        ("heading", 2),
        ("paragraph", None),
        ("paragraph", None),
    ]
    assert document.blocks[0].text == "第一编 总 则"
    assert document.blocks[2].text == "第一条 为了保护民事主体的合法权益，制定本法。"
    assert document.title == "民法典"


def test_hard_wrapped_text_is_joined_and_one_paragraph_a_line_is_not(tmp_path: Path) -> None:
    wrapped = tmp_path / "w.txt"
    wrapped.write_text(
        "ARTICLE 5 TERMINATION\n\nEither party may end this contract by notice in writing to the other, if the other\n"
        "party commits a material breach and does not cure it within the thirty days after\nthe notice, or becomes "
        "insolvent and cannot pay its debts as they fall due under the laws\nthat govern it, for any reason.\n\n"
        "- first item\n- second item\n"
    )
    (document,), _ = read(wrapped)
    assert [b.kind for b in document.blocks] == ["heading", "paragraph", "list_item", "list_item"]
    assert "if the other party commits" in document.blocks[1].text
    assert document.blocks[2].text == "first item"
    lines = tmp_path / "l.txt"
    lines.write_text("Dose for adults.\nDose for children is lower.\nStore in a cool place.\nKeep dry.\nSee leaflet.\n")
    (document,), _ = read(lines)
    assert len(document.blocks) == 5


def test_a_long_text_becomes_parts_that_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "PART_CHARACTERS", 2_000)
    path = tmp_path / "long.txt"
    path.write_text("".join(f"Chapter {n}\n\nSentence number {n} of a long book.\n\n" for n in range(1, 200)))
    documents, _ = read(path)
    assert len(documents) > 2
    assert [d.title for d in documents[:2]] == ["long (part 1)", "long (part 2)"]
    assert all(d.blocks[0].kind == "heading" for d in documents)
    numbers = [b.text.split()[2] for d in documents for b in d.blocks if b.kind == "paragraph"]
    assert numbers == [str(n) for n in range(1, 200)]


def test_memory_stays_flat_on_a_huge_file(tmp_path: Path) -> None:
    """60 MB here, so that the test takes seconds; what is held does not depend on the size of the file."""
    path = tmp_path / "huge.txt"
    line = b"The tenant shall keep the premises in good repair and pay the rent on the first day of each month.\n"
    with path.open("wb") as stream:
        for _ in range(60):
            stream.write(line * (1_000_000 // len(line)) + b"\n")
        stream.write(b"x" * 1_000_000)  # and a line without end
    program = (
        "import resource, sys; from pathlib import Path; import charset_normalizer\n"
        "from fieldtune.documents import plain; plain.PART_CHARACTERS = 100_000\n"
        "from fieldtune.documents.plain import read_plain; from fieldtune.documents.parsed import Report\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "size = sum(len(b.text) for d in read_plain(Path(sys.argv[1]), 'h.txt', Report()) for b in d.blocks)\n"
        "print(size, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    out = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    size, grown = map(int, out.stdout.split())
    assert size > 60_000_000
    assert grown < 7, f"{grown} MB"


def test_lines_keep_what_matters() -> None:
    text = "“Change of Control” means an event under § 12.3(b)(ii)\u00ad; see footnote¹ – and Art. 5."
    (block,) = text_blocks([text], wrapped=False)
    assert block.text == "“Change of Control” means an event under § 12.3(b)(ii); see footnote¹ – and Art. 5."
