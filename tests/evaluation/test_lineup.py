from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fieldtune.beir import RetrievalData, load_beir
from fieldtune.config import Evaluation as Settings
from fieldtune.encoding import Encoder
from fieldtune.errors import InputError, ModelError
from fieldtune.evaluation import comparison_table, evaluate, line_up, metrics, with_trained_sizes
from fieldtune.evaluation.rerank import Reranker
from fieldtune.types import Result


@pytest.fixture
def data(tiny_beir: Path) -> RetrievalData:
    loaded = load_beir(tiny_beir)
    rows = list(loaded.qrels["all"].items())
    return replace(loaded, qrels={"dev": dict(rows[:40]), "test": dict(rows[40:])})


@pytest.fixture(scope="session")
def cross_encoder(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A reranker with random weights."""
    import torch
    from transformers import AutoConfig, AutoTokenizer, BertForSequenceClassification

    folder = str(tmp_path_factory.mktemp("cross-encoder"))
    torch.manual_seed(3)
    config = AutoConfig.from_pretrained(tiny_model, num_labels=1, initializer_range=0.5)
    BertForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


def counted(model: str, log: list[int]) -> Encoder:
    """An encoder that notes how many passages it encodes."""
    encoder = Encoder.load(model, precision="fp32")
    stream = encoder.stream

    def noted(texts: Iterable[str], side: str, **more: object) -> object:
        given = list(texts)
        if side == "passage":
            log.append(len(given))
        return stream(given, side, **more)  # type: ignore[arg-type]

    encoder.stream = noted  # type: ignore[method-assign,assignment]
    return encoder


def test_everything_side_by_side_from_one_encoding_of_the_corpus(
    data: RetrievalData, tiny_model: str, cross_encoder: str, tmp_path: Path
) -> None:
    settings = Settings(
        hybrid=True, rerank=cross_encoder, rerank_depth=5, dimensions=(16, 8, 32, 500), precisions=("int8", "binary"),
        without_prompts=True, bootstrap=100, permutations=100, measures=("recall@60",),
    )  # fmt: skip
    log: list[int] = []
    found = line_up(data, "test", [("m", lambda: counted(tiny_model, log))], tmp_path, settings, bm25=False)
    assert log == [60]
    names = [system.name for system in found.systems]
    assert names == [
        "m", "BM25", "m @16", "m @8", "m int8", "m int8, rescored", "m binary", "m binary, rescored",
        "m binary, rescored by int8", "m without prompts", "m + BM25 (RRF)", "m + BM25 (weighted)", "m, reranked",
        "BM25, reranked", "m + BM25 (RRF), reranked", "m + BM25 (weighted), reranked",
    ]  # fmt: skip
    assert found.notes == ("m has 32 dimensions; 500 cannot be measured.",)
    about = {system.name: system.about for system in found.systems}
    sizes = {name: one.bytes_per_vector for name, one in about.items()}
    assert (sizes["m"], sizes["m @8"], sizes["m int8"], sizes["m binary"]) == (128, 32, 32, 4)
    assert (sizes["m binary, rescored by int8"], sizes["BM25"]) == (36, None)
    assert "dev queries (nDCG@10" in about["m + BM25 (weighted)"].detail
    assert "'query: ' before each query" in about["m without prompts"].detail

    result = evaluate(data, "test", found.systems, settings, 1, found.notes)
    assert result.contest() == ("m", "BM25")
    pairs = {(row.a, row.b) for row in result.comparisons}
    assert {("m @16", "m"), ("m + BM25 (RRF)", "BM25"), ("BM25, reranked", "BM25")} <= pairs
    written = json.loads(json.dumps(metrics(result)))
    assert written["about"]["m binary"]["bytes_per_vector"] == 4
    assert written["systems"]["m"]["recall@60"] == 1
    columns, rows = comparison_table(result)
    assert [row[0] for row in rows] == names
    assert all(len(row) == len(columns) for row in rows)
    base = result.system("m").values["ndcg@10"]
    change = {name: np.abs(result.system(name).values["ndcg@10"] - base).mean() for name in names}
    assert change["m int8, rescored"] < 0.02 < change["m binary"]
    assert change["m binary, rescored by int8"] < change["m binary"]


def test_sizes_and_formats_crossed(data: RetrievalData, tiny_model: str, tmp_path: Path) -> None:
    settings = Settings(dimensions=(8,), precisions=("int8",), crossed=True)
    load = partial(Encoder.load, tiny_model, precision="fp32")
    names = [one.name for one in line_up(data, "test", [("m", load)], tmp_path, settings, bm25=False).systems]
    assert names == ["m", "m @8", "m int8", "m int8, rescored", "m @8 int8", "m @8 int8, rescored"]


def test_prompts_that_are_forgotten_change_the_ranking_and_match_plain_encoding(
    data: RetrievalData, tiny_model: str, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    load = partial(Encoder.load, tiny_model, precision="fp32")
    found = line_up(data, "test", [("m", load)], tmp_path, Settings(without_prompts=True), bm25=False)
    plain, bare = (system.run for system in found.systems)
    assert (plain.rows != bare.rows).any()
    model = SentenceTransformer(tiny_model, device="cpu")
    query = model.encode(data.queries[bare.queries[0]].text, prompt="", normalize_embeddings=True)
    passages = model.encode([p.content for p in data.passages.values()], prompt="", normalize_embeddings=True)
    np.testing.assert_allclose(bare.values[0, :5], np.sort(passages @ query)[::-1][:5], atol=1e-5)


@pytest.mark.parametrize("split", ["dev", "test"])
def test_without_dev_queries_of_its_own_no_weight_is_chosen(
    data: RetrievalData, tiny_model: str, tmp_path: Path, split: str
) -> None:
    load = partial(Encoder.load, tiny_model, precision="fp32")
    short = data if split == "dev" else replace(data, qrels={"test": data.qrels["test"]})
    found = line_up(short, split, [("m", load)], tmp_path, Settings(hybrid=True), bm25=False)
    assert [system.name for system in found.systems] == ["m", "BM25", "m + BM25 (RRF)"]
    assert found.notes[0].startswith("No weighted hybrid")


def test_judged_only_data_rank_the_judged_passages_in_every_system(
    data: RetrievalData, tiny_model: str, cross_encoder: str, tmp_path: Path
) -> None:
    names = list(data.passages)
    few = {
        query: grades | {name: 0 for name in names[n : n + 4] if name not in grades}
        for n, (query, grades) in enumerate(list(data.qrels["test"].items())[:20])
    }
    judged = replace(data, qrels={"test": few, "dev": data.qrels["dev"]}, evaluation="judged-only")
    settings = Settings(hybrid=True, rerank=cross_encoder, precisions=("binary",), dimensions=(16,))
    load = partial(Encoder.load, tiny_model, precision="fp32")
    for system in line_up(judged, "test", [("m", load)], tmp_path, settings, bm25=True).systems:
        for query, passages in zip(system.run.queries, system.run.passages, strict=True):
            assert set(passages) <= set(few[query]), system.name
            assert len(passages) == len(few[query]) or system.name.startswith("BM25")


def test_reranked_ranks_stand_in_the_order_of_the_cross_encoder(
    data: RetrievalData, tiny_model: str, cross_encoder: str, tmp_path: Path
) -> None:
    from sentence_transformers import CrossEncoder

    load = partial(Encoder.load, tiny_model, precision="fp32")
    settings = Settings(rerank=cross_encoder, rerank_depth=7)
    plain, after = (one.run for one in line_up(data, "test", [("m", load)], tmp_path, settings, bm25=False).systems)
    query, before = data.queries[plain.queries[3]].text, plain.passages[3][:7]
    scores = CrossEncoder(cross_encoder, device="cpu").predict([(query, data.passages[p].content) for p in before])
    assert len(set(np.round(scores, 5))) > 3
    assert after.passages[3][:7] == tuple(before[n] for n in np.argsort(-scores, kind="stable"))
    assert after.passages[3][7:] == plain.passages[3][7:]
    assert (np.diff(after.values, axis=1) <= 1e-5).all()


def test_a_pair_that_two_systems_found_is_read_once(data: RetrievalData, cross_encoder: str) -> None:
    from fieldtune.evaluation import bm25_ranking

    reranker = Reranker.load(cross_encoder)
    read: list[int] = []
    predict = reranker.model.predict
    reranker.model.predict = lambda pairs, **more: (read.append(len(pairs)), predict(pairs, **more))[1]  # type: ignore[method-assign,assignment,misc,arg-type,func-returns-value]
    run = bm25_ranking(data, "test")
    first, second = reranker.rerank(data, [run, run], 3)
    assert sum(read) == int((run.rows[:, :3] >= 0).sum())
    np.testing.assert_array_equal(first.rows, second.rows)


def test_half_a_surrogate_pair_is_a_question_mark_to_a_reranker(cross_encoder: str) -> None:
    reranker = Reranker.load(cross_encoder)
    broken, sound = [("rent \ud800", "\udfff 7")], [("rent ?", "? 7")]
    assert reranker.scores(broken).tolist() == reranker.scores(sound).tolist()


def test_an_embedding_model_is_no_reranker(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="holds no model"):
        Reranker.load(str(tmp_path / "empty"))


def test_vectors_that_are_no_numbers_are_refused_by_model_and_text(data: RetrievalData) -> None:
    from fieldtune.evaluation import asked, dense_ranking

    queries, passages = np.ones((len(asked(data, "test")), 4), np.float32), np.ones((60, 4), np.float32)
    passages[7, 2] = np.inf
    with pytest.raises(InputError, match=r"m2: the vector of passage 'p7' has numbers that are not finite"):
        dense_ranking(data, "test", queries, passages, label="m2")
    queries[1, 0] = np.nan
    with pytest.raises(InputError, match=rf"m2: the vector of query '{asked(data, 'test')[1]}'"):
        dense_ranking(data, "test", queries, passages, label="m2")
    with pytest.raises(InputError, match="query vectors have 4 numbers, passage vectors 3"):
        dense_ranking(data, "test", np.ones_like(queries), np.ones((60, 3), np.float32))


def test_a_run_measures_the_dimensions_it_trained() -> None:
    trained = [Result("dataset", {}), Result("training", {}, details={"dimensions": [100, 384, 33]})]
    assert with_trained_sizes(Settings(), trained).dimensions == (100, 33)
    assert with_trained_sizes(Settings(dimensions="auto"), trained).dimensions == (100, 33)
    assert with_trained_sizes(Settings(dimensions=(64,)), trained).dimensions == (64,)
    assert with_trained_sizes(Settings(dimensions="auto"), []).dimensions == "auto"
    plain = [Result("training", {}, details={"dimensions": [384]})]
    assert with_trained_sizes(Settings(), plain).dimensions == ()
