from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.encoding import Encoder, cached_vectors
from fieldtune.encoding import vectors as vectors_module
from fieldtune.encoding.lane import aside
from fieldtune.encoding.tokens import budgeted
from fieldtune.errors import ModelError

TEXTS = ["lease ends", "rent", "fever requires insulin when cough starts", "", "lease ends", "bond " * 100, "?!"]


def test_vectors_are_those_of_sentence_transformers(tiny_model: str) -> None:
    encoder = Encoder.load(tiny_model, precision="fp32")
    for side, reference in (("query", encoder.model.encode_query), ("passage", encoder.model.encode_document)):
        ours = encoder.encode(TEXTS, side)
        assert ours.dtype == np.float32
        assert ours.shape == (len(TEXTS), 32)
        np.testing.assert_allclose(ours, reference(TEXTS), atol=1e-5)
    assert not np.allclose(encoder.encode(["rent"], "query"), encoder.encode(["rent"], "passage"))


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
    monkeypatch.setattr(vectors_module, "_BLOCK", 2)
    encoder = Encoder.load(tiny_model, precision="fp32")
    texts = [f"lease {number}" for number in range(7)]
    seen: list[str] = []
    real = Encoder.encode

    def watched(self: Encoder, block: list[str], side: str, *, advance: object = None) -> np.ndarray:
        if len(seen) == 4:
            seen.append("killed")
            raise KeyboardInterrupt
        seen.extend(block)
        return real(self, block, side)

    monkeypatch.setattr(Encoder, "encode", watched)
    with pytest.raises(KeyboardInterrupt):
        cached_vectors(encoder, texts, "passage", tmp_path)
    again = cached_vectors(encoder, texts, "passage", tmp_path)
    assert [text for text in seen if text != "killed"] == texts  # nothing twice
    cached_vectors(encoder, texts, "passage", tmp_path)
    assert len(seen) == 8
    monkeypatch.setattr(Encoder, "encode", real)
    np.testing.assert_allclose(again, encoder.encode(texts, "passage"), atol=1e-6)
    other = cached_vectors(encoder, texts, "query", tmp_path)
    assert not np.allclose(other, again)


def test_one_text_has_one_vector_wherever_it_stands(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fieldtune.encoding import vectors

    encoder = Encoder.load(tiny_model)
    texts = ["the lease ends", "rent", "a breach of contract and damages for it", "rent", "the lease ends", "rent"]
    shift = iter(range(100))

    def encode(some, side, advance):
        advance(len(some))
        return np.full((len(some), encoder.dimension), next(shift), np.float32)

    monkeypatch.setattr(vectors, "_BLOCK", 2)
    monkeypatch.setattr(Encoder, "encode", lambda self, *words, **named: encode(*words, **named))
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
