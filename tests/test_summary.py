"""What a run says at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldtune.summary import print_summary
from fieldtune.workspace import write_json


def test_a_single_query_has_no_interval_and_is_printed_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = dict.fromkeys(("accuracy@1", "mrr@10", "ndcg@10", "recall@10"), 1.0)
    system = {**figures, "ci": {name: [None, None] for name in figures}}
    compared = {"a": "tuned", "b": "base", "metric": "ndcg@10", "difference": 0.5, "ci": [None, None], "p": 1.0}
    write_json(
        tmp_path / "metrics.json",
        {
            "systems": dict.fromkeys(("base", "tuned", "tuned @16", "base sparse", "tuned sparse"), system),
            "about": {
                "base": {"kind": "model"},
                "tuned": {"kind": "model"},
                "tuned @16": {"kind": "derived", "variant": "dimension", "model": "tuned"},
                "base sparse": {"kind": "derived", "variant": "signals", "model": "base"},
                "tuned sparse": {"kind": "derived", "variant": "signals", "model": "tuned"},
            },
            "verdict": {"outcome": "no measurable difference", "headline": "One query.", "warnings": []},
            "leakage": {"sentence": "No leak found."},
            "comparisons": [compared],
            "queries": 1,
            "split": "test",
        },
    )
    rows = ("query,system,text,first_relevant_rank", "q,base,What is a lien?,2", "q,tuned,What is a lien?,1")
    (tmp_path / "per_query.csv").write_text("\n".join(rows) + "\n")
    assert print_summary(tmp_path) == "no measurable difference"
    printed = capsys.readouterr().out
    assert "+0.500 [–, –], p = 1.0000" in printed
    assert "@16" not in printed
    assert "tuned sparse" in printed and "base sparse" not in printed
    assert "2 -> 1    What is a lien?" in printed


def test_a_search_that_finds_nothing_says_so_beside_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    from fieldtune.summary import print_hits

    print_hits([], as_json=True)
    captured = capsys.readouterr()
    assert captured.out == "" and "nothing found" in captured.err
