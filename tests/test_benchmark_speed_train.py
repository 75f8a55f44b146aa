"""The benchmark of training's speed runs all ways on a small folder and compares what they trained."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("datasets", reason="the peer's trainer reads its rows through the package datasets")
PATH = Path(__file__).parents[1] / "benchmarks" / "speed_train.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_speed_train", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_speed_train"] = module
    spec.loader.exec_module(module)
    return module


def test_all_ways_train_and_are_compared(
    benchmark: ModuleType, tiny_beir: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = (tiny_beir / "qrels" / "all.tsv").read_text().splitlines()[1:]
    for side, part in {"train": rows[:70], "dev": rows[70:]}.items():
        (tiny_beir / "qrels" / f"{side}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(part) + "\n")
    (tiny_beir / "qrels" / "all.tsv").unlink()
    ran: list[str] = []

    def here(command: list[str], **_: Any) -> Any:
        ran.append(command[command.index("--one") + 1])
        benchmark.main(command[2:])
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(benchmark.subprocess, "run", here)
    words = ["--data", str(tiny_beir.parent), "--set", tiny_beir.name, "--model", tiny_model, "--pairs", "60"]
    status = benchmark.main([*words, "--repeats", "1", "--results", str(tmp_path / "R.md")])
    assert ran == [*benchmark.WAYS, *benchmark.LARGE_WAYS]
    said = (tmp_path / "R.md").read_text()
    for way in ran:
        assert f"| {way} |" in said
    assert status == int("missed" in said)
    shown = {line.split(" | ")[0][2:]: line.split(" | ")[-1] for line in said.splitlines() if line.startswith("| ")}
    assert shown["peer"] != "" and shown["fieldtune"] != ""
