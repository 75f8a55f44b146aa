"""A folder of mixed files to a tuned model and an index, with the real builtin model and the real command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SUBJECTS = {
    "Parking": "vehicles, bays and permits", "Rent": "payment, arrears and interest", "Pets": "dogs, cats and noise",
    "Repairs": "boilers, leaks and damp", "Deposit": "protection and return", "Subletting": "lodgers and guests",
    "Insurance": "buildings, contents and excess", "Garden": "lawns, trees and fences", "Keys": "locks and copies",
    "Utilities": "water, gas and electricity", "Notice": "ending and renewal", "Inventory": "furniture and condition",
}  # fmt: skip


def document(subject: str, about: str, number: int) -> str:
    low = subject.lower()
    return f"""# {subject} agreement

## 1 Definitions

"{subject} Fee" means the sum of {number * 35} euros that the tenant owes for {about} in each calendar year.

## 2 Duties of the tenant

The tenant must report every change concerning {about} to the agent within {number + 3} days. A tenant who fails to
do so under the rules on {low} loses the discount that section 1 of this {low} agreement grants for {about}.

## 3 Duties of the landlord

The landlord answers questions about {about} in writing within {number + 10} days. Costs of {low} that come from the
age of the building are carried by the landlord alone, whatever the {low} agreement says elsewhere about {about}.
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    docs = tmp_path / "docs"
    docs.mkdir()
    for number, (subject, about) in enumerate(SUBJECTS.items()):
        text = document(subject, about, number)
        if number % 3 == 0:
            body = "".join(
                f"<h{line.count('#')}>{line.strip('# ')}</h{line.count('#')}>"
                if line.startswith("#")
                else f"<p>{line}</p>"
                for line in text.splitlines()
                if line
            )
            (docs / f"{subject}.html").write_text(f"<html><body>{body}</body></html>")
        elif number % 3 == 1:
            (docs / f"{subject}.md").write_text(text)
        else:
            import docx

            made = docx.Document()
            for block in text.split("\n\n"):
                marks = len(block) - len(block.lstrip("#"))
                if marks:
                    made.add_heading(block.strip("# \n"), marks)
                else:
                    made.add_paragraph(" ".join(block.split()))
            made.save(str(docs / f"{subject}.docx"))
    (docs / "broken.pdf").write_bytes(b"%PDF-1.4 cut off")
    return tmp_path


def fieldtune(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fieldtune", *words], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.e2e
def test_a_folder_of_documents_without_labels_becomes_a_model_a_report_and_an_index(folder: Path) -> None:
    assert fieldtune(folder, "init", "docs").returncode == 0
    settings = ["--set", "training.batch_size=8", "--set", "split.test=0.3", "--set", "training.epochs=1"]
    ended = fieldtune(folder, "run", "fieldtune.toml", *settings)
    assert ended.returncode == 0, ended.stderr
    run = folder / "run"
    read = json.loads((run / "stages" / "documents.json").read_text())["result"]
    assert read["counts"]["files"] == len(SUBJECTS)
    assert [row["file"] for row in read["details"]["failed"]] == ["broken.pdf"]
    assert "broken.pdf" in ended.stderr
    assert json.loads((run / "queries" / "meta.json").read_text())["made_by"] == "structure"
    assert "made from the documents" in (run / "report.html").read_text()
    found = fieldtune(folder, "search", "run", "what does the tenant pay for dogs and cats?", "-k", "3", "--json")
    hits = [json.loads(line) for line in found.stdout.splitlines()]
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert hits[0]["source"].startswith("Pets.")
    assert hits[0]["title"].startswith("Pets agreement")
