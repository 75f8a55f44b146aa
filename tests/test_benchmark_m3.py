"""The benchmarks of three kinds of vectors run on small input and say what they found."""

from __future__ import annotations

from pathlib import Path

import m3
import m3_memory
import m3_storage
import pytest


@pytest.fixture
def data(tiny_beir: Path) -> Path:
    rows = (tiny_beir / "qrels" / "all.tsv").read_text().splitlines()[1:]
    for side, part in {"train": rows[:60], "dev": rows[60:90], "test": rows[90:]}.items():
        (tiny_beir / "qrels" / f"{side}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(part) + "\n")
    (tiny_beir / "qrels" / "all.tsv").unlink()
    return tiny_beir


def test_all_modes_before_and_after(data: Path, tiny_model: str, tmp_path: Path) -> None:
    settings = ["training.batch_size=8", "training.epochs=1", "training.precision=fp32", "training.evaluations=1"]
    words = [
        "--data", str(data), "--model", tiny_model, "--work", str(tmp_path), "--train", "40", "--tokens", "int8",
        "--results", str(tmp_path / "RESULTS.md"), "--set", *settings, "training.m3.size=8",
    ]  # fmt: skip
    rows = m3.main(words)
    names = [row[0] for row in rows]
    assert {"BM25", "dense model, trained alone", "base dense", "M3 dense", "M3 all three", "base sparse"} <= set(names)
    assert len(names) == 1 + 1 + 2 * 7
    gains = dict(zip(names, (row[2] for row in rows), strict=True))
    assert gains["M3 all three"].startswith(("+", "-"))
    assert not gains["dense model, trained alone"]
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| M3 all three |" in text
    assert "peak memory" in text
    assert "chosen on 30 dev queries" in text
    before = (tmp_path / "runs").stat().st_mtime_ns
    m3.main(words)  # trains nothing again
    assert (tmp_path / "runs").stat().st_mtime_ns == before


def test_memory_of_each_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--passages", "4", "--tokens", "256", "--words", "20000", "--results", str(tmp_path / "RESULTS.md")]
    rows = m3_memory.main(words)
    assert [row[0] for row in rows] == ["naive", "vocabulary", "here"]
    peaks = [float(row[2].split()[0].replace(",", "")) for row in rows]
    assert peaks[0] > 60  # 82 MB for one copy of the tensor
    assert peaks[2] < peaks[0] / 4
    assert "agree" in capsys.readouterr().out
    huge = m3_memory.computed(m3_memory.arguments(["--words", "250002"]))
    assert huge == pytest.approx(2 * 16 * 2048 * 250_002 * 4 / 1e9)


def test_bytes_and_times_of_an_index(tmp_path: Path) -> None:
    sizes = ["--tokens", "12", "--dimension", "16", "--size", "8", "--words", "500", "--question", "5"]
    words = [
        "--passages",
        "200",
        "--queries",
        "10",
        *sizes,
        "--pool",
        "1",
        "2",
        "--beside",
        "60",
        "--work",
        str(tmp_path),
    ]
    rows = m3_storage.main([*words, "--results", str(tmp_path / "RESULTS.md")])
    kept = {row[1]: int(row[4].replace(",", "")) for row in rows}
    assert kept["float16, 1 of 1"] == pytest.approx(12 * 8 * 2 + 8, rel=0.1)
    assert kept["int8, 1 of 1"] == pytest.approx(12 * (8 + 4) + 8, rel=0.1)
    assert kept["int8, 1 of 2"] < 0.7 * kept["int8, 1 of 1"]
    assert all(float(part) > 0 for part in rows[0][-1].split(" / "))
    text = (tmp_path / "RESULTS.md").read_text()
    assert "inverted lists, mapped" in text and "LanceDB, lists of words" in text and "| m3 |" in text
    cells = {line.split(" | ")[0]: line.split(" | ") for line in text.splitlines() if " | 1.00 |" in line}
    assert {"| files, float32", "| LanceDB, float32"} <= set(cells)  # both find what the other finds
    assert int(cells["| LanceDB, float32"][1].replace(",", "")) > int(cells["| files, float32"][1].replace(",", ""))
