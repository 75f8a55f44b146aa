from __future__ import annotations

import math
import tracemalloc

import bm25s
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune import lexical
from fieldtune.lexical import BM25, STOP_WORDS, tokenize


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Net sales of $5,363 in 2023", ["net", "sale", "of", "5363", "in", "2023"]),
        ("$1,234,567.89, or 5363.", ["1234567.89", "or", "5363"]),
        ("1,2,3 and 12,34", ["1", "2", "3", "and", "12", "34"]),
        ("Under § 12.3(b)(ii) only", ["under", "§", "12.3", "12.3(b)", "12.3(b)(ii)", "only"]),
        ("Rule 10b-5, 12(b) 10-K", ["rule", "10b", "5", "12", "12(b)", "10", "k"]),
        ("E11.9 COVID-19, 3rd", ["e11", "e11.9", "covid", "19", "3rd"]),
        ("the lessee's policies, losses and diabetes", ["the", "lessee", "policy", "losse", "and", "diabete"]),
        ("the lessee’s naïve Straße", ["the", "lessee", "naïve", "straße"]),
        ("第五十条规定", ["第五", "五十", "十条", "条规", "规定"]),
        ("第50条，甲。", ["第", "50", "条", "甲"]),
        ("甲方ABC公司", ["甲方", "abc", "公司"]),
        ("ＡＢＣ １２３", ["abc", "123"]),
        ("12345abc", ["12345abc"]),
        ("", []),
        ("— … !", []),
    ],
)
def test_tokens(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


@given(st.text(max_size=60))
def test_any_text_gives_lower_case_tokens_without_spaces(text: str) -> None:
    for token in tokenize(text):
        assert token
        assert not any(character.isspace() for character in token)
        assert tokenize(token.upper()) is not None


@given(st.text(alphabet="abs 019.,()§'e", max_size=40))
def test_ascii_text_is_read_the_same_way_with_a_foreign_character_beside_it(text: str) -> None:
    text = text.replace("§", "")
    assert [*tokenize(text), "中"] == tokenize(text + " 中")


def test_scores_are_lucenes_formula() -> None:
    texts = ["loan loan covenant", "loan agreement", "weather report today"]
    scores = BM25(texts, k1=1.2, b=0.75).scores("the loans")
    average = 8 / 3
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    expected = [idf * tf / (tf + 1.2 * (0.25 + 0.75 * length / average)) for tf, length in ((2, 3), (1, 2), (0, 3))]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_scores_are_those_of_bm25s() -> None:
    rng = np.random.default_rng(0)
    vocabulary = [f"w{n}" for n in range(400)]
    texts = [" ".join(rng.choice(vocabulary, rng.integers(0, 60))) for _ in range(9_000)]  # more than one block
    ids = {word: place for place, word in enumerate(vocabulary)}
    other = bm25s.BM25(k1=1.2, b=0.75)
    other.index(([[ids[word] for word in text.split()] for text in texts], ids), False, show_progress=False)
    ours = BM25(texts)
    for query in ("w1", "w7 w8 w399", "w5 w5 unknown"):
        theirs = other.get_scores_from_ids([ids[word] for word in query.split() if word in ids])
        np.testing.assert_allclose(ours.scores(query), theirs, rtol=1e-5)
        assert ours.scores(query).max() > 1


def test_of_a_passage_the_postings_take_most_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexical, "_TOGETHER", 256)
    words = np.array([f"w{number}" for number in range(800)])
    texts = [" ".join(row) for row in words[np.random.default_rng(0).integers(0, 800, (6_000, 60))]]
    BM25(texts[:200])
    tracemalloc.start()
    try:
        index = BM25(iter(texts))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = sum(part.nbytes for part in index._postings)
    assert size > 2_500_000 and most < 2.2 * size


def test_a_word_that_stands_often_in_a_passage_is_counted_whole() -> None:
    counts = np.array([1, 255, 256, 70_000])
    texts = [" ".join(["w"] * count + ["v"] * (70_000 - count)) for count in counts.tolist()] + ["v"] * 5_000
    lengths = np.array([70_000] * 4 + [1] * 5_000)
    crowd = 1.2 * (0.25 + 0.75 * lengths[:4] / lengths.mean())
    expected = math.log1p((5_004 - 4 + 0.5) / 4.5) * counts / (counts + crowd)
    np.testing.assert_allclose(BM25(texts).scores("w")[:5], [*expected, 0], rtol=1e-6)


def test_best_first_ties_by_lower_index_and_nothing_without_a_shared_word() -> None:
    index = BM25(["x alpha", "beta", "y alpha", "alpha alpha", "z alpha"])
    scores, found = index.top_k(["alpha", "gamma", "beta alpha"], 3)
    assert found[0].tolist() == [3, 0, 2]
    assert scores[0, 1] == scores[0, 2] < scores[0, 0]
    assert found[1].tolist() == [-1, -1, -1]
    assert scores[1].tolist() == [0, 0, 0]
    assert found[2].tolist() == [1, 3, 0]


def test_more_asked_than_there_is() -> None:
    scores, found = BM25(["alpha", "beta"]).top_k(["alpha"], 5)
    assert found.tolist() == [[0, -1, -1, -1, -1]]
    assert scores.shape == (1, 5)


@pytest.mark.parametrize("texts", [["", " "], ["the of and"]])
def test_a_corpus_without_a_word_finds_nothing(texts: list[str]) -> None:
    assert (BM25(texts).top_k(["the alpha"], 2)[1] == -1).all()


def test_top_k_is_the_head_of_the_full_ranking() -> None:
    generator = np.random.default_rng(5)
    words = [f"w{number}" for number in range(30)]
    texts = [" ".join(generator.choice(words, 8)) for _ in range(300)]
    index = BM25(texts)
    query = "w1 w2 w3 w29"
    full = index.scores(query)
    ranking = np.argsort(-full, kind="stable")[:20]
    scores, found = index.top_k([query], 20)
    assert found[0].tolist() == ranking.tolist()
    assert scores[0].tolist() == full[ranking].tolist()


def test_stop_words_are_spelt_as_the_tokenizer_spells_them() -> None:
    assert all(len(tokenize(word)) == 1 for word in STOP_WORDS)
    assert BM25(["what is the loan"]).top_k(["what is the"], 1)[1].tolist() == [[-1]]
