from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from fieldtune.config import Llm
from fieldtune.dataset.scorers import Pair, Scorer, open_scorer, scorer_fingerprint
from fieldtune.dataset.scoring import score_pairs
from fieldtune.errors import ConfigError, ModelError

PAIRS = [("what ends lease", f"rent covers deposit {'notice ' * n}{n}") for n in range(12)]


def counting(calls: list[int], stop_after: int = 10**9) -> Scorer:
    """Scores a pair by its passage's length, two at a time; dies after so many batches."""

    def score(pairs: Sequence[Pair]) -> Iterator[tuple[Sequence[int], Sequence[float]]]:
        for begin in range(0, len(pairs), 2):
            if len(calls) >= stop_after:
                raise KeyboardInterrupt
            rows = list(range(begin, min(begin + 2, len(pairs))))
            calls.extend([len(rows)])
            yield rows, [math.nan if pairs[row][1] == "no answer" else len(pairs[row][1]) / 7 for row in rows]

    def lengths(pairs: Sequence[Pair]) -> np.ndarray:
        return np.array([len(text.split()) for _, text in pairs])

    return Scorer("counting", "cross-encoder", "abc", "logit", 8, "fp32", lengths, score)


def test_a_killed_run_scores_nothing_twice_and_ends_with_the_same_scores(tmp_path: Path) -> None:
    whole = score_pairs(counting([]), PAIRS, tmp_path / "calm", "x")
    calls: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        score_pairs(counting(calls, stop_after=3), PAIRS, tmp_path / "cut", "x")
    path = next((tmp_path / "cut").glob("scores-*.tsv"))
    path.write_bytes(path.read_bytes()[:-3])  # the kill came while a line was written
    again = score_pairs(counting(calls), PAIRS, tmp_path / "cut", "x")
    assert again.values == whole.values
    assert sum(calls) == 12 + 1  # the one whose line was cut
    assert again.cached == 5
    assert score_pairs(counting(calls), PAIRS, tmp_path / "cut", "x").cached == 12
    assert sum(calls) == 12 + 1


def test_equal_pairs_are_scored_once_and_no_answer_is_asked_again(tmp_path: Path) -> None:
    calls: list[int] = []
    pairs = [("q", "a b"), ("q", "no answer"), ("q", "a b"), ("q2", "a b")]
    found = score_pairs(counting(calls), pairs, tmp_path, "x")
    assert sum(calls) == 3
    assert found.distinct == 3
    assert math.isnan(found.values[1])
    assert found.values[0] == found.values[2] == round(3 / 7, 5)
    score_pairs(counting(calls), pairs, tmp_path, "x")
    assert sum(calls) == 4


def test_pairs_longer_than_the_scorer_reads_are_counted(tmp_path: Path) -> None:
    assert score_pairs(counting([]), PAIRS, tmp_path, "x").cut == sum(len(text.split()) > 8 for _, text in PAIRS) > 0


def test_a_cross_encoder_gives_what_sentence_transformers_gives(tiny_reranker: str, tmp_path: Path) -> None:
    import torch
    from sentence_transformers import CrossEncoder

    plain = CrossEncoder(tiny_reranker, max_length=16)
    expected = plain.predict(PAIRS, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    logits = open_scorer(tiny_reranker, Llm(), tmp_path, activation="none", max_tokens=16)
    found = score_pairs(logits, PAIRS, tmp_path, "x")
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(found.values, expected, atol=1e-4)
    assert logits.scale == "logit"
    assert logits.max_tokens == 16
    assert 0 < found.cut < len(PAIRS)
    bounded = open_scorer(tiny_reranker, Llm(), tmp_path, max_tokens=16)
    np.testing.assert_allclose(
        score_pairs(bounded, PAIRS, tmp_path, "x").values, 1 / (1 + np.exp(-expected)), atol=1e-4
    )
    assert bounded.fingerprint != logits.fingerprint  # or the two would share a cache


def test_half_a_surrogate_pair_is_a_question_mark_to_a_cross_encoder(tiny_reranker: str, tmp_path: Path) -> None:
    scorer = open_scorer(tiny_reranker, Llm(), tmp_path, max_tokens=16)
    broken, sound = [("rent \ud800", "\udfff 7")], [("rent ?", "? 7")]
    assert scorer.lengths(broken).tolist() == scorer.lengths(sound).tolist()
    assert list(scorer.score(broken)) == list(scorer.score(sound))


def test_an_encoder_without_a_trained_head_is_refused(tiny_model: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no cross-encoder"):
        open_scorer(tiny_model, Llm(), tmp_path)


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        open_scorer(str(tmp_path), Llm(), tmp_path)
    with pytest.raises(ModelError, match="neither a folder nor a hub id"):
        scorer_fingerprint("./nowhere", Llm())
    with pytest.raises(ConfigError, match="no LLM endpoint"):
        open_scorer("llm", Llm(), tmp_path)


def test_a_fingerprint_follows_the_weights(tiny_reranker: str, tiny_model: str) -> None:
    assert scorer_fingerprint(tiny_reranker, Llm()) == scorer_fingerprint(tiny_reranker, Llm())
    assert scorer_fingerprint(tiny_reranker, Llm()) != scorer_fingerprint(tiny_model, Llm())
    assert scorer_fingerprint("llm", Llm(model="a")) != scorer_fingerprint("llm", Llm(model="b"))


def test_an_llm_grades_from_0_to_1_and_says_what_it_did_not_read(serve_llm, tmp_path: Path) -> None:
    endpoint = serve_llm(lambda _, body: '{"reason": "", "grade": 7}')
    settings = Llm(base_url=endpoint.url, model="m", max_tokens=400, answer_tokens=50, concurrency=1)
    scorer = open_scorer("llm", settings, tmp_path / "llm.jsonl")
    pairs = [("short?", "a passage"), ("long?", "x" * 7_000), ("late?", "no room is left")]
    first = score_pairs(scorer, pairs[:1], tmp_path, "x")
    assert first.values == [0.7] and first.notes == () and scorer.max_characters == 6_000
    found = score_pairs(scorer, pairs, tmp_path, "x")
    assert found.cut == 1 and "1 of 3 pairs are longer than the 6,000 characters of a passage" in found.notes[0]
    assert math.isnan(found.values[1]) and "spending limit was reached" in found.notes[1]
    endpoint = serve_llm(lambda _, body: "prose")
    prose = open_scorer("llm", Llm(base_url=endpoint.url, model="m"), tmp_path / "llm.jsonl")
    assert math.isnan(score_pairs(prose, [("q", "p")], tmp_path / "prose", "x").values[0])
