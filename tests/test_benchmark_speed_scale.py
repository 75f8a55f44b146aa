"""The benchmark of the cost curve: what it says of stages that cost too much, and that it then fails."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from scripts import script

SIZES = (1_000, 10_000, 30_000)


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return script("benchmarks/speed_scale.py")


@pytest.mark.parametrize(
    ("seconds", "growth"),
    [
        ((1.0, 10.0, 30.0), 1.0),
        ((1.0, 100.0, 900.0), 11.0),  # each passage compared with each
        ((0.5, 0.6, 3.6), 150e-6 / (0.1 / 9_000)),  # start-up does not hide what the further passages cost
        ((0.2, 0.4, 0.8), 0.4 / 20 / (0.2 / 9)),
        ((0.3, 0.29, 0.5), 0.21 / 20 / (0.1 / 9)),  # a step back is noise
        ((0.01, 0.02, 0.03), 0.0),
    ],
)
def test_growth_is_of_further_passages(benchmark: ModuleType, seconds: tuple[float, ...], growth: float) -> None:
    found = benchmark.growth_of(SIZES, seconds)
    assert found == pytest.approx(growth) if growth > 0.1 else 0 <= found < 0.1
    assert benchmark.growth_of(SIZES[:1], seconds[:1]) == 0.0


def test_memory_counts_above_a_buffer_that_fills(benchmark: ModuleType) -> None:
    assert benchmark.further(SIZES, (0.1, 0.2, 0.26), "dedupe") == pytest.approx(3.0)
    assert benchmark.further(SIZES, (0.1, 0.2, 0.26), "mining") is None
    assert benchmark.further(SIZES[:1], (0.1,), "dedupe") is None
    assert benchmark.further((1_000, 100_000, 200_000), (0.1, 0.2, 0.3), "mining") == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("stage", "cost", "says"),
    [
        ("", (), ""),
        ("search", (0.1, 0.5, 4.0), "search 3.94"),
        ("dedupe", (0.1, 10.0, 90.0), "dedupe 11.00"),
    ],
)
def test_a_check_fails_where_a_stage_grows(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    stage: str, cost: tuple[float, ...], says: str,
) -> None:  # fmt: skip
    def measured(name: str, size: int, _: Path | None) -> tuple[float, float, float, int]:
        return (cost[SIZES.index(size)] if name == stage else size / 5_000), 0.05 + size * 1e-6, 2.5, size

    monkeypatch.setattr(benchmark, "measured", measured)
    results, picture = tmp_path / "R.md", tmp_path / "scale.svg"
    status = benchmark.main(["--check", "--results", str(results), "--picture", str(picture)])
    assert status == int(bool(stage))
    assert not results.exists() and not picture.exists()
    last = capsys.readouterr().out.splitlines()[-1]
    assert says in last and "parsing 1.00" in last and "not counted" not in last
    assert "resident" in last and "search 2,500" in last


@pytest.mark.parametrize(("kilobytes", "status"), [(1.9, 0), (2.1, 1)])
def test_a_check_fails_where_memory_grows(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    kilobytes: float, status: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(
        benchmark, "measured", lambda stage, size, _: (size / 5_000, size * kilobytes * 1e-6, 2.5, size)
    )
    assert benchmark.main(["--check", "--stage", "mining", "passages"]) == status
    assert f"mining {kilobytes:.2f}, passages {kilobytes:.2f}" in capsys.readouterr().out.splitlines()[-1]


def test_memory_is_counted_for_each_passage_that_comes_of_a_text(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "measured", lambda _, size, __: (size / 5_000, size * 2.5e-6, 2.5, 2 * size))
    assert benchmark.main(["--check", "--stage", "passages"]) == 0
    assert "passages 1.25" in capsys.readouterr().out.splitlines()[-1]


def test_the_results_say_where_the_lengths_come_from(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(benchmark, "measured", lambda stage, size, _: (size / 5_000, size * 1e-6, 2.5, size))
    for name in ("one", "two"):
        (tmp_path / "sets" / name).mkdir(parents=True)
        (tmp_path / "sets" / name / "corpus.jsonl").write_text("")
    out = ["--sizes", "1000", "10000", "--results", str(tmp_path / "R.md"), "--picture", str(tmp_path / "scale.svg")]
    benchmark.main(out)
    assert "after a log-normal distribution" in (tmp_path / "R.md").read_text("utf-8")
    benchmark.main([*out, "--data", str(tmp_path / "sets")])
    assert "as long as those of 2 BEIR folders" in (tmp_path / "R.md").read_text("utf-8")


def test_a_search_must_find_the_passage_whose_vector_it_asks_with(benchmark: ModuleType) -> None:
    ten = [str(row) for row in range(10)]
    benchmark.require_own("7", ten)
    for own, found in (("10", ten), ("7", ten[:9])):
        with pytest.raises(SystemExit, match=f"passage {own} is not among"):
            benchmark.require_own(own, found)
