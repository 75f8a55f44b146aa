"""The benchmark of start-up takes medians, checks them against the bars and says what went wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from scripts import script


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return script("benchmarks/start.py")


@pytest.mark.parametrize(("search", "status"), [((9.0, 1.5, 1.8, 5.0), 0), ((1.0, 2.2, 2.1, 1.9), 1)])
def test_the_median_decides_and_the_first_does_not_count(
    benchmark: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    search: tuple[float, ...],
    status: int,
) -> None:
    times: dict[bool, Iterator[float]] = {False: iter((0.5, 0.1, 0.2, 0.3)), True: iter(search)}
    monkeypatch.setattr(benchmark, "seconds", lambda command, _: next(times["search" in command]))
    assert benchmark.main(["run", "--repeats", "3", "--check"]) == status
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"--help 0.20 s (bar 0.3); search {sorted(search[1:])[1]:.2f} s (bar 2)"


def test_a_command_that_fails_is_no_fast_one(benchmark: ModuleType) -> None:
    assert benchmark.seconds([sys.executable, "-c", "print(1)"], cold=False) > 0
    with pytest.raises(SystemExit, match="no such run"):
        benchmark.seconds([sys.executable, "-c", "import sys; sys.exit('no such run')"], cold=False)
    with pytest.raises(SystemExit, match="printed nothing"):
        benchmark.seconds([sys.executable, "-c", "pass"], cold=False)
