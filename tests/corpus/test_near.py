from __future__ import annotations

import os
import random
import subprocess
import sys
import time

import pytest

from fieldtune.corpus.near import near_duplicate_groups, near_duplicate_pairs
from fieldtune.corpus.shingling import jaccard, shingle_arrays, shingles


def sentence(rng: random.Random, size: int = 80) -> list[str]:
    return [f"w{rng.randrange(5_000)}" for _ in range(size)]


def test_shingles_are_three_words_or_three_chinese_characters() -> None:
    assert len(shingles("one two three four")) == 2
    assert len(shingles("当事人应当")) == 3
    assert shingles("One,  TWO three") == shingles("one two three")
    assert shingles("$5,363 in cash") != shingles("$5,364 in cash")
    assert len(shingles("two words")) == len(shingles("one")) == 1
    assert shingles(" … ") == frozenset()
    assert jaccard(shingles("a b c d"), shingles("b c d e")) == pytest.approx(1 / 3)
    assert jaccard(frozenset(), frozenset()) == 0.0


def test_the_hashes_are_the_same_in_every_process() -> None:
    code = "from fieldtune.corpus.shingling import shingles; print(sorted(shingles('the same in 每个 process')))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert printed == {f"{sorted(shingles('the same in 每个 process'))}\n".encode()}


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9])
def test_pairs_agree_with_comparing_everything(threshold: float) -> None:
    rng = random.Random(5)
    texts = []
    for _ in range(60):
        words = sentence(rng)
        texts.append(" ".join(words))
        for changes in (1, 3, 8, 20):
            other = list(words)
            for _ in range(changes):
                other[rng.randrange(len(other))] = "changed"
            texts.append(" ".join(other))
    sets = [shingles(text) for text in texts]
    wanted = {(i, j) for j in range(len(sets)) for i in range(j) if jaccard(sets[i], sets[j]) >= threshold}
    found = list(near_duplicate_pairs(list(shingle_arrays(texts)), threshold, seed=3))
    assert {(i, j) for i, j, _ in found} <= wanted
    assert len(found) >= 0.99 * len(wanted) > 50
    assert found == sorted(found)
    assert all(similarity == pytest.approx(jaccard(sets[i], sets[j])) for i, j, similarity in found)


def test_groups_join_chains_and_equal_texts_and_leave_out_empty_ones() -> None:
    base = [f"w{n}" for n in range(100)]
    near = [*base[:50], "x", *base[51:]]
    nearer = [*near[:20], "y", *near[21:]]
    texts = ["", " ".join(base), "alone in the world", " ".join(nearer), " ".join(near), " ".join(base), ""]
    assert near_duplicate_groups(texts, 0.9, seed=0) == [[1, 3, 4, 5]]
    assert near_duplicate_groups([], 0.9, seed=0) == near_duplicate_groups(["a b c"], 0.9, seed=0) == []


def test_a_crowd_of_equal_and_like_texts_is_no_square() -> None:
    rng = random.Random(1)
    form = sentence(rng, 60)
    crowd = [" ".join([*form, f"name{n % 1_500}"]) for n in range(6_000)]
    start = time.perf_counter()
    groups = near_duplicate_groups(crowd, 0.9, seed=0)
    assert [len(group) for group in groups] == [6_000]
    assert time.perf_counter() - start < 20
