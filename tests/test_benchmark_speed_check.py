"""`--check` of the benchmarks of encoding, mining and evaluation: nothing is written, and a missed bar is an error.

No model and no clock: what stands for the ways says how long it takes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scripts import script

from fieldtune.beir import load_beir

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType], Callable[[float], None]]:
    """Let a script's clock stand still but for what the stubs spend."""

    def still(module: ModuleType) -> Callable[[float], None]:
        now = [0.0]
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now[0]))

        def spend(seconds: float) -> None:
            now[0] += seconds

        return spend

    return still


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def words(data: Path, results: Path) -> list[str]:
    return ["--data", str(data.parent), "--set", data.name, "--model", "m", "--check", "--results", str(results)]


def meaning(text: str, damaged: bool) -> np.ndarray:
    """A vector of the number that both a query and its passage name; of a damaged way, of the text's length."""
    number = int(next(word for word in reversed(text.split()) if word.isdigit())) if not damaged else len(text) % 7
    return np.eye(64, dtype=np.float32)[number % 64]


@pytest.mark.parametrize(
    ("gpu", "seconds", "damaged", "status", "says"),
    [
        (False, {"fieldtune OpenVINO bf16": 2.0}, "", 0, "fieldtune OpenVINO bf16 is 5.00"),
        (False, {"fieldtune OpenVINO bf16": 2.5}, "", 1, "fieldtune OpenVINO bf16 is 4.00"),
        (False, {"fieldtune OpenVINO bf16": 2.0, "peer ONNX fp32": 2.5}, "", 1, "1.25 (1.25 to 1.25) times peer ONNX"),
        (False, {"fieldtune OpenVINO bf16": 2.0, "peer ONNX fp32": 2.5}, "peer ONNX fp32", 0, "2.00 (2.00 to 2.00)"),
        (False, {"fieldtune OpenVINO bf16": 2.0}, "fieldtune OpenVINO bf16", 1, "no way of fieldtune"),
        (
            True,
            {"fieldtune OpenVINO bf16": 3.0},
            "",
            0,
            "1.33 (1.33 to 1.33) times peer OpenVINO bf16 (bar 1.3); share",
        ),
        (True, {"fieldtune OpenVINO bf16": 3.5}, "", 1, "1.14"),
    ],
)
def test_encoding(
    clock: Any, divided: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    gpu: bool, seconds: dict[str, float], damaged: str, status: int, says: str,
) -> None:  # fmt: skip
    benchmark = script("benchmarks/speed_encode.py")
    spend = clock(benchmark)
    cost = {"peer fp32": 10.0, "peer OpenVINO bf16": 4.0, "peer ONNX fp32": 8.0, **seconds}

    def ways(*_: Any) -> dict[str, Any]:
        def one(label: str) -> Any:
            def encode(texts: list[str], side: str) -> np.ndarray:
                spend(cost[label] * (side == "passage"))
                return np.array([meaning(text, label == damaged) for text in texts])

            return encode

        return {label: one(label) for label in cost}

    monkeypatch.setattr(benchmark, "ways", ways)
    monkeypatch.setattr(benchmark, "gpu_ways", ways)
    monkeypatch.setattr(benchmark, "on_gpu", lambda: gpu)
    monkeypatch.setattr(benchmark, "operations", lambda *_: 1e12)
    monkeypatch.setattr(benchmark.Encoder, "load", lambda *_, **__: None)
    more = ["--peak-tflops", "100"]
    assert benchmark.main([*words(divided, tmp_path / "R.md"), *more]) == status
    assert not (tmp_path / "R.md").exists()
    out = capsys.readouterr().out
    assert says in out.splitlines()[-1]
    asked = len(load_beir(divided).positives("test"))
    assert f"60 passages, nDCG@10 on {asked} queries" in out
    assert ("(bar 4.5)" in out) == (not gpu and "no way" not in says)


def test_a_sample_has_all_relevant_passages_of_its_queries(divided: Path) -> None:
    benchmark, data = script("benchmarks/speed_encode.py"), load_beir(divided)
    positives = data.positives("test")
    for size, most, expected in ((60, 400, len(positives)), (60, 5, 5), (4, 400, 8)):
        passages, queries = benchmark.sample(data, size, most)
        assert len(passages) == len(set(passages)) == size and len(queries) == expected
        assert all(passage in passages for query in queries for passage in positives[query])


@pytest.mark.parametrize(
    ("took", "apart", "status"), [(2.0, 0.2, 0), (3.0, 0.2, 1), (2.0, 0.4, 1)], ids=["met", "slow", "other"]
)
def test_evaluation(
    clock: Any, divided: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    took: float, apart: float, status: int,
) -> None:  # fmt: skip
    benchmark = script("benchmarks/speed_evaluate.py")
    spend = clock(benchmark)
    seen: list[int] = []

    def peer(_: Any, data: Any) -> dict[int, float]:
        spend(10.0)
        seen.append(len(data.qrels["test"]))
        return dict.fromkeys(benchmark.SIZES, 80.0)

    def ours(_: Any, __: Any) -> dict[int, float]:
        spend(took)
        return dict.fromkeys(benchmark.SIZES, 80.0 + apart)

    monkeypatch.setattr(benchmark, "peer", peer)
    monkeypatch.setattr(benchmark, "ours", ours)
    monkeypatch.setattr(benchmark.Encoder, "load", lambda *_, **__: SimpleNamespace(encode=lambda *_: None))
    assert benchmark.main(words(divided, tmp_path / "R.md")) == status
    assert not (tmp_path / "R.md").exists() and seen == [len(load_beir(divided).positives("test"))]
    last = last_line(capsys)
    assert f"{10 / took:.2f} times as fast" in last and f"{apart:.2f} points apart" in last


@pytest.mark.parametrize(
    ("seconds", "gb", "same", "status"),
    [(1.0, 0.1, True, 0), (2.0, 0.1, True, 1), (1.0, 0.2, True, 1), (1.0, 0.1, False, 1)],
    ids=["met", "slow", "memory", "other"],
)
def test_mining(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    seconds: float, gb: float, same: bool, status: int,
) -> None:  # fmt: skip
    benchmark = script("benchmarks/speed_mine.py")

    def side(took: float, shift: int = 0) -> Any:
        return lambda field: (took, [set(range(row + shift, row + shift + benchmark.KEPT)) for row in range(40)])

    sides = {
        benchmark.PEER: side(6.0),
        benchmark.DEFAULT: side(2 * seconds),
        benchmark.LIKE: side(seconds, 0 if same else 2),
    }
    monkeypatch.setattr(benchmark, "SIDES", sides)
    monkeypatch.setattr(benchmark, "texts", lambda count, _: [f"text {row}" for row in range(count)])
    monkeypatch.setattr(benchmark, "memory_of", lambda name, _: 0.5 if name == benchmark.PEER else gb)
    given = ["--passages", "200", "--queries", "40", "--dimension", "8", "--check", "--results", str(tmp_path / "R.md")]
    assert benchmark.main(given) == status
    assert not (tmp_path / "R.md").exists()
    last = last_line(capsys)
    assert f"{6 / seconds:.2f} times as fast" in last and f"{0.5 / gb:.1f} times less memory" in last
    assert f"{100 if same else 50:.2f}% of the negatives are the same" in last
