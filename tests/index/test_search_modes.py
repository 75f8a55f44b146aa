"""Filters, words and both, against plain code that does the same slowly."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fieldtune import Index
from fieldtune.config import Index as Settings
from fieldtune.encoding import top_k
from fieldtune.errors import InputError, ModelError
from fieldtune.fusion import add_gains, spread
from fieldtune.index import Base, Dev, build_index, parse_where
from fieldtune.index.dense import Dense, _fast_product, write_codes
from fieldtune.lexical import BM25
from fieldtune.measures import judgements
from fieldtune.models import resolve_model
from fieldtune.types import Passage

DIM, COUNT = 24, 300
WORDS = """
lease tenant rent dose aspirin 合同 解除 § 12(b) 2023 notice court fever interest 第五十条 loan
"""


class Rows:
    """Stands in for a model: text "7 anything" is vector 7."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors

    def encode(self, texts, side, *, advance=None):
        return np.stack([self.vectors[int(text.split()[0])] for text in texts])


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def make_model(folder: Path, weights: bytes) -> Path:
    folder.mkdir(parents=True)
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "Transformer"}]))
    (folder / "config.json").write_text(json.dumps({"vocab_size": 9, "model_type": "bert"}))
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def corpus() -> list[Passage]:
    rng = np.random.default_rng(5)
    out = []
    for row in range(COUNT):
        text = " ".join(rng.choice(WORDS.split(), 12))
        metadata: dict[str, Any] = {"year": int(rng.integers(2015, 2025)), "tags": list(rng.choice(["a", "b", "c"], 2))}
        if row % 3:
            metadata["signed"] = f"{2015 + row % 9}-{1 + row % 12:02d}-{1 + row % 28:02d}"
        metadata |= {"in force": bool(row % 2), "client": "O'Hara; DROP" if row % 5 == 0 else f"client {row % 7}"}
        source = f"f{row % 11}.pdf"
        out.append(
            Passage(f"p{row}", f"Act > Part {row % 4}", text, source, source, row % 6 or None, None, None, metadata)
        )
    return out


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, list[Passage], np.ndarray, Path]:
    run = tmp_path_factory.mktemp("modes") / "run"
    make_model(run / "model", b"tuned")
    other = make_model(run / "basemodel", b"base")
    rng = np.random.default_rng(1)
    vectors, before = unit(rng.normal(size=(COUNT, DIM))), unit(rng.normal(size=(COUNT, 16)))
    passages = corpus()
    result = build(run, passages, vectors, base=Base(before, str(other), resolve_model(str(other)).fingerprint))
    assert result.details["meta"]["base"]["dimension"] == 16
    return Index.open(run, encoder=Rows(vectors)), passages, vectors, run


def build(run: Path, passages: list[Passage], vectors: np.ndarray, config: Settings | None = None, **more: Any):
    fingerprint = resolve_model(str(run / "model")).fingerprint
    return build_index(
        config or Settings(), passages, vectors, run / "index", model_fingerprint=fingerprint, model=run / "model",
        seed=1, **more,
    )  # fmt: skip


VALUES: dict[str, Any] = {
    "source": lambda p: p.source, "document": lambda p: p.group, "title": lambda p: p.title, "page": lambda p: p.page,
    "section": lambda p: p.title.split(" > "), "year": lambda p: p.metadata["year"],
    "tags": lambda p: p.metadata["tags"], "signed": lambda p: p.metadata.get("signed"),
    "in force": lambda p: p.metadata["in force"], "client": lambda p: p.metadata["client"],
}  # fmt: skip


def meets(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        low, high = wanted.get("from"), wanted.get("to")
        if value is None:
            return False
        cut = value[: len(high)] if isinstance(high, str) else value
        return (low is None or value >= low) and (high is None or cut <= high)
    several = wanted if isinstance(wanted, list) else [wanted]
    if isinstance(value, list):
        return any(one in several for one in value)
    return value in several


texts = {
    "source": [f"f{n}.pdf" for n in range(13)], "document": ["f1.pdf", "f2.pdf"], "title": ["Act > Part 1", "Act"],
    "section": ["Act", "Part 2", "Part 9"], "tags": ["a", "b", "z"],
    "client": ["O'Hara; DROP", "client 3", "' OR 1=1 --"],
}  # fmt: skip
YEARS = st.integers(2014, 2026)
DATES = [{"from": "2017"}, {"to": "2019-03"}, {"from": "2016-02-03", "to": "2020"}, "2016-02-02", None]
optional = {
    name: st.one_of(st.sampled_from(some), st.lists(st.sampled_from(some), max_size=3)) for name, some in texts.items()
}
optional |= {
    "year": st.one_of(YEARS, st.fixed_dictionaries({"from": YEARS}, optional={"to": YEARS})),
    "page": st.one_of(st.sampled_from([1, 2, 7, None]), st.just({"to": 3})),
    "signed": st.sampled_from(DATES),
    "in force": st.booleans(),
}
conditions = st.fixed_dictionaries({}, optional=optional)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=conditions, query=st.integers(0, COUNT - 1), mode=st.sampled_from(["dense", "words", "hybrid"]))
def test_a_filter_finds_what_a_search_over_the_filtered_corpus_would(made, where, query, mode) -> None:
    index, passages, vectors, _ = made
    kept = [
        row
        for row, one in enumerate(passages)
        if all(meets(VALUES[name](one), wanted) for name, wanted in where.items())
    ]
    text = passages[query].text[:20]
    hits = index.search_vectors(vectors[query : query + 1], 8, queries=[text], mode=mode, where=where)[0]
    assert {int(hit.passage.id[1:]) for hit in hits} <= set(kept)
    scores = np.round(vectors[kept].astype(np.float64) @ vectors[query].astype(np.float64), 6)
    near = np.lexsort((kept, -scores))
    bm25 = BM25(one.content for one in passages).scores(text)
    words = sorted((row for row in kept if bm25[row] > 0), key=lambda row: (-bm25[row], row))
    if mode == "dense":
        expected = [kept[place] for place in near[:8]]
    elif mode == "words":
        expected = words[:8]
    else:
        rankings = [np.array([[kept[place] for place in near[:100]]], int), np.array([words[:100]], int)]
        gains = [0.5 * spread(rankings[0], scores[near[:100]][None]), 0.5 * spread(rankings[1], bm25[rankings[1]])]
        expected = [row for row in add_gains(rankings, gains, 8)[0][0].tolist() if row >= 0]
    assert [int(hit.passage.id[1:]) for hit in hits] == expected


def test_hybrid_is_the_weighted_sum_that_evaluation_measures(made) -> None:
    index, passages, vectors, _ = made
    bm25 = BM25(one.content for one in passages)
    for query in range(0, COUNT, 29):
        text = passages[query].text
        near_scores, near = top_k(vectors[query : query + 1], vectors, 100)
        word_scores, words = bm25.top_k([text], 100)
        gains = [0.5 * spread(near, near_scores), 0.5 * spread(words, word_scores)]
        rows, sums = add_gains([near, words], gains, 10)
        hits = index.search_vectors(vectors[query : query + 1], 10, queries=[text], mode="hybrid")[0]
        assert [int(hit.passage.id[1:]) for hit in hits] == rows[0].tolist()
        assert [hit.score for hit in hits] == pytest.approx(sums[0].tolist(), abs=1e-5)
        for hit in hits:
            row = int(hit.passage.id[1:])
            assert hit.parts["dense"] == pytest.approx(float(vectors[row] @ vectors[query]), abs=1e-5)
            assert hit.parts["words"] == pytest.approx(float(bm25.scores(text)[row]))
            ranked = near[0].tolist()
            assert hit.parts.get("dense_rank") == (ranked.index(row) + 1 if row in ranked else None)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("解除合同", "劳动合同的解除"),
        ("§ 12(b)", "as § 12(b) says"),
        ("2023", "in fiscal 2023"),
        ("5363", "USD 5,363 paid"),
    ],
)
def test_words_find_chinese_sections_and_numbers(tmp_path: Path, query: str, found: str) -> None:
    make_model(tmp_path / "model", b"w")
    others = ["房屋租赁期限", "as § 13(c) says", "in fiscal 2022", "USD 6,111.00", "12 tenants"]
    passages = [Passage(str(row), "", text) for row, text in enumerate([*others, found])]
    build(tmp_path, passages, unit(np.random.default_rng(0).normal(size=(6, DIM))))
    index = Index.open(tmp_path)
    assert index.search(query, mode="words")[0].passage.text == found  # and needs no model for it
    assert index.search("zzz", mode="words") == []


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ({"jurisdiction": "x"}, "no column 'jurisdiction'"),
        ({"page": "7"}, "page is number"),
        ({"source": 7}, "source is text"),
        ({"source": {"from": "a"}}, "no ranges"),
        ({"year": {"after": 3}}, "no range"),
        ({"year": {}}, "no range"),
        ({"year": float("nan")}, "number"),
        ({"in force": 1}, "yes/no"),
        ({"signed": "31/12/2019"}, "signed is a date, '31/12/2019' is none"),
        ({"signed": {"from": "2019", "to": "soon"}}, "'soon' is none"),
        ({"signed": ["2019-01-01", "1"]}, "'1' is none"),
        ({"client": ["a", {"x": 1}]}, "client is text"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(made, where: dict[str, Any], says: str) -> None:
    index = made[0]
    with pytest.raises(InputError, match=says) as caught:
        index.search("3", where=where)
    if "column" in says:
        assert "client" in caught.value.hint and "signed" in caught.value.hint


def test_conditions_of_a_command_line(made) -> None:
    columns = made[0].columns
    assert columns["signed"] == "date" and columns["tags"] == "texts" and columns["year"] == "number"
    pairs = ["source=a=b.pdf", "source=c", "page=3..7", "signed=2019..", "in force=no"]
    assert parse_where(pairs, columns) == {
        "source": ["a=b.pdf", "c"], "page": {"from": 3.0, "to": 7.0}, "signed": {"from": "2019"}, "in force": [False],
    }  # fmt: skip
    for wrong in ("page", "page=x", "nothing=1", "in force=perhaps"):
        with pytest.raises(InputError):
            parse_where([wrong], columns)


def test_neighbours_and_passages_by_id(made) -> None:
    index, passages, _, _ = made
    assert index.passages(["p7", "p0"]) == [passages[7], passages[0]]
    same = [one for one in passages if one.source == passages[33].source]
    assert index.around("p33", 2) == same[1:6]  # p11, p22, p33, p44, p55 of p0, p11, ...
    assert index.around("p0", 1) == same[:2]
    for ask in (lambda: index.passages(["p7", "gone"]), lambda: index.around("gone")):
        with pytest.raises(InputError, match="'gone'"):
            ask()


def test_the_base_model_searches_the_same_passages(made) -> None:
    index, passages, _, _ = made
    base = index.base
    assert base is not None and base.base is None and base.model.endswith("basemodel")
    vector = base.stored_vectors()[5:6]
    assert vector.shape == (1, 16)
    assert base.search_vectors(vector, 3)[0][0].passage == passages[5]
    with pytest.raises(ModelError):
        base.search_vectors(np.ones((1, DIM), np.float32))


def test_dev_queries_choose_the_mode(tmp_path: Path) -> None:
    make_model(tmp_path / "model", b"w")
    vectors = unit(np.random.default_rng(0).normal(size=(40, DIM)))
    passages = [Passage(str(row), "", f"word{row} other") for row in range(40)]
    place = {one.id: row for row, one in enumerate(passages)}
    judged = judgements([{str(row): 1} for row in range(40)], place, 1)
    texts = tuple(f"word{row}" for row in range(40))
    by_words = build(tmp_path, passages, vectors, dev=Dev(texts, unit(-vectors), judged)).details["meta"]
    assert by_words["mode"] == "words" and by_words["dev"]["words"] == 1.0 and by_words["dev"]["queries"] == 40
    assert Index.open(tmp_path).search("word3", 1)[0].parts["words_rank"] == 1
    nothing = tuple("nothing" for _ in texts)
    by_vectors = build(tmp_path, passages, vectors, dev=Dev(nothing, vectors, judged)).details["meta"]
    assert by_vectors["mode"] == "dense" and by_vectors["dev"]["dense"] == 1.0
    half = tuple(text if row % 2 else "nothing" for row, text in enumerate(texts))
    mixed = np.where(np.arange(40)[:, None] % 2 == 0, vectors, unit(-vectors)).astype(np.float32)
    both = build(tmp_path, passages, vectors, dev=Dev(half, mixed, judged)).details["meta"]
    assert both["mode"] == "hybrid" and both["dev"]["hybrid"] > max(both["dev"]["dense"], both["dev"]["words"])


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), copies=st.integers(1, 5), k=st.integers(1, 30), fast=st.booleans())
def test_codes_give_what_exact_search_gives(tmp_path_factory, seed: int, copies: int, k: int, fast: bool) -> None:
    importlib.import_module("torch")  # where it is loaded, it is used
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(6, DIM))
    some = unit(centres[rng.integers(6, size=60)] + 0.01 * rng.normal(size=(60, DIM)))  # near one another
    vectors = np.concatenate([some] * copies)
    folder = tmp_path_factory.mktemp("codes")
    np.save(folder / "v.npy", vectors)
    write_codes(folder, "v", vectors, DIM)
    dense = Dense(folder, "v")
    dense._product = (_fast_product if fast else None,)
    queries = np.concatenate([some[:4], unit(rng.normal(size=(3, DIM)))])
    scores, rows = dense.best(queries, k)
    expected_scores, expected = top_k(queries, vectors, k)
    assert rows.tolist() == expected.tolist()
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)
    mask = rng.random(len(vectors)) < 0.2
    kept = np.flatnonzero(mask)
    _, masked = dense.best(queries, k, mask)
    _, among = top_k(queries, vectors[kept], k) if len(kept) else (None, np.zeros((len(queries), 0), int))
    assert [[row for row in one if row >= 0] for one in masked.tolist()] == kept[among].tolist()


def test_a_small_product_is_made_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    multiply, before = torch._int_mm, torch.get_num_threads()
    threads: list[int] = []
    monkeypatch.setattr(torch, "_int_mm", lambda *both: (threads.append(torch.get_num_threads()), multiply(*both))[1])
    monkeypatch.setattr("fieldtune.index.dense._ALONE", 3 * 50 * 16)
    codes = np.random.default_rng(0).integers(-127, 127, (54, 16), dtype=np.int8)
    torch.set_num_threads(2)
    try:
        for count in (3, 4):
            found = _fast_product(codes[:count], codes[4:])
            assert np.array_equal(found, codes[:count].astype(int) @ codes[4:].T.astype(int))
        assert (threads, torch.get_num_threads()) == ([1, 2], 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("masked", [False, True])
def test_of_equal_passages_a_block_at_a_time_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, masked: bool
) -> None:
    vectors = np.tile(unit(np.random.default_rng(0).normal(size=(2, DIM))), (500, 1))
    np.save(tmp_path / "v.npy", vectors)
    write_codes(tmp_path, "v", vectors, DIM)
    dense = Dense(tmp_path, "v")
    dense._product = (_fast_product,)
    monkeypatch.setattr("fieldtune.index.dense._BLOCK", 64)
    gathered: list[int] = []
    plain = Dense.scores
    monkeypatch.setattr(
        Dense, "scores", lambda self, query, rows: (gathered.append(len(rows)), plain(self, query, rows))[1]
    )
    mask = np.arange(1_000) >= 300 if masked else None
    rows = dense.best(vectors[:2], 10, mask)[1]
    begin = 300 if masked else 0
    assert rows.tolist() == [list(range(begin, begin + 20, 2)), list(range(begin + 1, begin + 20, 2))]
    assert max(gathered) <= 64


def test_int8_and_cut_vectors_are_settled_by_full_ones_and_measured(tmp_path: Path) -> None:
    make_model(tmp_path / "model", b"w")
    rng = np.random.default_rng(2)
    strength = np.concatenate([np.ones(16), np.full(48, 0.15)])  # as Matryoshka training orders dimensions
    vectors = unit(rng.normal(size=(4_000, 64)) * strength)
    passages = [Passage(str(row), "", f"t{row}") for row in range(4_000)]
    place = {one.id: row for row, one in enumerate(passages)}
    asked = unit(vectors[::40] + 0.05 * rng.normal(size=(100, 64)) * strength)
    dev = Dev(tuple("x" for _ in asked), asked, judgements([{str(row * 40): 1} for row in range(100)], place, 1))
    truth = top_k(asked, vectors, 10)[1]
    recalls = {}
    for size in (0, 16):
        result = build(tmp_path, passages, vectors, Settings(vectors="int8", dimensions=size, rescore=5), dev=dev)
        meta = result.details["meta"]
        assert meta["bytes_per_passage"] == {"scanned": (size or 64) + 8, "on disk": 256}
        found = Index.open(tmp_path).search_vectors(asked, 10)
        hit = [
            len({int(one.passage.id) for one in hits} & set(row))
            for hits, row in zip(found, truth.tolist(), strict=True)
        ]
        recalls[size] = sum(hit) / 1000
        assert meta["recall@10"] == pytest.approx(recalls[size], abs=0.002)
        assert any("int8" in note and "100 queries" in note for note in result.notes)
        assert found[0][0].score == pytest.approx(float(vectors[truth[0, 0]] @ asked[0]), abs=1e-5)  # not rounded
    assert recalls[0] == 1.0 and recalls[16] > 0.9
    build(tmp_path, passages, vectors, Settings(dimensions=16), dev=dev)
    index = Index.open(tmp_path)
    cut = unit(vectors[:, :16])
    expected = top_k(unit(asked[:, :16]), cut, 10)[1]
    assert [[int(hit.passage.id) for hit in hits] for hits in index.search_vectors(asked, 10)] == expected.tolist()
