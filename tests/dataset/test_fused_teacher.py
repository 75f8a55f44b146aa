"""BM25 and the base model as a teacher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fieldtune.beir import load_beir
from fieldtune.config import make_config
from fieldtune.dataset import build_dataset, read_examples
from fieldtune.dataset.candidates import Ranked
from fieldtune.dataset.fused_teacher import fused_scores, labels_first
from fieldtune.dataset.known import Known
from fieldtune.encoding import Encoder
from fieldtune.lexical import BM25
from fieldtune.training.losses.choice import choose, shape_of
from fieldtune.training.pairs import make_pairs
from fieldtune.workspace import read_json

TEXTS = [
    "the tenant pays rent each month", "the landlord keeps the deposit", "the deposit is paid back within a month",
    "a court decides on costs", "costs of the month", "nothing of this kind",
]  # fmt: skip


def known(queries: list[str]) -> Known:
    count = len(queries)
    return Known(
        query_ids=[f"q{n}" for n in range(count)], queries=queries, styles=["human"] * count,
        passage_ids=[f"p{n}" for n in range(len(TEXTS))], texts=TEXTS, groups=[""] * len(TEXTS),
        positives=[[0]] * count, irrelevant=[[]] * count, partly=[[]] * count, twins={}, held=frozenset(),
    )  # fmt: skip


def listed(rows: np.ndarray) -> Ranked:
    return Ranked(rows, np.zeros(rows.shape, np.float32))


def unit(rng: np.random.Generator, count: int) -> np.ndarray:
    vectors = rng.normal(size=(count, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_scores_are_both_parts_scaled_by_the_candidates(share: float) -> None:
    queries = ["deposit back", "rent each month", "costs of a court"]
    what, rng = known(queries), np.random.default_rng(3)
    asked, there = unit(rng, len(queries)), unit(rng, len(TEXTS))
    ranked = np.array([[2, 1, 4, -1], [0, 4, 2, 1], [3, 4, -1, -1]])
    wanted = [[2, 5], [0, 1, 3], []]
    found = fused_scores(what, wanted, lambda a, b: listed(ranked[a:b]), asked, there, word_share=share, block=2)
    words = BM25(TEXTS)
    for query, rows in enumerate(wanted):
        near = [row for row in ranked[query] if row >= 0]
        cosines, counted = there @ asked[query], words.scores(queries[query])
        low, high = cosines[near].min(), cosines[near].max()
        right = [
            (1 - share) * (cosines[row] - low) / (high - low) + share * counted[row] / counted[near].max()
            for row in rows
        ]
        assert found[query] == pytest.approx(right, abs=1e-4)


def test_no_shared_word_and_one_candidate_are_no_division_by_zero() -> None:
    what, rng = known(["zebra"]), np.random.default_rng(3)
    vectors = unit(rng, len(TEXTS))
    for ranked in ([[4]], [[-1]]):
        (found,) = fused_scores(
            what, [[0, 1]], lambda a, b, r=ranked: listed(np.array(r)), vectors[:1], vectors, word_share=0.5
        )
        assert np.isfinite(found).all()


def test_a_label_counts_no_less_than_any_other_passage() -> None:
    assert labels_first([0.2, 0.9], [0.5, 0.1]) == (0.5, 0.9)
    assert labels_first([0.2], []) == (0.2,)


def test_the_rows_carry_its_scores_and_training_follows_them(tiny_beir: Path, tiny_model: str, tmp_path: Path) -> None:
    settings = {"seed": 5, "model": {"base": tiny_model}, "teacher": {"model": "fused", "ranks": [5, 20]}}
    config = make_config(settings)
    encoder = Encoder.load(tiny_model)
    result = build_dataset(config, load_beir(tiny_beir), {}, encoder, tmp_path / "data", tmp_path / "vectors")
    record = read_json(tmp_path / "data" / "teacher.json")
    assert record["kind"] == "fused" and record["model"] == tiny_model
    assert result.counts["scored for the teacher alone"] > 0
    examples = read_examples(tmp_path / "data" / "train.jsonl")
    assert all(len(one.neg_scores) == len(one.neg) >= 2 for one in examples)
    assert all(min(one.pos_scores) >= max(one.neg_scores) for one in examples)
    assert len({score for one in examples for score in one.neg_scores}) > len(examples)
    assert choose("auto", shape_of(make_pairs(examples), record["kind"])) == "kl"
