from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from corpus_cases import build, count_tokens, doc, h, p, texts

from fieldtune.beir import read_corpus
from fieldtune.config import Corpus
from fieldtune.corpus import build_corpus
from fieldtune.errors import InputError
from fieldtune.types import Document


def test_ready_passages_pass_through_with_their_own_id_title_and_group(tmp_path: Path) -> None:
    long = "A sentence of the user's own. " * 40
    given = doc(p(long.strip()), title="Given", name="r.csv", ready=True, passage_id="E11.9", group="E11", code="x")
    result, found, _ = build(tmp_path, given, doc(p("Cut from a file.")), max_tokens=64)
    passage = read_corpus(tmp_path / "corpus.jsonl")["E11.9"]
    assert (passage.title, passage.text, passage.group) == ("Given", long.strip(), "E11")
    assert passage.metadata == {"code": "x"}
    assert len(found) == 2
    assert result.counts["ready passages"] == result.counts["passages over the token limit"] == 1


def test_groups_follow_the_document_unless_it_names_one(tmp_path: Path) -> None:
    _, found, _ = build(tmp_path, doc(p("One."), name="a"), doc(p("Two."), name="b", group="law"))
    assert [row["metadata"]["group"] for row in found] == ["a", "law"]


def test_empty_documents_and_taken_ids_are_counted_and_named(tmp_path: Path) -> None:
    rows = [doc(p(text), name=f"f{n}", ready=True, passage_id="same") for n, text in enumerate(["One.", "Two."])]
    tabbed = doc(p("Three."), name="f3", ready=True, passage_id="a\tb")
    result, found, _ = build(tmp_path, *rows, tabbed, doc(name="empty.pdf"), doc(p(" \n "), name="blank.pdf"))
    assert texts(found) == ["One."]
    assert result.counts["documents"] == 5
    assert result.dropped == {
        "passage ids given twice": 1,
        "passage ids with a tab or line break": 1,
        "documents without text": 2,
    }
    assert result.details["empty documents"] == ["empty.pdf", "blank.pdf"]
    assert any("2 ready passages were left out" in note for note in result.notes)


def test_nothing_at_all_is_an_error_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no passage") as raised:
        build(tmp_path, doc(name="empty.pdf"))
    assert "OCR" in raised.value.hint
    assert not (tmp_path / "corpus.jsonl").exists()


def test_documents_are_streamed_and_tokens_counted_in_batches(tmp_path: Path) -> None:
    calls = []

    def stream() -> Iterator[Document]:
        for number in range(300):
            yield doc(h(f"Head {number}", 1), p(f"Document {number} says a thing. " * 300), name=f"{number}.txt")

    def counting(texts: Sequence[str]) -> list[int]:
        calls.append(len(texts))
        return count_tokens(texts)

    result = build_corpus(Corpus(), stream(), counting, tmp_path)
    assert result.counts["documents"] == 300
    assert len(calls) < 60
    assert sum(calls) / len(calls) > 500


def test_the_same_input_gives_the_same_files(tmp_path: Path) -> None:
    documents = [doc(h("A", 1), p("First text. " * 90), p("Second."), name=f"{n}") for n in range(4)]
    build(tmp_path / "one", *documents)
    build(tmp_path / "two", *documents)
    for name in ("corpus.jsonl", "duplicates.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
