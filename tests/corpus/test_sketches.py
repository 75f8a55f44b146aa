from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.corpus import shingling, sketches
from fieldtune.corpus.shingling import jaccard, shingle_arrays, shingles, words
from fieldtune.corpus.sketches import Sketches

HARD = [
    "", " … ", "one", "two words", "three short words", "当事人应当在合理期限内通知", "$5,363 in cash",
    "1.2.3 4..5 ,6, 7.", "café Straße ǅ x_y²３４ ﬁn", "\ud800abc \U0001f600x \U00020000当 z", "a\nb\n\nc 1,\n2",
    "第12条 3,400.5元 abc123def",
]  # fmt: skip


def by_words(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    found += [""] * (3 - len(found) if found else 0)
    return {tuple(found[at : at + 3]) for at in range(len(found) - 2)}


def same_as_by_words(texts: list[str]) -> None:
    """Equal texts of words have equal hashes and others not, whatever stands beside them."""
    hashes: dict[tuple[str, ...], int] = {}
    for text, found in zip(texts, shingle_arrays(texts), strict=True):
        wanted = by_words(text)
        assert len(found) == len(wanted)
        assert np.array_equal(found, np.unique(found))
        assert set(found.tolist()) == shingles(text)
        for one in wanted:
            hashes.setdefault(one, min(shingles(" ".join(one))))
    assert len(set(hashes.values())) == len(hashes)
    assert set().union(*map(shingles, texts)) == set(hashes.values())


def test_shingles_are_runs_of_the_words_of_each_text() -> None:
    same_as_by_words(HARD)


@given(st.lists(st.text(alphabet="ab1 ,.当事é_\n٣²", max_size=30), min_size=1, max_size=6))
def test_any_texts_give_the_runs_of_their_words(texts: list[str]) -> None:
    for text, found in zip(texts, shingle_arrays(texts), strict=True):
        assert len(found) == len(by_words(text))
        assert set(found.tolist()) == shingles(text)


def test_a_text_of_any_length_is_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(f"w{n % 900}" for n in range(2_000)), "a b c d"]
    whole = list(shingle_arrays(texts))
    monkeypatch.setattr(shingling, "_BLOCK", 50)
    for one, other in zip(whole, shingle_arrays(texts), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("threshold", [0.3, 0.8, 1.0])
@pytest.mark.parametrize("separator", [" ", ""])
def test_sketches_say_what_comparing_says(threshold: float, separator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketches, "_KEPT", 7)
    draw = random.Random(3)
    letters = [f"w{n}" for n in range(400)] if separator else [chr(0x4E00 + n) for n in range(400)]
    texts = ["", "zz zz"]
    for size in (3, 40, 300):
        for _ in range(8):
            form = draw.choices(letters, k=size)
            texts.append(separator.join(form))
            for changes in (1, size // 20 + 1, size // 4):
                other = list(form)
                for _ in range(changes):
                    other[draw.randrange(size)] = draw.choice(letters)
                texts.append(separator.join(other))
    pairs = np.array([(i, j) for i in range(len(texts)) for j in range(i)])
    sets = list(map(shingles, texts))
    found = Sketches(texts, threshold).near(pairs[:, 0], pairs[:, 1])
    assert found.tolist() == [jaccard(sets[i], sets[j]) >= threshold for i, j in pairs.tolist()]
    assert threshold == 1.0 or 10 < found.sum() < len(pairs) // 2


def test_equal_texts_are_near_whether_or_not_they_have_words() -> None:
    texts = ["—", "—", "…", "", "", "rent", "rent"]
    one, other = np.triu_indices(len(texts), 1)
    found = Sketches(texts, 0.8).near(one, other)
    assert [(a, b) for a, b in zip(one[found].tolist(), other[found].tolist(), strict=True)] == [(0, 1), (3, 4), (5, 6)]


def test_most_pairs_need_no_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(1)
    texts = [" ".join(draw.choices([f"w{n}" for n in range(300)], k=150)) for _ in range(60)]
    compared: list[str] = []
    monkeypatch.setattr(sketches, "shingles", lambda text: compared.append(text) or shingles(text))
    one, other = np.triu_indices(60, 1)
    assert not Sketches(texts, 0.8).near(one, other).any()
    assert not compared
