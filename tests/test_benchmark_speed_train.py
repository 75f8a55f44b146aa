"""The benchmark of training's speed runs all ways on a small folder and compares what they trained."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scripts import script

from fieldtune.beir import load_beir
from fieldtune.evaluation.rankings import Ranking
from fieldtune.types import Example

pytest.importorskip("datasets", reason="the peer's trainer reads its rows through the package datasets")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return script("benchmarks/speed_train.py")


@pytest.fixture
def folder(tiny_beir: Path) -> Path:
    """Train and dev, whose passages are of many groups."""
    rows = (tiny_beir / "qrels" / "all.tsv").read_text().splitlines()[1:]
    for side, part in {"train": rows[:70], "dev": rows[70:]}.items():
        (tiny_beir / "qrels" / f"{side}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(part) + "\n")
    (tiny_beir / "qrels" / "all.tsv").unlink()
    return tiny_beir


def test_all_ways_train_and_are_compared(
    benchmark: ModuleType, folder: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[str] = []

    def here(command: list[str], **_: Any) -> Any:
        if "--one" in command:
            ran.append(command[command.index("--one") + 1])
        benchmark.main(command[2:])
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(benchmark.subprocess, "run", here)
    words = ["--data", str(folder.parent), "--set", folder.name, "--model", tiny_model, "--pairs", "60"]
    status = benchmark.main([*words, "--repeats", "1", "--batch", "16", "--results", str(tmp_path / "R.md")])
    assert ran == [*benchmark.WAYS, *benchmark.LARGE_WAYS]
    said = (tmp_path / "R.md").read_text()
    assert "48 pairs of a hard negative each" in said  # whole batches
    assert "worker processes, mini-batches of" in said and "over its 1 training," in said
    (size,) = {int(found) for found in re.findall(r"batch (\d+) \|", said)}
    assert 16 < size < 1_024 and f"in a batch of {size}, which is none of 1,024 (bar 2: missed)" in said
    for way in benchmark.WAYS:
        assert f"| {way} |" in said
    assert status == int("missed" in said)
    shown = {line.split(" | ")[0][2:]: line.split(" | ")[-1] for line in said.splitlines() if line.startswith("| ")}
    assert shown["peer"] != "" and shown["fieldtune"] != ""


def test_no_two_rows_of_the_large_batch_share_a_text(benchmark: ModuleType, divided: Path) -> None:
    data = load_beir(divided)
    rows, labelled = benchmark.large_rows(data, 1_024)
    texts = [text for row in rows for text in (row.query, *row.pos)]
    assert len(texts) == len(set(texts)) == 2 * len(rows)
    known = {
        (data.queries[query].text, data.passages[passage].content)
        for side in data.qrels
        for query, found in data.positives(side).items()
        for passage in found
    }
    assert [(row.query, row.pos[0]) in known for row in rows] == [True] * labelled + [False] * (len(rows) - labelled)
    assert labelled == len({passage for _, passage in known})  # a query of each, of dev and test too
    few, some = benchmark.large_rows(data, 10)
    assert few == rows[:10] and some == 10
    train = {data.queries[query].text for query in data.qrels["train"]}
    assert {row.query for row in few} <= train


def runs(seconds: float, memory: float = 1.0, count: int = 1) -> list[dict[str, float]]:
    return [{"seconds": seconds, "memory": memory}] * count


def costs(benchmark: ModuleType) -> dict[str, list[dict[str, float]]]:
    peers = {benchmark.PEER: runs(70, 9), benchmark.TUNED: runs(50, 9), benchmark.BEST: runs(35, 9)}
    cached = {benchmark.PLAIN_CACHED: runs(40), benchmark.CACHED_PEER: runs(25)}
    return peers | cached | {benchmark.OURS: runs(10), benchmark.CACHED: runs(10)}


@pytest.mark.parametrize(
    ("low", "large", "missed"),
    [(-0.4, 1_024, []), (-0.6, 1_024, ["dev"]), (float("nan"), 1_024, ["dev"]), (-0.4, 1_023, ["none of 1,024"])],
)
def test_what_was_not_compared_or_is_smaller_counts_as_missed(
    benchmark: ModuleType, low: float, large: int, missed: list[str]
) -> None:
    bars = benchmark.bars_of(costs(benchmark), low, large)
    under = [text for text, value, bar in bars if not value >= bar]
    assert len(bars) == 5 and len(under) == len(missed)
    assert all(part in text for part, text in zip(missed, under, strict=True))


def test_of_some_ways_the_bars_that_there_are_count(benchmark: ModuleType) -> None:
    some = {way: costs(benchmark)[way] for way in (benchmark.BEST, benchmark.OURS)}
    bars = benchmark.bars_of(some, -0.2, 1_024)
    assert [(round(value, 2), bar) for _, value, bar in bars] == [(3.5, 3.0), (-0.2, -0.5)]
    assert [bar for _, _, bar in benchmark.bars_of(some, -0.2, 1_024, gpu=True)] == [1.3, -0.5]
    assert benchmark.bars_of({benchmark.BEST: some[benchmark.BEST]}, None, 1_024) == []


@pytest.fixture
def stubbed(benchmark: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, float]]]:
    """No training and no model: what each way costs, and rankings that put fieldtune's positives first."""
    found = costs(benchmark)
    rows, _ = benchmark.large_rows(load_beir(folder), 16)
    monkeypatch.setattr(benchmark, "LARGE", 40)
    monkeypatch.setattr(benchmark, "rows_of", lambda *_: rows)
    monkeypatch.setattr(benchmark, "tuned_peer", lambda *_: benchmark.Tuned(0, 64))
    monkeypatch.setattr(benchmark, "scale_for", lambda *_: 42.0)

    def trained(given: Any, way: str, rows: Path, out: Path) -> dict[str, float]:
        (out / "model").mkdir(parents=True)
        return found[way][0]

    def ranked(_: Any, data: Any, split: str, *rest: Any, label: str) -> Ranking:
        queries = list(data.positives(split))
        first = [next(iter(data.positives(split)[query])) for query in queries]
        others = [[name for name in data.passages if name != top] for top in first]
        rows = [
            [top, *rest] if label == benchmark.OURS else [*rest, top] for top, rest in zip(first, others, strict=True)
        ]
        return Ranking.of(queries, rows, [np.linspace(1, 0, len(row)) for row in rows], list(data.passages))

    monkeypatch.setattr(benchmark, "trained", trained)
    monkeypatch.setattr(benchmark.Encoder, "load", lambda *_, **__: None)
    monkeypatch.setattr(benchmark, "model_ranking", ranked)
    return found


def test_queries_of_train_that_nobody_trains_on_can_be_compared_too(benchmark: ModuleType, folder: Path) -> None:
    data = load_beir(folder)
    train, dev = data.positives("train"), data.positives("dev")
    asked = list(train)[:5]
    rows = [Example(data.queries[key].text, ("a",)) for key in asked]
    judged = benchmark.with_held_out(data, rows).positives("dev")
    assert set(judged) == {*dev, *train} - set(asked)
    assert len(judged) > len(dev)
    assert set(
        benchmark.with_held_out(data, [Example(data.queries[key].text, ("a",)) for key in train]).positives("dev")
    ) == set(dev)


@pytest.mark.parametrize(("seconds", "status"), [(10, 0), (12, 1)])
def test_a_check_writes_nothing_and_says_whether_the_bars_are_met(
    benchmark: ModuleType, stubbed: Any, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    seconds: float, status: int,
) -> None:  # fmt: skip
    stubbed[benchmark.OURS] = runs(seconds)
    words = ["--data", str(folder.parent), "--set", folder.name, "--check", "--results", str(tmp_path / "R.md")]
    assert benchmark.main(words) == status
    assert not (tmp_path / "R.md").exists()
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"{70 / seconds:.2f}" in last and f"{35 / seconds:.2f}" in last and "2.50" in last
    assert ("missed" in last) == bool(status) and "dev difference" in last


def test_some_ways_alone_are_compared(benchmark: ModuleType, stubbed: Any, folder: Path, tmp_path: Path) -> None:
    words = ["--data", str(folder.parent), "--set", folder.name, "--results", str(tmp_path / "R.md")]
    assert benchmark.main([*words, "--repeats", "2", "--ways", benchmark.BEST, benchmark.OURS]) == 0
    said = (tmp_path / "R.md").read_text()
    assert f"| {benchmark.BEST} |" in said and f"| {benchmark.OURS} |" in said and "fieldtune's scale: 42" in said
    assert not any(f"| {way}" in said for way in (*benchmark.LARGE_WAYS, benchmark.PEER + " |"))
    assert "3.50 (3.50 to 3.50) times peer, tuned, no dropout (bar 3: met)" in said and "over its 2 trainings" in said


def test_more_runs_make_the_interval_of_the_difference_narrower(
    benchmark: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, given = load_beir(folder), benchmark.arguments(["--data", str(folder.parent), "--model", "m"])
    draw = np.random.default_rng(1)

    def ranked(_: Any, data: Any, split: str, *rest: Any, label: str) -> Ranking:
        queries = list(data.positives(split))
        rows = [[str(name) for name in draw.permutation(list(data.passages))] for _ in queries]
        return Ranking.of(queries, rows, [np.linspace(1, 0, len(row)) for row in rows], list(data.passages))

    monkeypatch.setattr(benchmark.Encoder, "load", lambda *_, **__: None)
    monkeypatch.setattr(benchmark, "model_ranking", ranked)
    models = {way: Path(way) for way in benchmark.WAYS}
    found = [benchmark.on_dev(data, models, given, folder) for _ in range(16)]
    others = [benchmark.PEER, benchmark.BEST]
    assert benchmark.low_of(found[:1], others, given) < benchmark.low_of(found, others, given) - 1 < 0


def test_the_fastest_trial_of_the_peer_is_kept(benchmark: ModuleType) -> None:
    assert benchmark.fastest_of({0: 2.0, 1: 1.5}) == 1 and benchmark.fastest_of({16: 1.0, 32: 1.5, 64: 1.2}) == 16


@pytest.mark.parametrize(("seconds", "status"), [(25, 0), (30, 1)])
def test_on_a_gpu_the_share_of_its_peak_is_said(
    benchmark: ModuleType, stubbed: Any, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, seconds: float, status: int,
) -> None:  # fmt: skip
    stubbed[benchmark.OURS] = runs(seconds)
    monkeypatch.setattr(benchmark, "on_gpu", lambda: True)
    monkeypatch.setattr(benchmark, "operations_of", lambda *_: 1e15)
    words = ["--data", str(folder.parent), "--set", folder.name, "--check", "--results", str(tmp_path / "R.md")]
    assert benchmark.main([*words, "--peak-tflops", "100"]) == status
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"{35 / seconds:.2f}" in last and "bar 1.3" in last and "bar 6" not in last
    assert f"(100 TFLOPS): fieldtune {1_000 / seconds:.1f}%, peer, tuned, no dropout {1_000 / 35:.1f}%" in last


def test_operations_are_counted_from_the_shape(benchmark: ModuleType, tiny_model: str) -> None:
    import peak

    model = benchmark.Encoder.load(tiny_model, precision="fp32").model
    shape = peak.shape_of(model)
    assert shape == peak.Shape(weights=2 * (4 * 32 * 32 + 2 * 32 * 64), layers=2, width=32)
    assert shape.operations(np.array([3, 5])) == 2 * shape.weights * 8 + 4 * 32 * 2 * (9 + 25)
    assert peak.peak_of("NVIDIA H100 PCIe") == 756 and peak.peak_of("NVIDIA L40S") == 362
    assert peak.peak_of("NVIDIA A100-SXM4-80GB") == 312 and np.isnan(peak.peak_of("Radeon"))
    assert "--peak-tflops" in peak.shares(1.0, {"a": 1.0}, float("nan"))
