from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from fieldtune.config import Documents
from fieldtune.documents import load_documents, read_documents
from fieldtune.documents import pool as pool_module
from fieldtune.errors import InputError
from fieldtune.types import Document, Result


def read(tmp_path: Path, *paths: Path, **settings: object) -> tuple[Result, list[Document]]:
    config = Documents(paths=tuple(map(str, paths)) or (str(tmp_path / "in"),), workers=2, **settings)  # type: ignore[arg-type]
    output = tmp_path / "run" / "documents.jsonl"
    result = read_documents(config, output, tmp_path / "run" / "cache")
    return result, list(load_documents(output))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    path.mkdir()
    (path / "good.txt").write_text("The lender shall pay the fee.\n", "utf-8")
    return path


def causes(result: Result) -> dict[str, str]:
    return {row["file"]: row["cause"] for row in result.details["failed"]}


def test_bad_files_are_recorded_with_cause_and_cure_while_the_run_goes_on(tmp_path: Path, folder: Path) -> None:
    (folder / "empty.pdf").write_bytes(b"")
    with zipfile.ZipFile(folder / "photos.docx", "w") as archive:
        archive.writestr("a.txt", "not Word")
    (folder / "noise.txt").write_bytes(bytes(range(256)) * 40)
    (folder / "half.docx").write_bytes(b"PK\x03\x04 cut off")
    (folder / "sheet.xlsx").write_bytes(b"x")
    (folder / "~$good.docx").write_bytes(b"x")
    (folder / ".hidden.txt").write_text("secret")
    os.symlink(folder / "nowhere", folder / "dangling.txt")

    result, documents = read(tmp_path)

    assert [d.source for d in documents] == ["good.txt"]
    found = causes(result)
    assert set(found) == {"empty.pdf", "photos.docx", "noise.txt", "half.docx", "dangling.txt"}
    assert "0 bytes" in found["empty.pdf"]
    assert "not a Word file" in found["photos.docx"]
    assert "not a Word file" in found["half.docx"]
    assert "binary" in found["noise.txt"]
    assert all(row["cure"] for row in result.details["failed"])
    assert result.dropped["extension .xlsx"] == 1
    assert result.dropped["hidden or lock file"] == 2
    assert result.dropped["files that could not be read"] == 5


def test_a_folder_in_which_nothing_can_be_read_is_an_error_that_lists_the_reasons(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "empty.pdf").write_bytes(b"")
    (tmp_path / "in" / "table.xlsx").write_bytes(b"x")
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert "empty.pdf" in caught.value.message and "0 bytes" in caught.value.message
    assert ".xlsx" in caught.value.message
    assert not (tmp_path / "run" / "documents.jsonl").exists()


@pytest.mark.parametrize("path", ["absent", "absent/*.pdf"])
def test_a_path_that_means_nothing_is_an_error(tmp_path: Path, path: str) -> None:
    with pytest.raises(InputError):
        read(tmp_path, tmp_path / path)


def test_links_in_a_circle_end_and_no_file_is_read_twice(tmp_path: Path, folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "deep.txt").write_text("Deep text.")
    os.symlink(folder, folder / "sub" / "up")
    os.symlink(folder / "sub", folder / "again")
    os.symlink(folder / "good.txt", folder / "sub" / "twin.txt")
    os.symlink("b", folder / "a")
    os.symlink("a", folder / "b")
    result, documents = read(tmp_path)
    assert len(documents) == result.counts["files"] == 2
    assert {d.blocks[0].text for d in documents} == {"The lender shall pay the fee.", "Deep text."}


def test_odd_file_names(tmp_path: Path, folder: Path) -> None:
    (folder / "two\nlines.txt").write_text("Line break in the name.")
    (folder / "合同 第1章.txt").write_text("甲方应当付款。", "utf-8")
    with open(os.fsencode(folder) + b"/bytes-\xff.txt", "w") as stream:
        stream.write("A name that is no Unicode.")
    _, documents = read(tmp_path)
    sources = {d.source for d in documents}
    assert sources == {"good.txt", "two\nlines.txt", "合同 第1章.txt", "bytes-\\xff.txt"}
    assert all("\n" not in d.title for d in documents)


def test_a_file_without_permission(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "locked.txt").write_text("Not for everyone.")
    (folder / "locked.txt").chmod(0)
    if os.access(folder / "locked.txt", os.R_OK):  # the superuser may read everything: refuse in its place
        real = Path.open

        def refuse(self: Path, *args: object, **more: object) -> object:
            if self.name == "locked.txt":
                raise PermissionError(13, "Permission denied", str(self))
            return real(self, *args, **more)  # type: ignore[call-overload]

        monkeypatch.setattr(Path, "open", refuse)
    result, documents = read(tmp_path)
    assert causes(result) == {"locked.txt": "no permission to read it"}
    assert [d.source for d in documents] == ["good.txt"]


def test_a_second_run_parses_no_file_again_and_a_changed_file_anew(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "other.txt").write_text("Other text.")
    read(tmp_path)
    before = (tmp_path / "run" / "documents.jsonl").read_bytes()
    asked: list[str] = []
    real = pool_module.Child.ask

    def spy(self: pool_module.Child, task: dict[str, object], seconds: float) -> dict[str, object]:
        asked.append(str(task["source"]))
        return real(self, task, seconds)

    monkeypatch.setattr(pool_module.Child, "ask", spy)
    result, _ = read(tmp_path)
    assert asked == []
    assert (tmp_path / "run" / "documents.jsonl").read_bytes() == before
    assert "2 of 2 files were read in an earlier run" in result.notes

    (folder / "other.txt").write_text("Changed text.")
    _, documents = read(tmp_path)
    assert asked == ["other.txt"]
    assert [d.blocks[0].text for d in documents] == ["The lender shall pay the fee.", "Changed text."]


def test_half_a_cache_file_is_not_taken_for_a_whole_one(tmp_path: Path, folder: Path) -> None:
    read(tmp_path)
    (saved,) = (tmp_path / "run" / "cache").glob("*.jsonl")
    whole = saved.read_bytes()
    saved.write_bytes(whole[: len(whole) // 2])
    _, documents = read(tmp_path)
    assert [d.source for d in documents] == ["good.txt"]
    assert saved.read_bytes() == whole


@pytest.mark.parametrize(("how", "word"), [("os.kill(os.getpid(), 11)", "crashed"), ("time.sleep(60)", "longer than")])
def test_a_parser_that_crashes_or_hangs_costs_one_file(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, how: str, word: str
) -> None:
    (folder / "killer.md").write_text("# boom")
    (folder / "zebra.txt").write_text("Read after the crash.")
    # The child imports this module on starting: there the reader of Markdown is replaced.
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        "if 'fieldtune.documents.worker' in sys.orig_argv:\n"
        "    import fieldtune.documents.markdown as m\n"
        f"    m.read_markdown = lambda *a: {how}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(site))
    result, documents = read(tmp_path, max_seconds=3)
    assert [d.source for d in documents] == ["good.txt", "zebra.txt"]
    assert word in causes(result)["killer.md"]


def test_ids_depend_on_source_and_content_alone(tmp_path: Path, folder: Path) -> None:
    (folder / "copy.txt").write_bytes((folder / "good.txt").read_bytes())
    _, first = read(tmp_path)
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    _, second = read(tmp_path, moved)
    assert [d.id for d in first] == [d.id for d in second]
    assert len({d.id for d in first}) == 2


def test_single_files_patterns_and_unknown_formats(tmp_path: Path, folder: Path) -> None:
    (folder / "b.md").write_text("# B\n\ntext")
    (folder / "old.doc").write_bytes(b"\xd0\xcf\x11\xe0")
    result, documents = read(tmp_path, folder / "*.md", folder / "good.txt", folder / "old.doc")
    assert [d.source for d in documents] == ["b.md", "good.txt"]
    assert result.details["failed"][0]["cure"] == "save it as .docx"


def test_the_runs_own_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "law.txt").write_text("Article text.")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "report.html").write_text("<p>our own output</p>")
    _, documents = read(tmp_path, tmp_path)
    assert [d.source for d in documents] == ["law.txt"]


def test_a_beir_folder_gives_its_corpus_but_neither_queries_nor_labels(tmp_path: Path, folder: Path) -> None:
    (folder / "corpus.jsonl").write_text(json.dumps({"_id": "p1", "title": "T", "text": "Passage."}) + "\n")
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q1", "text": "a question?"}) + "\n")
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tp1\t1\n")
    result, documents = read(tmp_path)
    assert {d.blocks[0].text for d in documents} == {"Passage.", "The lender shall pay the fee."}
    assert result.dropped["BEIR queries and labels"] == 2


def test_load_documents_names_the_line_that_is_no_document(tmp_path: Path) -> None:
    path = tmp_path / "documents.jsonl"
    path.write_text('{"id": "1", "source": "s", "title": "t", "blocks": []}\n{"id": "2"}\n')
    with pytest.raises(InputError, match=r"documents\.jsonl:2"):
        list(load_documents(path))
