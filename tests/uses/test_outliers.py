from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from uses_terms import CHAPTERS, Terms

from fieldtune.errors import InputError
from fieldtune.uses import outliers
from fieldtune.uses.files import Columns, outliers_file


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def area_under_curve(scores: list[float], odd: list[bool]) -> float:
    """The chance that an odd record scores above an ordinary one."""
    a, b = (np.array([s for s, o in zip(scores, odd, strict=True) if o is side]) for side in (True, False))
    return float((a[:, None] > b).mean() + (a[:, None] == b).mean() / 2)


def test_terms_of_another_chapter_are_found_among_a_chapters_own(icd: Terms) -> None:
    # The last twelve are of chapters that have no drawer here; three go into each.
    kinds = [*icd.chapters[:240], *(chapter for chapter in CHAPTERS for _ in range(3))]
    found = outliers(icd.terms, icd.vectors, kinds)
    planted = {record.row: record for record in found.records if record.row >= 240}
    assert area_under_curve([r.score for r in found.records], [r.row >= 240 for r in found.records]) > 0.75
    share = {side: np.mean([r.odd for r in found.records if (r.row >= 240) is side]) for side in (True, False)}
    assert share[False] < 0.05
    assert share[True] > 3 * share[False]
    assert len(planted) == 12


def test_a_record_in_the_wrong_drawer_is_said_to_belong_to_the_other(icd: Terms) -> None:
    kinds = list(icd.chapters[:240])
    moved = list(range(0, 240, 30))  # two of each chapter
    for row in moved:
        kinds[row] = CHAPTERS[(CHAPTERS.index(kinds[row]) + 1) % 4]
    found = outliers(icd.terms[:240], icd.vectors[:240], kinds)
    assert area_under_curve([r.score for r in found.records], [r.row in moved for r in found.records]) > 0.85
    named = {record.row: record.looks_like for record in found.records}
    assert np.mean([named[row] == icd.chapters[row] for row in moved]) > 0.6


def test_up_to_half_of_a_kind_may_be_odd_and_copies_do_not_cover() -> None:
    rng = np.random.default_rng(0)
    good = unit(np.eye(6)[[0] * 30] + 0.1 * rng.standard_normal((30, 6)))
    bad = unit(np.eye(6)[[1]] + np.zeros((5, 6)))
    texts = [f"payment {n}" for n in range(30)] + ["odd one"] * 5
    found = outliers(texts, np.concatenate([good, bad]), ["k"] * 35)
    assert {record.row for record in found.odd} >= set(range(30, 35))
    assert {record.row for record in found.records[:5]} == set(range(30, 35))
    assert all(record.looks_like == "" for record in found.records)
    assert found.threshold == pytest.approx(2.326, abs=0.001)


def test_ordinary_records_alone_give_few_alarms() -> None:
    rng = np.random.default_rng(1)
    vectors = unit(np.eye(8)[[0] * 400] + 0.3 * rng.standard_normal((400, 8)))
    found = outliers([f"t{n}" for n in range(400)], vectors, ["a"] * 400)
    assert len(found.odd) <= 0.05 * 400


def test_small_kinds_are_named_not_judged() -> None:
    vectors = unit(np.random.default_rng(0).standard_normal((25, 4)))
    found = outliers([f"t{n}" for n in range(25)], vectors, ["large"] * 20 + ["small"] * 5)
    assert found.too_small == {"small": 5}
    assert len(found.records) == 20
    with pytest.raises(InputError, match="no kind has 10"):
        outliers(["same"] * 25, vectors, ["one"] * 25)
    with pytest.raises(InputError, match="no share of false alarms"):
        outliers([f"t{n}" for n in range(25)], vectors, [""] * 25, false_alarms=0.7)


def test_from_table_to_table(tiny_model: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = {"medicine": "fever cough asthma insulin fracture", "law": "lease rent tenant eviction landlord"}
    rows = [
        {"text": " ".join(rng.permutation(words[kind].split())) + f" {n}", "drawer": kind}
        for kind in words
        for n in range(20)
    ]
    rows.append({"text": "fever cough insulin 7", "drawer": "law"})
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    outliers_file(tmp_path / "t.jsonl", Columns("text", "drawer"), tiny_model, tmp_path / "o.jsonl")
    first = json.loads((tmp_path / "o.jsonl").read_text().splitlines()[0])
    assert (first["line"], first["odd"], first["looks_like"]) == (41, "yes", "medicine")
