"""The pages for law, medicine and finance walked as they are printed, on a tiny run and tables with their columns."""

from __future__ import annotations

import json
import random
import re
import shlex
import shutil
from pathlib import Path

import pytest
from serving_cases import TOPICS, tiny_passages, write_index
from typer.testing import CliRunner

from fieldtune.cli import app
from fieldtune.types import Passage

PAGES = Path(__file__).parent.parent.parent / "docs"
KINDS = ("kind a", "kind b")
NAMES = {
    "law": {"clauses.csv": "clause,type,contract", "new.csv": "clause", "standard.csv": "clause"},
    "medicine": {"terms.csv": "term,chapter,category", "new-terms.csv": "term", "titles.csv": "term"},
    "finance": {"labelled.csv": "purpose,category,payer", "payments.csv": "purpose,account"},
}
"""Tables that the pages name, with the columns that their commands ask for: text, class, group."""
ELSEWHERE = ("run", "compare", "doctor")
"""Commands that train or measure, or are tested where they are; serving itself is, too."""


def commands(page: str) -> list[list[str]]:
    blocks = re.findall(r"^```\n(.*?)^```", page, re.M | re.S)
    found = [shlex.split(line, comments=True)[1:] for block in blocks for line in block.splitlines()]
    return [words for words in found if words and words[0] not in ELSEWHERE]


def write_tables(folder: Path, tables: dict[str, str]) -> None:
    """Texts of two kinds, told apart by their words, in groups of two."""
    rng = random.Random(7)
    for name, columns in tables.items():
        lines = [columns]
        for row in range(48):
            half = row % 2
            words = rng.sample(TOPICS[10 * half : 10 * half + 10], 5)
            lines.append(",".join([f"{' '.join(words)} {row}", KINDS[half], f"g{row // 2}"][: columns.count(",") + 1]))
        (folder / name).write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("field", NAMES)
def test_each_command_does_what_the_page_says(
    field: str, tiny_run: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    dated = [Passage(**{name: getattr(one, name) for name in ("id", "title", "text", "source")},
                     metadata={"date": f"202{row % 5}-01-02"}) for row, one in enumerate(tiny_passages())]  # fmt: skip
    write_index(run, run / "model", dated)
    write_tables(tmp_path, NAMES[field])
    monkeypatch.chdir(tmp_path)
    page = (PAGES / f"{field}.md").read_text("utf-8")
    walked = commands(page)
    documents = tmp_path / next(words[1] for words in walked if words[0] == "init")
    documents.mkdir()
    (documents / "one.md").write_text("# Lease\n\nThe tenant gives notice. The landlord returns the deposit.\n")
    done = []
    for words in walked:
        if words[0] == "serve" and "--new-key" not in words:
            continue
        more = ["--set", f"model.base={tiny_model}"] if words[0] == "plan" else []
        found = CliRunner().invoke(app, [*words, *more])
        assert found.exit_code == 0, (words, found.output, found.exception)
        if "--out" in words:
            made = tmp_path / words[words.index("--out") + 1]
            assert made.stat().st_size, words
        if "--where" in words:
            low, high = words[words.index("--where") + 1].removeprefix("date=").split("..")
            found = CliRunner().invoke(app, [*words, "--json"])
            dates = [json.loads(line)["metadata"]["date"] for line in found.stdout.splitlines()]
            assert dates and all(low <= date <= high for date in dates), dates
        done.append(words[0])
    assert {"init", "plan", "search", "ask", "serve", "classify", "duplicates", "outliers"} <= set(done)
    assert (run / "serving" / "keys.jsonl").exists()
    report = json.loads(next(tmp_path.glob("*.npz")).with_suffix(".json").read_text("utf-8"))
    assert report
