"""Systems of dense, sparse and multi-vectors in the line-up."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fieldtune.beir import RetrievalData, load_beir
from fieldtune.config import Evaluation as Settings
from fieldtune.encoding import Encoder
from fieldtune.encoding.m3 import new_heads, save_heads
from fieldtune.evaluation import evaluate, line_up, signals, with_trained_sizes
from fieldtune.evaluation.audit import audit
from fieldtune.evaluation.before_after import way_rows
from fieldtune.evaluation.proof import prove
from fieldtune.evaluation.report import write_report
from fieldtune.evaluation.signals import Scored
from fieldtune.types import Result

NAMES = [
    "m", "m sparse", "m multi-vector", "m dense + sparse", "m dense + multi-vector", "m sparse + multi-vector",
    "m all three",
]  # fmt: skip


@pytest.fixture
def data(tiny_beir: Path) -> RetrievalData:
    loaded = load_beir(tiny_beir)
    rows = list(loaded.qrels["all"].items())
    return replace(loaded, qrels={"dev": dict(rows[:40]), "test": dict(rows[40:])})


@pytest.fixture
def model(tiny_model: str, tmp_path: Path) -> str:
    """A model that carries layers of its own."""
    folder = tmp_path / "with-layers"
    shutil.copytree(tiny_model, folder)
    heads = new_heads(32, 8)
    torch.manual_seed(1)
    torch.nn.init.normal_(heads["sparse_linear"].weight, std=0.1)  # type: ignore[arg-type]
    save_heads(heads, folder)
    return str(folder)


def test_all_modes_stand_in_the_line_up(
    data: RetrievalData, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(m3=True, bootstrap=100, permutations=100, m3_tokens="int8", m3_pool=2)
    stream = Encoder.stream

    def queries_alone(self: Encoder, texts: Any, side: Any, **more: Any) -> Any:
        assert side == "query"  # passages go through the model once, for all three kinds
        return stream(self, texts, side, **more)

    monkeypatch.setattr(Encoder, "stream", queries_alone)
    lineup = line_up(
        data, "test", [("m", lambda: Encoder.load(model, precision="fp32"))], tmp_path, settings, bm25=True
    )
    found = {system.name: system for system in lineup.systems}
    assert [name for name in found if name != "BM25"] == NAMES
    assert "chosen on 40 dev queries" in found["m all three"].about.detail
    assert not found["m sparse"].about.detail
    sizes = {name: system.about.bytes_per_vector for name, system in found.items() if name in NAMES}
    assert sizes["m"] == 4 * 32
    assert abs(sizes["m all three"] - sizes["m"] - sizes["m sparse"] - sizes["m multi-vector"]) <= 2  # type: ignore[operator]
    done = evaluate(data, "test", lineup.systems, settings, 1, lineup.notes)
    means = {one.name: one.mean["ndcg@10"] for one in done.systems}
    assert means["m sparse"] > means["m"]  # shared words tell these passages apart, a random encoder does not
    assert means["m all three"] > means["m"]
    assert all(parents == ("m",) for name in NAMES[1:] for parents in [found[name].about.parents])
    again = line_up(data, "test", [("m", lambda: Encoder.load(model, precision="fp32"))], tmp_path, settings, bm25=True)
    for one, two in zip(lineup.systems, again.systems, strict=True):
        assert np.array_equal(one.run.rows, two.run.rows)


def test_dense_among_the_candidates_is_the_model_itself(
    data: RetrievalData, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Scored] = []

    def noted(*parts: Any) -> Scored:
        kept.append(Scored(*parts))
        return kept[-1]

    monkeypatch.setattr(signals, "Scored", noted)
    loaders = [("m", lambda: Encoder.load(model, precision="fp32"))]
    plain = line_up(data, "test", loaders, tmp_path, Settings(m3=True), bm25=False).systems[0].run
    assert np.array_equal(kept[0].ranking([1, 0, 0], 10).rows, plain.rows[:, :10])


def test_without_dev_or_layers_it_says_so(data: RetrievalData, tiny_model: str, tmp_path: Path) -> None:
    only = replace(data, qrels={"test": data.qrels["test"]}, evaluation="judged-only")
    lineup = line_up(
        only, "test", [("m", lambda: Encoder.load(tiny_model, precision="fp32"))], tmp_path, Settings(m3=True),
        bm25=False,
    )  # fmt: skip
    assert any("no dev queries" in note for note in lineup.notes)
    assert "without any training" in lineup.systems[-1].about.detail
    for query, found in zip(lineup.systems[-1].run.queries, lineup.systems[-1].run.passages, strict=True):
        assert set(found) <= set(only.qrels["test"][query])


def test_sums_are_ordered_and_words_alone_rank_what_they_find() -> None:
    scores = np.array([[[0.1, 0.5, 0.3, 0.0]], [[0.0, 0.0, 2.0, 0.0]], [[0.9, 0.1, 0.1, 0.0]]], np.float32)
    scored = Scored(("q",), ("a", "b", "c", "d", "e"), np.array([[0, 2, 4, -1]]), scores)
    assert scored.ranking([1, 0, 0], 3).passages[0] == ("c", "e", "a")
    assert scored.ranking([0, 1, 0], 3).passages[0] == ("e",)
    assert scored.ranking([1, 0, 1], 5).passages[0] == ("a", "c", "e")
    assert scored.ranking([1, 0, 1], 5).rows.shape == (1, 5)
    assert scored.ranking([0.5, 0.5, 0], 2).scores[0] == pytest.approx((1.15, 0.25))
    assert scored.spread()[1] == pytest.approx(np.std([0, 0, 2.0]))


def test_each_way_stands_before_and_after_in_the_report(
    data: RetrievalData, model: str, tiny_model: str, tmp_path: Path
) -> None:
    settings = Settings(m3=True, bootstrap=100, permutations=100)
    loaders = [(name, partial(Encoder.load, place, precision="fp32")) for name, place in
               (("base", tiny_model), ("tuned", model))]  # fmt: skip
    lineup = line_up(data, "test", loaders, tmp_path, settings, bm25=False)
    done = evaluate(data, "test", lineup.systems, settings, 1)
    ways = way_rows(done)
    assert [row.name for row in ways] == ["dense", *(name.removeprefix("m ") for name in NAMES[1:])]
    for row in ways:
        names = [name if row.name == "dense" else f"{name} {row.name}" for name in ("base", "tuned")]
        before, after = (done.system(name).mean["ndcg@10"] for name in names)
        assert (row.before.mean, row.after.mean) == (f"{before:.3f}", f"{after:.3f}")
        assert row.compared is not None and row.compared.against == names[0]
        assert float(row.compared.value.replace("−", "-")) == pytest.approx(after - before, abs=6e-4)
    assert sum(row.after.best for row in ways) >= 1 and ways[-1].size
    assert way_rows(evaluate(data, "test", lineup.systems[:2], settings, 1)) == []  # two plain models
    proof = prove(data, done, lineup.systems, audit(data, "test", settings), settings)
    write_report(tmp_path / "report.html", done, data, lineup.systems, proof)
    table = (tmp_path / "report.html").read_text().split('<table id="ways">')[1].split("</table>")[0]
    assert table.count("<tr>") == 8 and f">{ways[-1].after.mean}<" in table


def test_new_layers_have_the_size_that_was_trained(data: RetrievalData, tiny_model: str, tmp_path: Path) -> None:
    loaders = [("m", lambda: Encoder.load(tiny_model, precision="fp32"))]
    sizes = {}
    for size in (0, 8, 999):  # more than the model's 32 do not come out of it
        settings = Settings(m3=True, m3_size=size, m3_tokens="float32")
        lineup = line_up(data, "test", loaders, tmp_path, settings, bm25=False)
        named = {one.name: one.about.bytes_per_vector for one in lineup.systems}
        sizes[size] = named["m multi-vector"]
    assert sizes[0] == sizes[999] is not None
    assert sizes[8] == pytest.approx(sizes[0] / 4, rel=0.05)


def test_a_run_that_trained_them_measures_them() -> None:
    measured = with_trained_sizes(Settings(), [Result("training", {}, details={"m3": {"size": 8}})])
    assert measured.m3 and measured.m3_size == 8
    assert not with_trained_sizes(Settings(), [Result("training", {}, details={})]).m3
