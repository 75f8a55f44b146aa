"""Texts end to end: the vectors and gradients of padded ones, with a kernel that takes each text by itself.

The kernel of GPUs is not there on a processor; the one of these tests says what it computes, and everything around it
is what runs on a GPU.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer

from fieldtune.encoding import Encoder, packed
from fieldtune.encoding.torch_engine import TorchEngine
from fieldtune.training.forward import embed_rows

TEXTS = ["lease ends", "rent", "fever requires insulin when cough starts", "bond " * 400, "the court of law"]
SIZES = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """A processor with such a kernel; what it was asked for: (tokens, texts)."""
    asked: list[tuple[int, ...]] = []

    def kernel(query: Any, key: Any, value: Any, starts: Any, longest: int, scale: float) -> torch.Tensor:
        lengths = torch.diff(starts)
        assert starts.dtype == torch.int32
        assert longest == int(lengths.max())
        asked.append((len(query), len(lengths)))
        parts = []
        for one in zip(*(rows.split(lengths.tolist()) for rows in (query, key, value)), strict=True):
            weights = torch.einsum("qhd,khd->hqk", one[0], one[1]) * scale
            parts.append(torch.einsum("hqk,khd->qhd", weights.softmax(-1), one[2]))
        return torch.cat(parts)

    def here(model: Any) -> Any:
        return kernel

    monkeypatch.setattr(packed, "_kernel", here)
    packed._known().clear()
    yield asked
    packed._known().clear()


def model_of(architecture: str, tiny_model: str, pooling: str = "mean", **more: Any) -> SentenceTransformer:
    torch.manual_seed(3)
    folder = Path(tiny_model)
    kind = getattr(transformers, f"{architecture}Config")
    shape: dict[str, Any] = {**SIZES, "intermediate_size": 64, "max_position_embeddings": 300, "pad_token_id": 0}
    shape |= {"initializer_range": 0.3} | more  # attention counts
    config = kind(**shape)
    module = Transformer(str(folder), max_seq_length=250)
    module.model = getattr(transformers, f"{architecture}Model")(config).eval()
    wide = shape["hidden_size"]
    return SentenceTransformer(modules=[module, Pooling(wide, pooling), Normalize()], device="cpu").eval()


def padded(model: SentenceTransformer, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    features = {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device)}
    found: torch.Tensor = model(features)["sentence_embedding"]
    return found


def tokens(model: SentenceTransformer) -> tuple[torch.Tensor, torch.Tensor]:
    encoder = Encoder(model, precision="fp32")
    assert encoder.tokens is not None
    store = encoder.tokens.store(TEXTS)
    return store.padded(np.arange(len(TEXTS)), encoder.tokens.pad)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("architecture", ["Bert", "XLMRoberta", "MPNet"])
def test_vectors_are_those_of_padded_texts(
    architecture: str, pooling: str, tiny_model: str, seen: list[tuple[int, ...]]
) -> None:
    model = model_of(architecture, tiny_model, pooling)
    ids, mask = tokens(model)
    with torch.no_grad():
        found = packed.vectors(model, ids, mask)
        torch.testing.assert_close(found, padded(model, ids, mask), rtol=1e-5, atol=1e-5)
    # MPNet adds a number for each distance between words to its attention: no kernel for texts end to end has that.
    fits = architecture != "MPNet"
    assert (known(model) is not None) == fits
    assert ((int(mask.sum()), len(TEXTS)) in seen) == fits
    again = len(seen)
    with torch.no_grad():
        packed.vectors(model, ids, mask)
    assert len(seen) - again == (SIZES["num_hidden_layers"] if fits else 0)  # tried once, and not with every call


def test_places_begin_where_those_of_the_model_begin(tiny_model: str, seen: list[tuple[int, ...]]) -> None:
    for architecture, first in (("Bert", 0), ("XLMRoberta", 1)):
        model = model_of(architecture, tiny_model)
        ids, mask = tokens(model)
        with torch.no_grad():
            # Places count for little in a model with weights at random; make them count.
            model.transformers_model.embeddings.position_embeddings.weight *= 50
            found = packed.vectors(model, ids, mask)
            torch.testing.assert_close(found, padded(model, ids, mask), rtol=1e-4, atol=1e-4)
        assert known(model) == first


@pytest.mark.parametrize(("architecture", "first"), [("Bert", 0), ("XLMRoberta", 1)])
def test_a_text_may_be_as_long_as_the_table_of_places(
    architecture: str, first: int, tiny_model: str, seen: list[tuple[int, ...]]
) -> None:
    """No number beyond the table is ever looked up, whether vectors agree or not: on a GPU none can be taken back."""
    for fits in (True, False):
        model = model_of(architecture, tiny_model, max_position_embeddings=250 + first)
        looked_up = watched(model.transformers_model.embeddings.position_embeddings)
        if not fits:
            model.transformers_model.encoder.layer[1].attention.self.is_causal = True
        ids, mask = tokens(model)
        assert ids.shape[1] == 250
        with torch.no_grad():
            right = padded(model, ids, mask)
            torch.testing.assert_close(packed.vectors(model, ids, mask), right, rtol=1e-5, atol=1e-5)
        assert known(model) == (first if fits else None)
        assert max(looked_up) == 249 + first


def watched(table: torch.nn.Embedding) -> list[int]:
    """The greatest number of each look-up that is asked of it, also of one that is stopped on the way."""
    greatest: list[int] = []
    table.register_forward_pre_hook(lambda _table, given: greatest.append(int(given[0].max())))
    return greatest


def test_a_model_that_counts_places_itself_is_padded(tiny_model: str, seen: list[tuple[int, ...]]) -> None:
    """It takes no numbers of places, and would count on from text to text, beyond its table."""
    model = model_of("XLMRoberta", tiny_model)
    model[0].model_forward_params = {"input_ids", "attention_mask"}
    gone_through: list[int] = []
    embeddings = model.transformers_model.embeddings
    embeddings.position_embeddings.register_forward_hook(lambda *call: gone_through.append(int(call[1][0].max())))
    ids, mask = tokens(model)
    ids, mask = ids[[3, 0, 3]], mask[[3, 0, 3]]  # 504 tokens, in a table of 300
    with torch.no_grad():
        torch.testing.assert_close(packed.vectors(model, ids, mask), padded(model, ids, mask))
    assert known(model) is None
    assert max(gone_through) == 250
    assert not seen


def test_passes_of_other_threads_are_left_alone(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch, seen: list[tuple[int, ...]]
) -> None:
    kernel = packed._kernel(None)
    # What is copied with a model is not put in twice.
    model = tried(copy.deepcopy(tried(model_of("Bert", tiny_model))))
    ids, mask = tokens(model)
    with torch.no_grad():
        right = padded(model, ids, mask)
    first, second = [0, 1, 2], [3, 4]
    both = Barrier(2, timeout=30)

    def one_way(rows: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return packed.vectors(model, ids[rows], mask[rows])

    def other_way() -> torch.Tensor:
        with torch.no_grad():
            return padded(model, ids, mask)

    with ThreadPoolExecutor(2) as threads:

        def at_once(*given: Any) -> Any:
            both.wait()
            return kernel(*given)

        monkeypatch.setattr(packed, "_kernel", lambda model: at_once)
        for found, rows in zip(threads.map(one_way, [first, second]), (first, second), strict=True):
            torch.testing.assert_close(found, right[rows], rtol=1e-5, atol=1e-5)
        beside: list[torch.Tensor] = []

        def in_between(*given: Any) -> Any:
            beside.append(threads.submit(other_way).result())
            return kernel(*given)

        monkeypatch.setattr(packed, "_kernel", lambda model: in_between)
        torch.testing.assert_close(one_way(first), right[first], rtol=1e-5, atol=1e-5)
        for found in beside:
            torch.testing.assert_close(found, right)
    assert len(beside) == SIZES["num_hidden_layers"]


class Engine(torch.nn.Module):
    """What DeepSpeed's engine is to a pass: around the model, with its attributes, but not one of its kind."""

    def __init__(self, module: SentenceTransformer) -> None:
        super().__init__()
        self.module, self.passes = module, 0

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)

    def forward(self, *given: Any, **more: Any) -> Any:
        self.passes += 1
        return self.module(*given, **more)


def test_a_model_within_an_engine(tiny_model: str, seen: list[tuple[int, ...]]) -> None:
    model = model_of("Bert", tiny_model)
    engine = Engine(model)
    ids, mask = tokens(model)
    with torch.no_grad():
        right = padded(model, ids, mask)
        torch.testing.assert_close(packed.vectors(engine, ids, mask), right, rtol=1e-5, atol=1e-5)
    assert len(seen) == 2 * SIZES["num_hidden_layers"]
    assert engine.passes == 3  # padded, packed, and the one that was asked for: none goes past it


def known(model: SentenceTransformer) -> int | None:
    return packed._known()[model][packed._state(model)]


def tried(model: SentenceTransformer) -> SentenceTransformer:
    with torch.no_grad():
        packed.vectors(model, *tokens(model))
    assert known(model) is not None
    return model


def test_gradients_are_those_of_padded_texts(tiny_model: str, seen: list[tuple[int, ...]]) -> None:
    model = model_of("Bert", tiny_model)
    ids, mask = tokens(model)
    weights = [weight for name, weight in model.named_parameters() if "pooler" not in name]
    towards = torch.randn(len(TEXTS), 32, generator=torch.Generator().manual_seed(1))
    right = torch.autograd.grad((padded(model, ids, mask) * towards).sum(), weights)
    found = torch.autograd.grad((packed.vectors(model, ids, mask) * towards).sum(), weights)
    assert seen
    for mine, theirs in zip(found, right, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_training_and_encoding_go_that_way(tiny_model: str, seen: list[tuple[int, ...]]) -> None:
    encoder = Encoder.load(tiny_model, precision="fp32")
    right = encoder.model.encode_document(TEXTS)
    assert encoder.tokens is not None
    np.testing.assert_allclose(encoder.encode(TEXTS, "passage"), right, atol=1e-5)
    store = encoder.tokens.store(TEXTS, encoder.prompts["passage"])
    assert store.lengths.sum() in {count for count, _ in seen}
    seen.clear()
    found = embed_rows(encoder, store, np.arange(len(TEXTS)))
    np.testing.assert_allclose(found.detach().numpy(), right, atol=1e-5)
    assert seen
    seen.clear()
    ids, mask = store.padded_arrays(np.arange(len(TEXTS)), encoder.tokens.pad)
    np.testing.assert_allclose(TorchEngine(encoder.model, "fp32").forward(ids, mask), right, atol=1e-5)
    assert seen


def test_what_drops_out_is_padded_and_drawn_as_ever(tiny_model: str, seen: list[tuple[int, ...]]) -> None:
    model = model_of("Bert", tiny_model)  # its config drops a tenth, of words and of attention
    ids, mask = tokens(model)
    for _ in range(2):  # the first time with the trial
        with torch.no_grad():
            model.train()
            torch.manual_seed(1)
            right = padded(model, ids, mask)
            torch.manual_seed(1)
            torch.testing.assert_close(packed.vectors(model, ids, mask), right)
            assert not seen
            model.eval()
            right = padded(model, ids, mask)
            torch.testing.assert_close(packed.vectors(model, ids, mask), right, rtol=1e-5, atol=1e-5)
        assert seen  # which training with dropout does not decide
        seen.clear()


def test_dropout_of_a_part_of_the_model_is_dropout(tiny_model: str, seen: list[tuple[int, ...]]) -> None:
    """As that of low-rank changes, with which the rest of the model stays as in evaluation."""
    model = tried(model_of("Bert", tiny_model))
    ids, mask = tokens(model)
    model.transformers_model.embeddings.dropout.train()
    with torch.no_grad():
        torch.manual_seed(1)
        right = padded(model, ids, mask)
        torch.manual_seed(1)
        torch.testing.assert_close(packed.vectors(model, ids, mask), right)


def test_a_format_that_the_kernel_has_not_says_nothing_of_others(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch, seen: list[tuple[int, ...]]
) -> None:
    kernel = packed._kernel(None)

    def of_16_bits(query: Any, *given: Any) -> Any:
        if query.dtype == torch.float32:
            raise packed.CannotPackError("the kernel computes in 16 bits")
        return kernel(query, *given)

    monkeypatch.setattr(packed, "_kernel", lambda model: of_16_bits)
    model = model_of("Bert", tiny_model)
    ids, mask = tokens(model)
    with torch.no_grad():
        packed.vectors(model, ids, mask)
        assert not seen
        with torch.autocast("cpu", torch.bfloat16):
            packed.vectors(model, ids, mask)
        assert len(seen) == 2 * SIZES["num_hidden_layers"]  # tried, and done
        packed.vectors(model.to(torch.bfloat16), ids, mask)
        assert len(seen) == 4 * SIZES["num_hidden_layers"]


def test_attention_of_another_kind_is_found_out(tiny_model: str, seen: list[tuple[int, ...]]) -> None:
    model = model_of("Bert", tiny_model, attn_implementation="eager")
    ids, mask = tokens(model)
    with torch.no_grad():
        torch.testing.assert_close(packed.vectors(model, ids, mask), padded(model, ids, mask))
    assert not seen
    assert known(model) is None


def test_code_of_a_model_may_break_in_its_own_way(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch, seen: list[tuple[int, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    model = model_of("Bert", tiny_model)
    forward = model.transformers_model.forward

    def of_a_folder(input_ids: Any, attention_mask: Any = None, position_ids: Any = None, **more: Any) -> Any:
        return forward(input_ids, attention_mask.to(torch.int64), **more)

    monkeypatch.setattr(model.transformers_model, "forward", of_a_folder)
    ids, mask = tokens(model)
    with torch.no_grad(), caplog.at_level("INFO", "fieldtune.encoding.packed"):
        torch.testing.assert_close(packed.vectors(model, ids, mask), padded(model, ids, mask))
    assert known(model) is None
    assert "AttributeError: 'NoneType' object has no attribute 'to'" in caplog.text


@pytest.mark.parametrize("factor", [-1, float("nan")])
def test_a_kernel_that_computes_something_else_is_found_out(
    factor: float, tiny_model: str, monkeypatch: pytest.MonkeyPatch, seen: list[tuple[int, ...]]
) -> None:
    def mixed_up(query: Any, key: Any, value: Any, starts: Any, longest: int, scale: float) -> torch.Tensor:
        whole = torch.nn.functional.softmax(torch.einsum("qhd,khd->hqk", query, key) * scale, -1)
        return torch.einsum("hqk,khd->qhd", whole, value * factor)

    def here(model: Any) -> Any:
        return mixed_up

    monkeypatch.setattr(packed, "_kernel", here)
    model = model_of("Bert", tiny_model)
    ids, mask = tokens(model)
    with torch.no_grad():
        torch.testing.assert_close(packed.vectors(model, ids, mask), padded(model, ids, mask))
    assert known(model) is None


def test_texts_of_one_length_need_no_trial(tiny_model: str, seen: list[tuple[int, ...]]) -> None:
    model = model_of("Bert", tiny_model)
    ids = torch.randint(5, 100, (3, 7))
    with torch.no_grad():
        packed.vectors(model, ids, torch.ones_like(ids))
    assert not seen
    assert model not in packed._known()


def test_a_processor_pads(tiny_model: str) -> None:
    assert packed._kernel(Encoder.load(tiny_model).model) is None


@pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0),
    reason="PyTorch's kernel for texts end to end needs an NVIDIA GPU of compute capability 8.0 or higher",
)
@pytest.mark.parametrize(("architecture", "first"), [("Bert", 0), ("XLMRoberta", 1)])
def test_the_kernel_of_a_gpu(architecture: str, first: int, tiny_model: str) -> None:
    """Forward and backward in 16 bits, with a text as long as the table of places."""
    shape = {"hidden_size": 128, "intermediate_size": 256, "max_position_embeddings": 250 + first}
    model = model_of(architecture, tiny_model, initializer_range=0.1, **shape).to("cuda")
    ids, mask = tokens(model)
    assert ids.shape[1] == 250
    weights = [weight for name, weight in model.named_parameters() if "pooler" not in name]
    towards = torch.randn(len(TEXTS), 128, generator=torch.Generator().manual_seed(1)).cuda()
    found = []
    for way in (packed.vectors, padded):
        with torch.autocast("cuda", torch.bfloat16):
            vectors = way(model, ids, mask).float()
        found.append((vectors, torch.autograd.grad((vectors * towards).sum(), weights)))
    with torch.autocast("cuda", torch.bfloat16):
        assert known(model) == first
    (mine, changes), (theirs, right) = found
    assert torch.nn.functional.cosine_similarity(mine, theirs).min() > 0.999
    # All at once: the right gradient of the biases of keys is 0, and what is found of it is rounding.
    whole, other = (torch.cat([one.flatten() for one in each]) for each in (changes, right))
    assert (whole - other).norm() <= 0.05 * other.norm()
