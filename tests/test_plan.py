from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.config import Config, make_config
from fieldtune.errors import ModelError
from fieldtune.pipeline import NAMES, run_pipeline
from fieldtune.plan import forecast
from fieldtune.training.batches import plan
from fieldtune.training.pairs import Pairs
from fieldtune.workload import Amount, planned_steps, work_of


def config(beir: Path, model: str, out: Path, **training: object) -> Config:
    return make_config({
        "out": str(out),
        "documents": {"paths": [str(beir / "corpus.jsonl")]},
        "queries": {"from": str(beir)},
        "model": {"base": model},
        "training": {"batch_size": 8, "epochs": 3, "precision": "fp32"} | training,
        "evaluation": {"bootstrap": 100, "permutations": 100, "general": False},
    })  # fmt: skip


def column(rows: list[tuple[str, ...]], place: int) -> dict[str, str]:
    return {row[0]: row[place] for row in rows}


def test_before_anything_ran_the_plan_counts_what_lies_there(tiny_beir: Path, tiny_model: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    rows, said = forecast(config(tiny_beir, tiny_model, out))
    much = column(rows, 2)
    size = (tiny_beir / "corpus.jsonl").stat().st_size
    assert much["documents"] == f"1 files, {size / 1000:.1f} kB"
    assert much["corpus"] == "about 60 passages"
    assert much["queries"] == "about 120 queries"
    assert all(re.fullmatch(r"~.+ \(rough\)", text) for text in column(rows, 3).values())
    assert "about" in said[0] and "--measure" in said[-1] and "factor of three" in said[-1]
    assert not out.exists()


def test_finished_stages_say_what_they_took_and_give_the_rate_of_the_next_time(
    tiny_beir: Path, tiny_model: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    first = config(tiny_beir, tiny_model, out)
    results = {result.stage: result for result in run_pipeline(first)}
    rows, said = forecast(first)
    assert set(column(rows, 1).values()) == {"done"}
    assert all(text.startswith("took ") for text in column(rows, 3).values())
    assert said == ["Everything is done; run would change nothing."]
    record = json.loads((out / "stages" / "training.json").read_text())
    (out / "stages" / "training.json").write_text(json.dumps(record | {"seconds": 600.0}))
    rows, said = forecast(config(tiny_beir, tiny_model, out, epochs=6))
    assert list(column(rows, 1).values())[:4] == ["done"] * 4
    steps = results["training"].counts["steps"]
    assert column(rows, 2)["training"] == f"{results['training'].counts['pairs']:,} pairs, {2 * steps:,} steps"
    assert column(rows, 3)["training"] == "~20 min 00 s (as before)"
    assert column(rows, 2)["evaluation"] == "60 passages, tuned model"
    assert any(sentence.startswith("as before: ") for sentence in said)


def test_the_model_is_timed_when_asked(tiny_beir: Path, tiny_model: str, tmp_path: Path) -> None:
    rows, said = forecast(config(tiny_beir, tiny_model, tmp_path / "run"), measure=True)
    assert all("(measured)" in column(rows, 3)[stage] for stage in ("dataset", "training", "evaluation"))
    (sentence,) = (line for line in said if line.startswith("measured: "))
    assert tiny_model in sentence and "passages, " in sentence
    assert not (tmp_path / "run").exists()


def test_without_measuring_nothing_heavy_is_loaded(tiny_beir: Path, tiny_model: str, tmp_path: Path) -> None:
    given = config(tiny_beir, tiny_model, tmp_path / "run").model_dump_json(by_alias=True)
    code = (
        "import sys, json; from fieldtune.config import make_config; from fieldtune.plan import forecast\n"
        "forecast(make_config(json.loads(sys.argv[1])))\n"
        "print(*sorted({'torch', 'transformers', 'lancedb'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, given], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_documents_are_counted_by_file_and_an_llm_has_no_known_speed(tiny_model: str, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for number in range(3):
        (docs / f"{number}.txt").write_text("The lease ends when notice starts. " * 200)
    made = {"out": str(tmp_path / "run"), "documents": {"paths": [str(docs)]}, "model": {"base": tiny_model}}
    structure, llm = (make_config(made | {"queries": {"from": source}}) for source in ("structure", "llm"))
    rows, _ = forecast(structure)
    assert column(rows, 2)["documents"].startswith("3 files, 21 kB")
    passages = work_of(structure, {}).passages
    assert not passages.sure and 100 < passages.value < 1_000  # 5,000 tokens, in passages of at most 32
    rows, said = forecast(llm)
    assert column(rows, 3)["queries"] == "not known"
    assert said[0].endswith("without queries.")


def test_a_plan_that_cannot_run_is_refused(tiny_beir: Path, tiny_model: str, tmp_path: Path) -> None:
    given = config(tiny_beir, tiny_model, tmp_path / "run")
    with pytest.raises(ModelError, match="at most 64 tokens"):
        forecast(given.model_copy(update={"model": given.model.model_copy(update={"max_tokens": 100})}))


@given(
    pairs=st.integers(0, 700),
    size=st.integers(2, 40),
    accumulate=st.integers(1, 3),
    epochs=st.sampled_from([0.3, 1, 1.5, 2, 4]),
)
def test_planned_steps_are_those_of_training(pairs: int, size: int, accumulate: int, epochs: float) -> None:
    rows = np.arange(pairs)
    made = Pairs([], [], rows, rows, [], [], [])
    settings = make_config({"training": {"batch_size": size, "accumulate": accumulate, "epochs": epochs}})
    steps = plan(made, np.ones(pairs, int), size * accumulate, epochs, 1)
    assert planned_steps(settings, Amount(pairs, True)).value == len(steps)


def test_every_stage_has_its_row(tiny_beir: Path, tiny_model: str, tmp_path: Path) -> None:
    rows, _ = forecast(config(tiny_beir, tiny_model, tmp_path / "run"))
    assert tuple(column(rows, 1)) == NAMES
