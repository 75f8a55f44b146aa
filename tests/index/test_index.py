from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fieldtune.config import Index as Settings
from fieldtune.errors import InputError, ModelError
from fieldtune.index import Dev, Index, build_index
from fieldtune.measures import judgements
from fieldtune.models import resolve_model
from fieldtune.types import Passage

DIM = 16


class WordEncoder:
    """Stands in for a model: each text is the unit vector of the number it holds, or of its length."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors
        self.seen: list[str] = []

    def encode(self, texts, side, *, advance=None):
        assert side == "query"
        self.seen += texts
        return np.stack(
            [self.vectors[int(text) if text.isdigit() else len(text) % len(self.vectors)] for text in texts]
        )


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def make_model(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "Transformer"}]))
    (folder / "config.json").write_text(json.dumps({"vocab_size": 9, "model_type": "bert"}))
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def some_passages(count: int) -> list[Passage]:
    return [Passage(f"p{row}", f"Title {row}", f"text {row}", source="a.pdf", page=row + 1) for row in range(count)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make_model(tmp_path / "run" / "model")
    return tmp_path / "run"


def asked(passages, query_vectors) -> Dev:
    place = {passage.id: row for row, passage in enumerate(passages)}
    qrels = [{passages[row % len(passages)].id: 1} for row in range(len(query_vectors))]
    return Dev(tuple(f"query {row}" for row in range(len(qrels))), query_vectors, judgements(qrels, place, 1))


def build(run: Path, passages, vectors, settings: Settings | None = None, query_vectors=None):
    return build_index(
        settings or Settings(),
        passages,
        vectors,
        run / "index",
        model_fingerprint=resolve_model(str(run)).fingerprint,
        model=run / "model",
        seed=1,
        dev=None if query_vectors is None else asked(passages, query_vectors),
    )


def test_finds_the_passage_with_all_that_belongs_to_it(run: Path) -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(50, DIM)))
    special = Passage(
        "第五十条",
        "民法典 > 第一编",
        '说："好"。\n第二行',
        "law",
        "法/民法.pdf",
        7,
        120,
        135,
        {"条": 50, "tags": ["a", "b"]},
    )
    passages = [*some_passages(49), special]
    result = build(run, passages, vectors)
    assert result.counts == {"passages": 50, "dimensions": DIM, "recall@10": 1.0}
    index = Index.open(run, encoder=WordEncoder(vectors))
    hits = index.search("49", k=3)
    assert hits[0].passage == special
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    assert [hit.rank for hit in hits] == [1, 2, 3]
    truth = np.argsort(-(vectors @ vectors[49]))[:3]
    assert [hit.passage.id for hit in hits] == [passages[row].id for row in truth]
    assert [hit.score for hit in hits] == pytest.approx((vectors @ vectors[49])[truth], abs=1e-5)
    assert hits[1].passage.start is None


def test_more_results_than_passages_gives_all(run: Path) -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(4, DIM)))
    build(run, some_passages(4), vectors)
    index = Index.open(run / "index", encoder=WordEncoder(vectors))
    assert len(index) == 4
    assert {hit.passage.id for hit in index.search("0", k=99)} == {"p0", "p1", "p2", "p3"}
    with pytest.raises(InputError):
        index.search("0", k=0)


def test_equal_passages_are_ranked_by_their_place(run: Path) -> None:
    vectors = np.repeat(unit(np.ones((1, DIM))), 6, axis=0)
    passages = list(reversed(some_passages(6)))
    build(run, passages, vectors)
    hits = Index.open(run, encoder=WordEncoder(vectors)).search("0", k=6)
    assert [hit.passage.id for hit in hits] == [f"p{row}" for row in reversed(range(6))]


def clusters(count: int, rng: np.random.Generator) -> np.ndarray:
    centres = rng.normal(size=(100, DIM))
    return unit(centres[rng.integers(100, size=count)] + 0.5 * rng.normal(size=(count, DIM)))


def test_an_approximate_index_is_measured_and_good(run: Path) -> None:
    rng = np.random.default_rng(3)
    vectors = clusters(5_000, rng)
    queries = unit(vectors[::50] + 0.2 * rng.normal(size=(100, DIM)))
    result = build(run, some_passages(5_000), vectors, Settings(ann_above=1_000, min_recall=0.95), queries)
    assert "approximate index: recall@10" in result.notes[1]
    assert "100 queries" in result.notes[1]
    index = Index.open(run, encoder=WordEncoder(queries))
    assert 0 < index.meta["nprobes"] < 71  # of sqrt(5000) lists
    found = index.search_vectors(queries)
    truth = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    recall = np.mean(
        [
            len({hit.passage.id for hit in hits} & {f"p{row}" for row in rows}) / 10
            for hits, rows in zip(found, truth, strict=True)
        ]
    )
    assert recall >= 0.95
    assert result.counts["recall@10"] == pytest.approx(recall, abs=0.002)


def test_an_approximate_index_that_is_never_good_enough_is_thrown_away(run: Path) -> None:
    # Without structure each list holds its share of the neighbours, and half of the lists about half of them.
    vectors = unit(np.random.default_rng(3).normal(size=(2_000, 96)))
    result = build(run, some_passages(2_000), vectors, Settings(ann_above=1_000, min_recall=1.0))
    assert "thrown away" in result.notes[1]
    assert "sampled passages" in result.notes[1]
    index = Index.open(run, encoder=WordEncoder(vectors))
    assert index.meta["nprobes"] == 0
    for row in (5, 1_999):
        truth = np.argsort(-(vectors @ vectors[row]))[:10]
        assert [hit.passage.id for hit in index.search(str(row))] == [f"p{place}" for place in truth]


def test_refuses_a_model_that_changed(run: Path) -> None:
    build(run, some_passages(3), unit(np.eye(3, DIM)))
    (run / "model" / "model.safetensors").write_bytes(b"others!")
    with pytest.raises(ModelError, match="not the one") as caught:
        Index.open(run)
    assert "fieldtune index" in caught.value.hint


def test_a_run_can_be_moved(run: Path, tmp_path: Path) -> None:
    vectors = unit(np.eye(3, DIM))
    build(run, some_passages(3), vectors)
    moved = tmp_path / "elsewhere"
    shutil.move(run, moved)
    assert Index.open(moved, encoder=WordEncoder(vectors)).search("2", k=1)[0].passage.id == "p2"


def test_missing_and_damaged_indexes_are_named_with_a_cure(run: Path) -> None:
    with pytest.raises(InputError, match="no index") as caught:
        Index.open(run)
    assert "fieldtune index" in caught.value.hint
    build(run, some_passages(3), unit(np.eye(3, DIM)))
    shutil.rmtree(run / "index" / "files-1")
    with pytest.raises(InputError, match="gone or damaged"):
        Index.open(run)
    (run / "index" / "meta.json").write_text('{"format": 99}')
    with pytest.raises(InputError, match="version"):
        Index.open(run)


def test_a_build_that_dies_leaves_the_old_index_whole(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(6_000, DIM)))
    build(run, some_passages(3), vectors[:3])

    class KilledError(BaseException):
        pass

    def die(*_: object) -> None:
        raise KilledError

    monkeypatch.setattr("fieldtune.index.build.write_json", die)
    with pytest.raises(KilledError):
        build(run, some_passages(6_000), vectors)
    monkeypatch.undo()
    assert len(Index.open(run, encoder=WordEncoder(vectors)).search("1", k=10)) == 3
    build(run, some_passages(4), vectors[:4])
    kept = sorted(path.name for path in (run / "index").glob("*-*"))
    assert kept == ["files-1", "files-3", "passages-1.lance", "passages-3.lance"]  # of the killed build nothing
    assert len(Index.open(run, encoder=WordEncoder(vectors)).search("1", k=10)) == 4


def test_an_open_index_goes_over_to_a_rebuilt_one(run: Path) -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(30, DIM)))
    build(run, some_passages(20), vectors[:20])
    index = Index.open(run, encoder=WordEncoder(vectors))
    build(run, some_passages(30), vectors)
    assert index.search("29", k=1)[0].passage.id == "p29"


def test_odd_queries(run: Path) -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(30, DIM)))
    build(run, some_passages(30), vectors)
    encoder = WordEncoder(vectors)
    index = Index.open(run, encoder=encoder)
    for empty in ("", "  \n\t", "\x00\x1b"):
        with pytest.raises(InputError, match="empty"):
            index.search(empty)
    assert len(index.search("x" * 3_000_000)) == 10
    assert len(encoder.seen[-1]) <= 50_000
    index.search("a\x00b\x1b[31m \ud800 合同\n第五十条")
    assert encoder.seen[-1] == "a b [31m 合同 第五十条"
    assert index.search_many([]) == []
    with pytest.raises(ModelError, match="dimensions"):
        index.search_vectors(np.ones((1, DIM + 1), np.float32))


def test_broken_unicode_is_indexed_and_said(run: Path) -> None:
    vectors = unit(np.eye(2, DIM))
    result = build(run, [Passage("a", "", "half \ud83d pair"), Passage("b", "", "whole 🙂")], vectors)
    assert any("1 passages" in note for note in result.notes)
    texts = {hit.passage.text for hit in Index.open(run, encoder=WordEncoder(vectors)).search("0")}
    assert texts == {"half ? pair", "whole 🙂"}


@pytest.mark.parametrize(
    "vectors",
    [np.ones((2, DIM)), np.full((3, DIM), np.nan), np.ones((3, DIM)), np.zeros((3, 0))],
    ids=["too few", "nan", "not unit", "no dimensions"],
)
def test_vectors_that_do_not_fit_are_refused(run: Path, vectors: np.ndarray) -> None:
    with pytest.raises(ValueError, match="vectors"):
        build(run, some_passages(3), vectors)
    assert not (run / "index" / "meta.json").exists()
