from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from fieldtune.beir import load_beir
from fieldtune.config import Teacher, make_config
from fieldtune.dataset import build_dataset, read_examples
from fieldtune.dataset.candidates import Ranked
from fieldtune.dataset.known import Known
from fieldtune.dataset.mining import nothing_mined
from fieldtune.dataset.sampling import sample_bands
from fieldtune.dataset.scorers import Pair, Scorer
from fieldtune.dataset.teacher import teach
from fieldtune.encoding import Encoder
from fieldtune.errors import ConfigError
from fieldtune.types import Example
from fieldtune.workspace import read_json


def known(queries: int, passages: int, **others: object) -> Known:
    given = {
        "query_ids": [f"q{n}" for n in range(queries)], "queries": ["x"] * queries, "styles": ["human"] * queries,
        "passage_ids": [f"p{n}" for n in range(passages)], "texts": ["x"] * passages, "groups": [""] * passages,
        "positives": [[0]] * queries, "irrelevant": [[]] * queries, "partly": [[]] * queries, "twins": {},
        "held": frozenset(),
    }  # fmt: skip
    return Known(**(given | others))  # type: ignore[arg-type]


def ranked(rows: np.ndarray) -> Ranked:
    return Ranked(rows, np.zeros(rows.shape, np.float32))


def test_passages_are_drawn_from_each_band_and_from_the_rest() -> None:
    what = known(40, 1_000, held=frozenset({1, 500}), partly=[[2]] * 40)
    order = np.arange(200)
    drawn = sample_bands(
        what, nothing_mined(what), lambda a, b: ranked(np.tile(order, (b - a, 1))), Teacher(ranks=(10, 50, 200)), 3
    )
    assert drawn != [drawn[0]] * 40  # each query draws for itself
    for rows in drawn:
        assert [sum(low <= row < high for row in rows) for low, high in ((0, 10), (10, 50), (50, 200))] == [2, 2, 2]
        assert 1 <= sum(row >= 200 for row in rows) <= 2
        assert not {0, 1, 2, 500} & set(rows)
    again = sample_bands(
        what,
        nothing_mined(what),
        lambda a, b: ranked(np.tile(order, (b - a, 1))),
        Teacher(ranks=(10, 50, 200)),
        3,
        block=7,
    )
    assert again == drawn


def test_a_corpus_smaller_than_the_bands_gives_what_there_is() -> None:
    what = known(1, 3)
    drawn = sample_bands(what, nothing_mined(what), lambda a, b: ranked(np.array([[2, 0, 1, -1]])), Teacher(), 0)
    assert sorted(drawn[0]) == [1, 2]


def test_ranks_must_rise() -> None:
    with pytest.raises(ConfigError, match="higher than the one before"):
        make_config({"teacher": {"ranks": [50, 10]}})


def fake(scores: dict[str, float], limit: int = 512) -> Scorer:
    def score(pairs: Sequence[Pair]) -> Iterator[tuple[Sequence[int], Sequence[float]]]:
        yield range(len(pairs)), [scores[text] for _, text in pairs]

    return Scorer(
        "judge", "cross-encoder", "f", "logit", limit, "fp32", lambda pairs: np.array([len(p) for _, p in pairs]), score
    )


ROWS = [
    Example("q1", ("good",), ("bad", "silent"), (0.1,), (0.2, 0.3)),
    Example("q2", ("silent",), ("bad",), (0.1,), (0.2,)),
]


def test_the_teachers_scores_take_the_place_of_others_and_what_has_none_is_counted(tmp_path: Path) -> None:
    taught = teach(ROWS, fake({"good": 5.0, "bad": -3.0, "silent": math.nan}), 256, tmp_path)
    assert taught.examples == [
        Example("q1", ("good",), ("bad",), (5.0,), (-3.0,)),
        Example("q2", ("silent",), ("bad",)),
    ]
    assert list(taught.dropped.values()) == [1, 1]
    assert taught.record["kind"] == "cross-encoder"
    assert taught.record["positives (lowest, median, highest)"] == [5.0, 5.0, 5.0]
    assert "100% of 1 rows" in taught.notes[0]


def test_a_teacher_that_reads_less_than_a_passage_is_named(tmp_path: Path) -> None:
    scores = {"good": 1.0, "bad": 0.0, "silent": 0.0}
    notes = " ".join(teach(ROWS, fake(scores, limit=4), 256, tmp_path).notes)
    assert "reads 4 tokens" in notes
    assert "2 of 5 pairs are longer" in notes
    assert "reads" not in " ".join(teach(ROWS, fake(scores), 256, tmp_path).notes)


def test_a_teacher_worse_than_chance_is_told(tmp_path: Path) -> None:
    assert "no stronger teacher" in " ".join(
        teach(ROWS, fake({"good": 0.0, "bad": 1.0, "silent": 0.0}), 9, tmp_path).notes
    )


def test_the_dataset_carries_scores_record_and_rows_that_training_leaves_aside(
    tiny_model: str, tiny_reranker: str, tiny_beir: Path, tmp_path: Path
) -> None:
    settings = {"teacher": {"model": tiny_reranker, "ranks": [5, 20]}, "negatives": {"per_query": 2, "depth": 20}}
    config = make_config(settings)
    result = build_dataset(
        config, load_beir(tiny_beir), {}, Encoder.load(tiny_model), tmp_path / "data", tmp_path / "vectors"
    )
    record = read_json(tmp_path / "data" / "teacher.json")
    assert (record["kind"], record["scale"], record["max_tokens"]) == ("cross-encoder", "logit", 32)
    rows = read_examples(tmp_path / "data" / "train.jsonl")
    from fieldtune.training.pairs import make_pairs

    pairs = make_pairs(rows)
    for row in rows:
        assert len(row.neg_scores) == len(row.neg)
        assert len(row.pos_scores) == len(row.pos)
        hard = [text for text in row.neg if text not in row.known]
        assert len(hard) <= 2 < len(row.neg)
        assert len(pairs.negatives[pairs.queries.index(row.query)]) == len(hard)
    assert result.counts["scored for the teacher alone"] == sum(len(row.neg) for row in rows) - sum(
        len(pairs.negatives[pairs.queries.index(row.query)]) for row in rows
    )
    # Nothing is scored twice by another run in the same place.
    cache = next((tmp_path / "data" / "cache").glob("scores-*.tsv"))
    before = cache.read_bytes()
    build_dataset(config, load_beir(tiny_beir), {}, Encoder.load(tiny_model), tmp_path / "data", tmp_path / "vectors")
    assert cache.read_bytes() == before


def test_positives_that_the_check_finds_go_to_train_alone(
    tiny_model: str, tiny_reranker: str, tiny_beir: Path, tmp_path: Path
) -> None:
    plain, checked = (tmp_path / name for name in ("plain", "checked"))
    loose = {"check": tiny_reranker, "check_margin": -1.0, "check_confirm": 0.5, "depth": 30}
    for folder, negatives in ((plain, {"depth": 30}), (checked, loose)):
        config = make_config({"negatives": negatives})
        result = build_dataset(config, load_beir(tiny_beir), {}, Encoder.load(tiny_model), folder, tmp_path / "vectors")
    before, after = load_beir(plain), load_beir(checked)
    assert after.qrels["dev"] == before.qrels["dev"]
    assert after.qrels["test"] == before.qrels["test"]
    added = {
        (query, passage)
        for query, grades in after.qrels["train"].items()
        for passage in grades
        if passage not in before.qrels["train"][query]
    }
    assert len(added) == result.counts["positives found by the check"] > 0
    held = {p for side in ("dev", "test") for row in before.qrels[side].values() for p in row}
    assert not held & {passage for _, passage in added}
    rows = {row.query: row for row in read_examples(checked / "train.jsonl")}
    for query, passage in added:
        assert after.passages[passage].content in rows[after.queries[query].text].pos
        assert after.passages[passage].content not in rows[after.queries[query].text].neg
