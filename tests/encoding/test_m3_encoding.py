"""One pass, three kinds of vectors: what is in them, what is kept of them, and search with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from fieldtune.encoding import Encoder, SingleEncoder
from fieldtune.encoding.m3 import (
    TokenFormat,
    agrees_three,
    ask_single,
    encode_m3,
    find,
    hidden_size,
    load_heads,
    new_heads,
    save_heads,
    scores,
    signals_of,
    sparse_top,
    three_scores,
    together,
)
from fieldtune.encoding.m3.stored import in_format, pooled
from fieldtune.encoding.tokens import no_words
from fieldtune.errors import ModelError

QUERIES = ["what ends lease 3", "rent", "rent", "cough zzz fever fever"]
PASSAGES = ["article 3 lease rent", "rent rent rent", "", "fever cough asthma lease ends notice 3 4 5 6", "bond"]


def random_heads(hidden: int, size: int = 0) -> torch.nn.ModuleDict:
    heads = new_heads(hidden, size)
    torch.manual_seed(3)
    for layer in heads.values():
        torch.nn.init.normal_(layer.weight, std=0.3)  # type: ignore[arg-type]
    torch.nn.init.constant_(heads["sparse_linear"].bias, 1.0)  # type: ignore[arg-type]  # some words above 0, some below
    return heads


@pytest.fixture
def encoder(tiny_model: str) -> Encoder:
    return Encoder.load(tiny_model, precision="fp32")


def test_new_layers_leave_token_states_as_they_are_and_weigh_all_words_alike(encoder: Encoder) -> None:
    assert encoder.tokens is not None
    store = encoder.tokens.store(["rent ends lease"])
    found = signals_of(encoder, new_heads(hidden_size(encoder), 8), store, np.array([0]))
    ids, mask = store.padded(np.array([0]), encoder.tokens.pad)
    states = encoder.model({"input_ids": ids, "attention_mask": mask})["token_embeddings"][0, 1:, :8]
    torch.testing.assert_close(found.vectors, torch.nn.functional.normalize(states, dim=-1))
    words, end = found.weights[:-1], found.weights[-1]
    assert words.tolist() == pytest.approx([words[0].item()] * 3)
    assert words[0] > 0
    assert end == 0  # the end token is no word, but it has a vector
    with pytest.raises(ModelError, match="33"):
        new_heads(32, 33)


def test_arrays_give_the_scores_of_the_definition(encoder: Encoder) -> None:
    heads = random_heads(32, 16)
    queries = encode_m3(encoder, heads, QUERIES, "query", form="float32")
    passages = encode_m3(encoder, heads, PASSAGES, "passage", form="float32")
    assert encoder.tokens is not None
    with torch.no_grad():
        sides = [
            signals_of(encoder, heads, encoder.tokens.store(texts, encoder.prompts[side]), np.arange(len(texts)))
            for texts, side in ((QUERIES, "query"), (PASSAGES, "passage"))  # type: ignore[index]
        ]
        found = scores(*sides)
    rows = np.tile(np.arange(len(PASSAGES)), (len(QUERIES), 1))
    dense, sparse, multi = three_scores(queries, passages, rows)
    np.testing.assert_allclose(dense, found.dense, atol=1e-5)
    np.testing.assert_allclose(sparse, found.sparse, atol=1e-5)
    np.testing.assert_allclose(multi, found.multi, atol=1e-5)
    assert sparse.any()
    best, ranked = sparse_top(queries.sparse, passages.sparse, 3)
    for query, row in enumerate(ranked):
        own = row[row >= 0]
        np.testing.assert_allclose(best[query, : len(own)], sparse[query, own], atol=1e-5)
        assert sorted(sparse[query], reverse=True)[: len(own)] == pytest.approx(sparse[query, own].tolist(), abs=1e-5)
        assert (sparse[query, np.setdiff1d(np.arange(5), own)] <= best[query].min() + 1e-5).all()
    assert np.array_equal(queries.dense[1], queries.dense[2])  # equal texts, equal to the last bit
    assert np.array_equal(queries.tokens.take(np.array([1])).values, queries.tokens.take(np.array([2])).values)


def test_candidates_are_what_either_search_finds(encoder: Encoder) -> None:
    heads = random_heads(32)
    queries, passages = encode_m3(encoder, heads, QUERIES, "query"), encode_m3(encoder, heads, PASSAGES, "passage")
    rows = find(queries, passages, 2)
    _, by_words = sparse_top(queries.sparse, passages.sparse, 2)
    similar = np.argsort(-(queries.dense @ passages.dense.T), axis=1)[:, :2]
    for query in range(len(QUERIES)):
        expected = {*similar[query].tolist(), *by_words[query].tolist()} - {-1}
        assert set(rows[query].tolist()) - {-1} == expected
    padded = three_scores(queries, passages, np.array([[0, -1, -1]] * 4))
    assert not padded[:, :, 1:].any()


@pytest.mark.parametrize(("form", "most"), [("float16", 1e-3), ("int8", 0.01)])
def test_small_formats_stay_near(encoder: Encoder, form: TokenFormat, most: float) -> None:
    heads = random_heads(32)
    full = encode_m3(encoder, heads, PASSAGES, "passage", form="float32")
    small = encode_m3(encoder, heads, PASSAGES, "passage", form=form)
    assert np.abs(full.tokens.of(slice(None)) - small.tokens.of(slice(None))).max() < most
    assert small.bytes_per_text()["multi"] < full.bytes_per_text()["multi"] * 0.65
    assert small.bytes_per_text()["dense"] == 4 * encoder.dimension


def test_pooling_joins_like_tokens() -> None:
    one, other = np.eye(3, dtype=np.float32)[:2]
    vectors = np.stack([one, other, one, other, one])
    joined, starts = pooled(vectors, np.array([0, 4, 4, 5]), 2)
    assert starts.tolist() == [0, 2, 2, 3]
    np.testing.assert_allclose(sorted(joined[:2].tolist()), sorted([one.tolist(), other.tolist()]), atol=1e-6)
    assert joined[2].tolist() == one.tolist()
    whole, _ = pooled(vectors, np.array([0, 5]), 8)
    assert whole.shape == (1, 3)
    assert np.linalg.norm(whole[0]) == pytest.approx(1)


def test_several_are_put_together(encoder: Encoder) -> None:
    heads = random_heads(32)
    whole = encode_m3(encoder, heads, PASSAGES, "passage", form="int8")
    again = together([whole.take(np.array(rows)) for rows in ([0, 1], [2], [3, 4])])
    assert np.array_equal(again.dense, whole.dense)
    assert np.array_equal(again.sparse.toarray(), whole.sparse.toarray())
    assert np.array_equal(again.tokens.starts, whole.tokens.starts)
    assert np.array_equal(again.tokens.of(slice(None)), whole.tokens.of(slice(None)))


def test_token_scores_in_parts_are_those_of_one_go(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    from fieldtune.encoding.m3 import multi_of, search

    heads = random_heads(32)
    queries = encode_m3(encoder, heads, QUERIES, "query", form="float32")
    passages = encode_m3(encoder, heads, PASSAGES, "passage", form="int8")
    rows = np.array([3, 0, 2, 4, 1, 3])
    whole = multi_of(queries.tokens, 0, passages.tokens, rows)
    monkeypatch.setattr(search, "_NUMBERS", 40)  # a passage or two at a time
    np.testing.assert_allclose(multi_of(queries.tokens, 0, passages.tokens, rows), whole, atol=1e-6)
    slow = [
        np.mean((passages.tokens.of(slice(*passages.tokens.starts[row : row + 2]))
                 @ queries.tokens.of(slice(*queries.tokens.starts[:2])).T).max(axis=0))
        for row in rows if passages.tokens.starts[row + 1] > passages.tokens.starts[row]
    ]  # fmt: skip
    np.testing.assert_allclose(whole[whole != 0], slow, atol=1e-5)


def test_zero_vectors_survive_int8() -> None:
    stored = in_format(np.zeros((2, 4), np.float32), np.array([0, 2]), "int8")
    assert not stored.of(slice(None)).any()


def test_layers_are_files_of_one_linear_layer_each(tmp_path: Path) -> None:
    heads = random_heads(32, 16)
    save_heads(heads, tmp_path)
    state = torch.load(tmp_path / "colbert_linear.pt", weights_only=True)
    assert {name: tuple(part.shape) for name, part in state.items()} == {"weight": (16, 32), "bias": (16,)}
    state = torch.load(tmp_path / "sparse_linear.pt", weights_only=True)
    assert {name: tuple(part.shape) for name, part in state.items()} == {"weight": (1, 32), "bias": (1,)}
    torch.save({name: part.half() for name, part in state.items()}, tmp_path / "sparse_linear.pt")  # as some are
    again = load_heads(tmp_path, 32)
    for name, weight in again.state_dict().items():
        torch.testing.assert_close(weight, heads.state_dict()[name], atol=1e-3, rtol=1e-3)
        assert weight.dtype == torch.float32
    with pytest.raises(ModelError, match="48"):
        load_heads(tmp_path, 48)
    (tmp_path / "sparse_linear.pt").write_bytes(b"not a file of torch")
    with pytest.raises(ModelError, match="cannot be read"):
        load_heads(tmp_path, 32)
    (tmp_path / "sparse_linear.pt").unlink()
    with pytest.raises(ModelError, match="missing"):
        load_heads(tmp_path, 32)


def test_without_the_library_queries_get_the_same(tiny_model: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    heads = random_heads(32, 16)
    save_heads(heads, folder)
    encoder, single = Encoder.load(str(folder)), SingleEncoder(folder)
    texts = [*QUERIES, "", "deposit 7, tenant! unknown", "lease " * 100]
    for text in texts:
        ours, theirs = ask_single(single, heads, [text]), encode_m3(encoder, heads, [text], "query", form="float32")
        np.testing.assert_array_equal(ours.dense, theirs.dense)
        np.testing.assert_allclose(ours.sparse.toarray(), theirs.sparse.toarray(), atol=1e-6)
        np.testing.assert_allclose(ours.tokens.values, theirs.tokens.values, atol=1e-6)
    several = ask_single(single, heads, texts)
    for row, text in enumerate(texts):
        alone = ask_single(single, heads, [text])
        np.testing.assert_allclose(several.sparse[row].toarray(), alone.sparse.toarray(), atol=2e-2)  # bf16
        np.testing.assert_allclose(several.take(np.array([row])).tokens.values, alone.tokens.values, atol=2e-2)
    assert agrees_three(folder, encoder, heads, texts)
    assert not agrees_three(folder, encoder, random_heads(32, 8))  # not the folder's layers
    assert not agrees_three(tmp_path / "nothing", encoder, heads)


def test_what_the_tokenizer_puts_around_a_text_is_no_word_declared_or_not(tiny_model: str, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, processors

    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    for path in (*folder.rglob("tokenizer_config.json"), *folder.rglob("special_tokens_map.json")):
        named = json.loads(path.read_text())
        path.write_text(json.dumps({name: value for name, value in named.items() if name[:4] not in ("cls_", "sep_")}))
    whole = json.loads((folder / "tokenizer.json").read_text())
    whole["added_tokens"] = [one for one in whole["added_tokens"] if one["content"] not in ("[CLS]", "[SEP]")]
    (folder / "tokenizer.json").write_text(json.dumps(whole))
    encoder = Encoder.load(str(folder), precision="fp32")
    assert encoder.model.tokenizer.cls_token is None and encoder.model.tokenizer.eos_token is None
    heads = new_heads(32)
    found = encode_m3(encoder, heads, ["rent rent", "lease"], "passage", form="float32")
    assert sorted(set(found.sparse.indices.tolist())) == sorted(encoder.model.tokenizer.convert_tokens_to_ids(
        ["rent", "lease"]))  # fmt: skip
    assert np.diff(found.tokens.starts).tolist() == [3, 2]  # without the first token, with the last
    declared = Encoder.load(tiny_model, precision="fp32")
    same = encode_m3(declared, heads, ["rent rent", "lease"], "passage", form="float32")
    np.testing.assert_array_equal(found.tokens.values, same.tokens.values)

    tokenizer = Tokenizer.from_file(str(Path(tiny_model) / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A [SEP]", special_tokens=[("[SEP]", 3)])
    assert no_words(tokenizer)[0] == -1 and 3 in no_words(tokenizer)[1]  # as decoders have it
    tokenizer.post_processor = processors.Sequence([])
    assert no_words(tokenizer)[0] == -1
