"""An index of dense, sparse and token vectors: what search finds, what stays when documents change, and the files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fieldtune.beir import write_corpus
from fieldtune.config import Config, make_config
from fieldtune.config import Index as Settings
from fieldtune.encoding import Encoder
from fieldtune.encoding.m3 import CachedM3, cached_m3, encode_m3, find, m3_heads, new_heads, save_heads, three_scores
from fieldtune.errors import ConfigError, InputError, ModelError
from fieldtune.evaluation.signals import Scored, chosen_weights
from fieldtune.index import MODES, Dev, Given, Index, build_index
from fieldtune.lexical import BM25
from fieldtune.measures import judgements
from fieldtune.models import resolve_model
from fieldtune.stages.index import run as index_stage
from fieldtune.stages.reindex import reindex
from fieldtune.stages.run import Run
from fieldtune.types import Passage
from fieldtune.workspace import Workspace

TOPICS = ["lease", "rent", "tenant", "deposit", "contract", "breach", "damages", "notice", "fever", "cough", "insulin"]
COUNT = 150
QUERIES = ["lease rent 3", "cough fever 17 42", "what bond ends", "insulin 8", "notice 55 audit tenant", "breach"]


def corpus() -> list[Passage]:
    rng = np.random.default_rng(4)
    texts = [" ".join([*rng.choice(TOPICS, 2 + row % 9), str(row % 60)]) for row in range(COUNT)]
    return [
        Passage(f"p{row}", "", text, source=f"f{row % 5}.md", group=f"f{row % 5}.md", metadata={"year": 2000 + row % 7})
        for row, text in enumerate([*texts[:-2], texts[0], ""])  # an equal passage, and one without a word
    ]


def with_heads(model: str, folder: Path, seed: int = 3) -> Path:
    shutil.copytree(model, folder, dirs_exist_ok=True)
    heads = new_heads(32, 16)
    torch.manual_seed(seed)
    for layer in heads.values():
        torch.nn.init.normal_(layer.weight, std=0.3)  # type: ignore[arg-type]
    torch.nn.init.constant_(heads["sparse_linear"].bias, 3.0)  # type: ignore[arg-type]
    save_heads(heads, folder)
    return folder


class Made:
    """A run with an index, and what it was made of."""

    def __init__(self, run: Path, model: str, **settings: Any) -> None:
        self.run, self.passages = run, corpus()
        folder = with_heads(model, run / "model")
        self.encoder = Encoder.load(str(folder), precision="fp32")
        self.heads = m3_heads(self.encoder, folder)
        texts = [one.content for one in self.passages]
        settings = {"form": "float32", "pool": 1} | settings
        self.kept = cached_m3(self.encoder, self.heads, texts, "passage", run / "vectors", **settings)
        self.vectors = self.kept.whole()
        place = {one.id: row for row, one in enumerate(self.passages)}
        self.judged = judgements([{f"p{row}": 1} for row in (3, 17, 60, 8, 55, 90)], place, 1)
        self.queries = encode_m3(self.encoder, self.heads, QUERIES, "query", form="float32")
        self.settings = settings

    def build(self, config: Settings | None = None, *, dev: bool = True, digest: str = "") -> dict[str, Any]:
        from fieldtune.encoding.m3 import heads_digest

        kept, settings = self.kept, self.settings
        given = Given(
            kept.vectors.sparse, (kept.vectors.tokens,), kept.rows, settings["form"], settings["pool"],
            digest or heads_digest(self.heads), (1.0, 0.3, 1.0), 40,
        )  # fmt: skip
        result = build_index(
            config or Settings(), self.passages, self.vectors.dense, self.run / "index",
            model_fingerprint=resolve_model(str(self.run / "model")).fingerprint, model=self.run / "model", seed=1,
            dev=Dev(tuple(QUERIES), self.queries.dense, self.judged, self.queries) if dev else None, given=given,
        )  # fmt: skip
        self.notes = result.notes
        return dict(result.details["meta"])

    def open(self) -> Index:
        return Index.open(self.run, encoder=self.encoder)


@pytest.fixture(scope="module")
def made(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Made:
    one = Made(tmp_path_factory.mktemp("three") / "run", tiny_model)
    one.build()
    return one


def rows_of(hits: list[Any]) -> list[int]:
    return [int(hit.passage.id[1:]) for hit in hits]


def test_each_mode_ranks_as_evaluation_measures_it(made: Made) -> None:
    index = made.open()
    assert index.modes == ("dense", "words", "hybrid", *MODES)
    rows = find(made.queries, made.vectors, 40)
    scores = three_scores(made.queries, made.vectors, rows)
    scored = Scored(tuple(QUERIES), tuple(one.id for one in made.passages), rows, scores)
    sums = {"sparse": [0, 1, 0], "multi": [0, 0, 1]}
    for mode, members in (("dense-sparse", (0, 1)), ("m3", (0, 1, 2))):
        weights, _ = chosen_weights(scored, members, made.judged)
        assert index.meta["m3"]["weights"][mode] == pytest.approx(weights.tolist(), rel=1e-3)
        sums[mode] = index.meta["m3"]["weights"][mode]
    for mode, weights in sums.items():
        expected = scored.ranking(weights, 10)
        hits = index.search_vectors(made.queries, 10, queries=QUERIES, mode=mode)
        for query, found in enumerate(hits):
            best = [row for row in expected.rows[query].tolist() if row >= 0]
            got = {hit.score for hit in found}
            assert len(found) == len(best)
            assert [hit.score for hit in found] == pytest.approx(expected.values[query, : len(best)].tolist(), abs=2e-5)
            assert rows_of(found) == best or len(got) < len(found)  # of equal sums either
            for hit in found:
                place = rows[query].tolist().index(int(hit.passage.id[1:]))
                parts = dict(zip(("dense", "sparse", "multi"), scores[:, query, place].tolist(), strict=True))
                wanted = {"sparse": {"sparse"}, "dense-sparse": {"dense", "sparse"}}.get(mode, set(parts))
                assert {name for name in parts if name in hit.parts} == wanted
                assert {name: hit.parts[name] for name in wanted} == pytest.approx(
                    {name: parts[name] for name in wanted}, abs=2e-5
                )
    found = index.search(QUERIES[0], 5, mode="m3")  # the model is asked, and gives the same
    assert rows_of(found) == rows_of(index.search_vectors(made.queries, 5, queries=QUERIES, mode="m3")[0])
    assert all(index.search("zzz", 3, mode="sparse") == [] for _ in range(2))  # no word that anything has


def test_all_three_and_bm25_are_spread_and_added(made: Made) -> None:
    from fieldtune.fusion import add_gains, spread

    index = made.open()
    weight = index.meta["m3"]["words_weight"]
    bm25 = BM25(one.content for one in made.passages)
    for query, text in enumerate(QUERIES):
        three = index.search_vectors(made.queries, 40, queries=QUERIES, mode="m3")[query]
        rows, sums = np.array([rows_of(three)]), np.array([[hit.score for hit in three]])
        lexical_scores, lexical = bm25.top_k([text], 100)
        gains = [weight * spread(rows, sums), (1 - weight) * spread(lexical, lexical_scores)]
        expected, totals = add_gains([rows, lexical], gains, 8)
        hits = index.search(text, 8, mode="m3-words")
        assert [hit.score for hit in hits] == pytest.approx(totals[0].tolist(), abs=1e-4)
        assert set(rows_of(hits)[:4]) <= set(expected[0].tolist())
        for hit in hits:
            row = int(hit.passage.id[1:])
            assert hit.parts["words"] == pytest.approx(float(bm25.scores(text)[row]))
            assert {"dense", "sparse", "multi"} <= set(hit.parts)
            assert hit.parts["dense"] == pytest.approx(
                float(made.vectors.dense[row] @ made.queries.dense[query]), abs=1e-5
            )


@pytest.mark.parametrize("mode", MODES)
def test_a_filter_finds_what_a_search_over_the_filtered_corpus_would(made: Made, mode: str) -> None:
    index = made.open()
    where = {"year": {"from": 2002, "to": 2003}}
    kept = np.array([row for row, one in enumerate(made.passages) if one.metadata["year"] in (2002, 2003)])
    part = made.vectors.take(kept)
    rows = find(made.queries, part, 40)
    scores = three_scores(made.queries, part, rows)
    for query, text in enumerate(QUERIES):
        hits = index.search(text, 6, mode=mode, where=where)
        assert {hit.passage.metadata["year"] for hit in hits} <= {2002, 2003}
        if mode == "m3-words":
            assert len(hits) == 6
            continue
        weights = {"sparse": [0, 1, 0], "multi": [0, 0, 1]}.get(mode) or index.meta["m3"]["weights"][mode]
        names = tuple(made.passages[row].id for row in kept)
        expected = Scored((text,), names, rows[query : query + 1], scores[:, query : query + 1]).ranking(weights, 6)
        assert [hit.score for hit in hits] == pytest.approx(
            [value for row, value in zip(expected.rows[0], expected.values[0], strict=True) if row >= 0], abs=2e-5
        )


def test_the_mode_that_found_most_on_dev_is_usual_and_all_is_said(made: Made) -> None:
    meta = made.open().meta
    dev = {name: value for name, value in meta["dev"].items() if name not in ("queries", "measure")}
    assert list(dev) == ["dense", "words", "hybrid", *MODES]
    assert dev[meta["mode"]] == max(dev.values())
    about = meta["m3"]
    assert about["plain"] in ("dense", "words", "hybrid") and about["depth"] == 40
    assert about["weights_from"] == "nDCG@10 on 6 dev queries"
    assert all(mode in " ".join(about["detail"]) for mode in ("dense-sparse", "m3"))
    sizes = meta["bytes_per_passage"]
    tokens = made.vectors.tokens.nbytes / COUNT
    assert sizes["multi-vector"] == pytest.approx(tokens, rel=0.01)
    said = next(note for note in made.notes if "word weights" in note)
    assert f"{sizes['sparse']:,} bytes" in said and f"{sizes['multi-vector']:,}" in said and "float32" in said
    words = made.vectors.sparse.nnz * 8 + 8 * (made.vectors.sparse.shape[1] + 1)
    assert sizes["sparse"] == round(words / COUNT)


def test_without_dev_the_weights_are_those_of_training(tiny_model: str, tmp_path: Path) -> None:
    one = Made(tmp_path / "run", tiny_model, form="int8", pool=2)
    meta = one.build(dev=False)
    assert meta["mode"] == "dense" and meta["m3"]["weights"] == {"dense-sparse": [1.0, 0.3, 0.0], "m3": [1.0, 0.3, 1.0]}
    assert "trained with" in meta["m3"]["weights_from"]
    assert any("one of 2 kept" in note and "int8" in note for note in one.notes)
    full = Made(tmp_path / "full", tiny_model, form="float16", pool=1)
    assert meta["bytes_per_passage"]["multi-vector"] < 0.5 * full.build()["bytes_per_passage"]["multi-vector"]
    index, whole = one.open(), full.open()
    for text in QUERIES[:3]:  # what is left out costs little
        hits, exact = (each.search(text, COUNT, mode="multi") for each in (index, whole))
        near = {hit.passage.id: hit.score for hit in exact}
        assert np.mean([abs(near[hit.passage.id] - hit.score) for hit in hits]) < 0.1
    assert index.search("rent 3", 3)[0].parts.keys() == {"dense", "dense_rank"}


def test_int8_and_cut_dense_vectors_go_with_it(made: Made, tmp_path: Path, tiny_model: str) -> None:
    one = Made(tmp_path / "run", tiny_model)
    meta = one.build(Settings(vectors="float32", dimensions=16))
    assert meta["dimension"] == 16 and len(one.open().search(QUERIES[0], 5, mode="m3")) == 5
    hit = one.open().search(QUERIES[0], 1, mode="dense-sparse")[0]
    cut = [side / np.linalg.norm(side) for side in (
        one.vectors.dense[int(hit.passage.id[1:]), :16], one.queries.dense[0, :16])]  # fmt: skip
    assert hit.parts["dense"] == pytest.approx(float(cut[0] @ cut[1]), abs=1e-5)


def test_readers_keep_their_version_and_other_layers_are_refused(tiny_model: str, tmp_path: Path) -> None:
    one = Made(tmp_path / "run", tiny_model)
    one.build()
    index = one.open()
    before = rows_of(index.search(QUERIES[0], 5, mode="m3"))
    snapshot = index._snapshot
    one.passages = [Passage(f"q{row}", "", passage.text) for row, passage in enumerate(one.passages)]
    one.build()
    again = snapshot.find_three(one.queries, one.queries.dense, QUERIES, 5, "m3", None)[0]
    assert [row for row, _, _ in again] == before  # the version that was open goes on
    assert index.search(QUERIES[0], 5, mode="m3")[0].passage.id.startswith("q")
    one.build()
    assert not (one.run / "index" / "files-1").exists()
    one.build(digest="other layers")
    with pytest.raises(ModelError, match="layers"):
        index.search("rent", mode="m3")
    assert index.search("rent", mode="dense")


def test_an_index_without_them_says_so(made: Made, tmp_path: Path, tiny_model: str) -> None:
    index = made.open()
    with pytest.raises(InputError, match="sparse and token vectors"):
        index.search_vectors(made.queries.dense, 3, queries=QUERIES, mode="m3")
    assert index.search_vectors(made.queries.dense, 3, queries=QUERIES)[0]  # auto does what it can
    run = tmp_path / "run"
    shutil.copytree(tiny_model, run / "model")
    build_index(
        Settings(), made.passages, made.vectors.dense, run / "index", seed=1, model=run / "model",
        model_fingerprint=resolve_model(str(run / "model")).fingerprint,
    )  # fmt: skip
    plain = Index.open(run, encoder=made.encoder)
    assert plain.modes == ("dense", "words", "hybrid")
    with pytest.raises(InputError, match=r"no mode 'm3'.*no sparse and token vectors; train a model"):
        plain.search("rent", mode="m3")
    with_heads(tiny_model, run / "model")  # layers that came after the index, or an index of an earlier version
    with pytest.raises(InputError, match=r"no mode 'multi'.*build it again"):
        Index.open(run, encoder=made.encoder).search("rent", mode="multi")
    with pytest.raises(InputError, match="has no sparse"):
        plain.three(["rent"])


def test_damaged_files_and_layers_of_another_size_are_named(made: Made, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(made.run, run)
    files = next((run / "index").glob("files-*"))
    for name, cut in (("tokens.npy", 200), ("sparse-rows.npy", 150), ("token-starts.npy", 0)):
        whole = (files / name).read_bytes()
        (files / name).write_bytes(whole[:cut])
        with pytest.raises(InputError, match=f"damaged: .*({name}|No data left)") as caught:
            Index.open(run)
        assert "build it again" in str(caught.value.hint)
        (files / name).write_bytes(whole)
    np.save(files / "tokens.npy", np.zeros((3, 16), np.float32))  # of another version
    with pytest.raises(InputError, match=r"tokens.npy does not go with"):
        Index.open(run)
    shutil.copy(made.run / "index" / files.name / "tokens.npy", files)
    torch.save({"weight": torch.zeros(1, 99), "bias": torch.zeros(1)}, run / "model" / "sparse_linear.pt")
    with pytest.raises(ModelError, match=r"shape .1, 99.*32 numbers"):
        Index.open(run).search("rent", mode="m3")


@pytest.fixture
def run(tiny_model: str, tmp_path: Path) -> tuple[Config, Path]:
    """A run with such a model, data and documents, as the stages before leave it."""
    out, docs = tmp_path / "run", tmp_path / "docs"
    with_heads(tiny_model, out / "model")
    docs.mkdir()
    for name, topic in (("lease", "tenant rent"), ("loan", "bond audit"), ("dose", "fever insulin")):
        (docs / f"{name}.md").write_text(f"# {name}\n\n{topic} 3 notice 4.\n\n## More\n\n{topic} again 5 and 6 7.\n")
    config = make_config({"out": str(out), "model": {"base": tiny_model}, "corpus": {"min_tokens": 4}})
    (out / "data" / "qrels").mkdir(parents=True)
    passages = corpus()[:20]
    write_corpus(out / "data" / "corpus.jsonl", passages)
    rows = [{"_id": f"q{row}", "text": one.text} for row, one in enumerate(passages)]
    (out / "data" / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split, part in (("dev", range(10)), ("train", range(10, 20))):
        lines = "".join(f"q{row}\tp{row}\t1\n" for row in part)
        (out / "data" / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + lines)
    return config, docs


def test_the_stage_keeps_them_where_the_model_has_layers(run: tuple[Config, Path], tiny_model: str) -> None:
    config, _ = run
    with Workspace(Path(config.out)) as workspace:
        meta = index_stage(Run(config, workspace)).details["meta"]
        assert meta["m3"]["weights_from"] == "nDCG@10 on 10 dev queries"
        assert len(Index.open(config.out).search("rent lease", 3, mode="m3")) == 3
        off = config.model_copy(update={"index": config.index.model_copy(update={"m3": False})})
        assert index_stage(Run(off, workspace)).details["meta"]["m3"] is None
        (Path(config.out) / "model" / "sparse_linear.pt").unlink()
        assert index_stage(Run(config, workspace)).details["meta"]["m3"] is None
        on = config.model_copy(update={"index": config.index.model_copy(update={"m3": True})})
        with pytest.raises(ConfigError, match="no layers"):
            index_stage(Run(on, workspace))


def test_only_what_is_new_is_encoded_and_what_went_is_gone(
    run: tuple[Config, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, docs = run
    with Workspace(Path(config.out)) as workspace:
        index_stage(Run(config, workspace))
    reindex(config, [str(docs)], add=False)
    index = Index.open(config.out)
    assert {one.source for one in index.iterate()} == {"lease.md", "loan.md", "dose.md"}
    chosen = index.meta["m3"]["weights"]
    assert chosen and index.meta["m3"]["weights_from"] == "nDCG@10 on 10 dev queries"
    encoded: list[str] = []
    import fieldtune.encoding.m3.cached as cached

    real = cached.encode_m3

    def noticed(encoder: Any, heads: Any, texts: Any, *rest: Any, **more: Any) -> Any:
        encoded.extend(texts)
        return real(encoder, heads, texts, *rest, **more)

    monkeypatch.setattr(cached, "encode_m3", noticed)
    monkeypatch.setattr(
        Encoder,
        "stream",
        lambda self, texts, side, **_: pytest.fail(f"a second pass over {len([*texts])} {side} texts"),
    )
    (docs / "dose.md").unlink()
    (docs / "fee.md").write_text("# fee\n\ncourt damages 9 deposit 11.\n")
    result = reindex(config, [str(docs)], add=False)
    assert len(encoded) == result.counts["encoded"] == 1 and "court" in encoded[0]
    monkeypatch.undo()
    index = Index.open(config.out)
    assert {one.source for one in index.iterate()} == {"lease.md", "loan.md", "fee.md"}
    assert index.meta["m3"]["weights"] == chosen
    encoder = Encoder.load(str(Path(config.out) / "model"))
    heads = m3_heads(encoder, Path(config.out) / "model")
    anew = encode_m3(encoder, heads, [one.content for one in index.iterate()], "passage", form="float16")
    sparse, tokens = index.stored_signals()
    np.testing.assert_allclose(sparse.toarray(), anew.sparse.toarray(), atol=2e-2)  # bf16
    assert tokens.starts.tolist() == anew.tokens.starts.tolist()
    np.testing.assert_allclose(tokens.of(slice(None)), anew.tokens.of(slice(None)), atol=2e-2)
    assert index.search("deposit damages", 1, mode="sparse")[0].passage.source == "fee.md"
    encoded.clear()
    assert reindex(config, [str(docs)], add=False).counts["encoded"] == 0 and encoded == []
    smaller = config.model_copy(update={"index": config.index.model_copy(update={"m3_tokens": "int8"})})
    again = reindex(smaller, [str(docs)], add=False)  # another format: made anew, not mixed
    assert again.counts["encoded"] == again.counts["passages"]
    assert Index.open(config.out).meta["m3"]["tokens"] == "int8"
    off = config.model_copy(update={"index": config.index.model_copy(update={"m3": False})})
    reindex(off, [str(docs)], add=False)
    assert Index.open(config.out).meta["m3"] is None and Index.open(config.out).search("rent")


def test_what_was_encoded_before_a_kill_is_not_again(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fieldtune.encoding.m3.cached as cached

    folder = with_heads(tiny_model, tmp_path / "model")
    encoder = Encoder.load(str(folder), precision="fp32")
    heads, texts = m3_heads(encoder, folder), [one.content for one in corpus()]
    whole = encode_m3(encoder, heads, texts, "passage", form="int8")
    monkeypatch.setattr(cached, "_BLOCK", 32)
    real, calls = cached.encode_m3, []

    def fails(encoder: Any, heads: Any, texts: Any, *rest: Any, **more: Any) -> Any:
        calls.append(len(texts))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(encoder, heads, texts, *rest, **more)

    monkeypatch.setattr(cached, "encode_m3", fails)

    def ask() -> CachedM3:
        return cached_m3(encoder, heads, texts, "passage", tmp_path / "vectors", form="int8")

    with pytest.raises(KeyboardInterrupt):
        ask()
    (kept,) = (tmp_path / "vectors").glob("m3-*")
    with (kept / "tokens").open("ab") as stream:
        stream.write(b"half of a block")
    made = ask().whole()
    assert sum(calls) == len(set(texts)) + 32  # the block that was under way, twice
    assert made.tokens.starts.tolist() == whole.tokens.starts.tolist()
    np.testing.assert_allclose(made.tokens.of(slice(None)), whole.tokens.of(slice(None)), atol=2e-2)
    np.testing.assert_allclose(made.sparse.toarray(), whole.sparse.toarray(), atol=1e-5)
    np.testing.assert_allclose(made.dense, whole.dense, atol=1e-5)
    assert np.array_equal(made.dense[0], made.dense[COUNT - 2])  # equal texts, equal vectors
    calls.clear()
    ask()
    assert calls == []
    (kept / "tokens").write_bytes(b"short")
    with pytest.raises(ModelError, match="three kinds"):
        ask()
