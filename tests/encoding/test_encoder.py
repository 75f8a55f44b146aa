from __future__ import annotations

import os
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.encoding import Encoder, SingleEncoder, cached_vectors, feeding
from fieldtune.encoding.fast import with_torch
from fieldtune.encoding.lane import aside
from fieldtune.encoding.tokens import Tokens, TokenStore, budgeted
from fieldtune.errors import ModelError
from fieldtune.types import Side

TEXTS = ["lease ends", "rent", "fever requires insulin when cough starts", "", "lease ends", "bond " * 100, "?!"]


def test_vectors_are_those_of_sentence_transformers(tiny_model: str) -> None:
    encoder = Encoder.load(tiny_model, precision="fp32")
    for side, reference in (("query", encoder.model.encode_query), ("passage", encoder.model.encode_document)):
        ours = encoder.encode(TEXTS, side)
        assert ours.dtype == np.float32
        assert ours.shape == (len(TEXTS), 32)
        np.testing.assert_allclose(ours, reference(TEXTS), atol=1e-5)
    assert not np.allclose(encoder.encode(["rent"], "query"), encoder.encode(["rent"], "passage"))


def test_token_ids_are_those_of_the_library_whatever_white_space_stands_around_a_text(spaced_model: str) -> None:
    texts = [
        "rent", "rent\n", "\nrent", " rent", "rent ", "  rent \t", "合同 ", "\u3000合同", "合同\u3000", "a\r\n",
        "\x85a\u200b", "", " ", "   ", "\n", "\t\n", "\u3000", "tenant " * 20, " tenant" * 20,
    ]  # fmt: skip
    encoder, single = Encoder.load(spaced_model, precision="fp32"), SingleEncoder(Path(spaced_model))
    tokens = encoder.tokens
    assert tokens is not None
    exported = Tokens(tokens.serialized(), tokens.limit, tokens.pad)
    for side, encode in (("query", encoder.model.encode_query), ("passage", encoder.model.encode_document)):
        prompt = encoder.prompts[side]
        assert bool(prompt) == (side == "query")
        theirs = [encoder.model.preprocess([text], prompt=prompt)["input_ids"][0].tolist() for text in texts]
        assert len(set(map(tuple, theirs))) > 12
        assert single.tokenized(texts, side) == theirs
        for one in (tokens, exported):
            store = one.store(texts, prompt)
            assert [part.tolist() for part in np.split(store.ids, store.starts[1:-1])] == theirs
        np.testing.assert_allclose(encoder.encode(texts, side), encode(texts), atol=1e-5)


def test_half_a_surrogate_pair_is_a_question_mark(tiny_model: str, tmp_path: Path) -> None:
    """JSON may hold one ("\\ud800"); UTF-8 cannot, and no tokenizer takes it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    whole = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")
    broken, sound = ["rent \ud800 7", "\udfff", "合同 \ud83d"], ["rent ? 7", "?", "合同 ?"]
    for encoder in (Encoder.load(tiny_model), Encoder(whole)):
        np.testing.assert_array_equal(encoder.encode(broken, "passage"), encoder.encode(sound, "passage"))
    single = SingleEncoder(Path(tiny_model))
    np.testing.assert_array_equal(single.encode(broken, "query"), single.encode(sound, "query"))
    assert single.ids(broken[0]) == single.ids(sound[0])


def test_bf16_stays_close_to_fp32(tiny_model: str) -> None:
    exact = Encoder.load(tiny_model, precision="fp32").encode(TEXTS, "passage")
    fast = Encoder.load(tiny_model, precision="bf16").encode(TEXTS, "passage")
    assert (exact * fast).sum(axis=1).min() > 0.999


def test_no_texts_give_no_vectors(tiny_model: str) -> None:
    assert Encoder.load(tiny_model).encode([], "query").shape == (0, 32)


def test_progress_counts_every_text_once(tiny_model: str) -> None:
    counted: list[int] = []
    Encoder.load(tiny_model).encode(TEXTS, "passage", advance=counted.append)
    assert sum(counted) == len(TEXTS)


@pytest.mark.parametrize("engine", ["model", "torch"])
def test_progress_goes_on_though_a_text_stands_there_twice(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr(feeding, "BLOCK", 10)
    encoder = Encoder.load(tiny_model, precision="fp32")
    by = encoder if engine == "model" else with_torch(encoder, "fp32")
    texts = [f"lease {number % 40}" for number in range(50)]  # the first ten come again at the end
    counted: list[int] = []
    by.encode(texts, "passage", advance=counted.append)
    assert sum(counted) == 50 and min(counted) > 0 and max(counted) <= 10


def test_damaged_weights_are_named(tiny_model: str) -> None:
    encoder = Encoder.load(tiny_model, precision="fp32")
    with torch.no_grad():
        next(encoder.model.parameters()).fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN"):
        encoder.encode(["rent"], "query")


@given(st.lists(st.integers(1, 300), max_size=80), st.integers(1, 2_000))
def test_every_text_is_in_one_batch_within_the_budget(lengths: list[int], budget: int) -> None:
    sizes = np.array(lengths, np.int64)
    batches = budgeted(sizes, budget)
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * sizes[batch].max() <= budget for batch in batches)


def test_cached_vectors_are_computed_once_and_resumed(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "BLOCK", 2)
    encoder = Encoder.load(tiny_model, precision="fp32")
    texts = [f"lease {number}" for number in range(7)]
    seen: list[str] = []
    real = Encoder.forward

    def watched(self: Encoder, store: TokenStore, rows: np.ndarray, side: Side) -> np.ndarray:
        if len(seen) == 4:
            seen.append("killed")
            raise KeyboardInterrupt
        seen.extend(str(store.ids[store.starts[row] + 2]) for row in rows)  # the number, which is one token
        return real(self, store, rows, side)

    monkeypatch.setattr(Encoder, "forward", watched)
    with pytest.raises(KeyboardInterrupt):
        cached_vectors(encoder, texts, "passage", tmp_path)
    again = cached_vectors(encoder, texts, "passage", tmp_path)
    done = [text for text in seen if text != "killed"]
    assert len(done) == len(set(done)) == 7  # nothing twice
    cached_vectors(encoder, texts, "passage", tmp_path)
    assert len(seen) == 8
    monkeypatch.setattr(Encoder, "forward", real)
    np.testing.assert_allclose(again, encoder.encode(texts, "passage"), atol=1e-6)
    other = cached_vectors(encoder, texts, "query", tmp_path)
    assert not np.allclose(other, again)


def test_vectors_of_texts_that_are_cut_elsewhere_are_others(tiny_model: str, tmp_path: Path) -> None:
    encoder = Encoder.load(tiny_model)
    for texts in (["rent\0bond", "audit"], ["rent", "bond\0audit"]):
        found = cached_vectors(encoder, texts, "passage", tmp_path)
        np.testing.assert_array_equal(found, encoder.encode(texts, "passage"))


def test_one_text_has_one_vector_wherever_it_stands(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder.load(tiny_model)
    texts = ["the lease ends", "rent", "a breach of contract and damages for it", "rent", "the lease ends", "rent"]
    shift = iter(range(100))

    monkeypatch.setattr(feeding, "BLOCK", 2)
    monkeypatch.setattr(
        Encoder,
        "forward",
        lambda self, store, rows, side: np.full((len(rows), encoder.dimension), next(shift), np.float32),
    )
    found = cached_vectors(encoder, texts, "passage", tmp_path)
    assert found[:, 0].tolist() == [0, 0, 1, 0, 0, 0]


def test_passes_on_a_processor_run_in_one_thread_of_their_own():
    threads = {aside(threading.get_ident) for _ in range(3)}
    assert len(threads) == 1 and threading.get_ident() not in threads
    with pytest.raises(ZeroDivisionError):
        aside(lambda: 1 // 0)
    assert aside(lambda: 5) == 5  # an error does not end it


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_gets_a_thread_of_its_own():
    aside(lambda: None)
    child = os.fork()
    if child == 0:
        os._exit(aside(lambda: 7))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize("engine", ["model", "torch"])
@pytest.mark.parametrize("whole", [True, False], ids=["encode", "cached_vectors"])
def test_the_next_texts_are_tokenised_while_the_model_works(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, whole: bool
) -> None:
    monkeypatch.setattr(feeding, "BLOCK", 10)
    encoder = Encoder.load(tiny_model, precision="fp32")
    by = encoder if engine == "model" else with_torch(encoder, "fp32")
    texts = [f"lease {number}" for number in range(35)]
    tokenised = [threading.Event() for _ in range(5)]
    tokenised[4].set()  # after the last block there is none
    stored: list[int] = []
    passed: list[tuple[int, bool]] = []
    real = Tokens.store

    def store(self: Tokens, some: list[str], *rest: Any, **more: Any) -> TokenStore:
        made = real(self, some, *rest, **more)
        stored.append(len(some))
        tokenised[len(stored) - 1].set()
        return made

    def waits(forward: Any) -> Any:
        def passing(*words: Any) -> Any:
            block = sum(count for count, _ in passed) // 10
            vectors = forward(*words)
            # A pass that waits for the next block's tokens ends only if something else makes them meanwhile.
            passed.append((len(vectors), tokenised[block + 1].wait(20)))
            return vectors

        return passing

    monkeypatch.setattr(Tokens, "store", store)
    if engine == "model":
        monkeypatch.setattr(encoder, "forward", waits(encoder.forward))
    else:
        monkeypatch.setattr(by.engine, "forward", waits(by.engine.forward))  # type: ignore[union-attr]
    found = by.encode(texts, "passage") if whole else cached_vectors(by, texts, "passage", tmp_path)
    assert stored == [10, 10, 10, 5]
    assert [there for _, there in passed] == [True] * 4
    monkeypatch.undo()
    np.testing.assert_allclose(found, encoder.encode(texts, "passage"), atol=1e-5)


def test_memory_of_a_stream_does_not_grow_with_it(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder.load(tiny_model, precision="fp32")
    monkeypatch.setattr(feeding, "BLOCK", 500)
    monkeypatch.setattr(encoder, "forward", lambda store, rows, side: np.ones((len(rows), 32), np.float32))

    def texts(count: int) -> Iterator[str]:
        for number in range(count):
            yield f"{number} " + "rent ends " * 12

    peaks = []
    for count in (2_000, 20_000):
        tracemalloc.start()
        assert sum(map(len, encoder.stream(texts(count), "passage"))) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
    given = list(texts(20_000))
    tracemalloc.start()
    vectors = encoder.encode(given, "passage")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert vectors.nbytes < peak < vectors.nbytes + 4e6  # the ids alone would take 2.1 MB twice, and an array each


def test_passes_of_a_model_that_takes_whole_texts_come_in_blocks(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder.load(tiny_model, precision="fp32")
    expected = encoder.encode(TEXTS, "passage")
    encoder.tokens = None
    monkeypatch.setattr("fieldtune.encoding.encoder._WHOLE", 3)
    counted: list[int] = []
    parts = list(encoder.stream(iter(TEXTS), "passage", advance=counted.append))
    assert [len(part) for part in parts] == counted == [3, 3, 1]
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-5)
