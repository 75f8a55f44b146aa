"""One limit and one price for all that an LLM is asked for in a run: queries, judge, check and teacher."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fieldtune.config import Config, make_config
from fieldtune.dataset.pricing import asks_for_grades, asks_for_queries, price_grades
from fieldtune.pipeline import run_pipeline
from fieldtune.plan import query_price
from fieldtune.queries.pricing import cost_sentences
from fieldtune.types import Passage

PASSAGES = {f"p{n}": Passage(f"p{n}", "", f"passage {n} says something of some length") for n in range(20)}


def config(**sections: Any) -> Config:
    return make_config({"llm": {"base_url": "http://127.0.0.1:9/v1", "model": "m"}, **sections})


def test_each_who_asks_for_grades_has_a_part() -> None:
    assert price_grades(config(), PASSAGES, 100, made=True) == []
    everyone = config(
        queries={"judge": True}, negatives={"check": "llm", "per_query": 3}, teacher={"model": "llm", "ranks": [5]}
    )
    judge, check, teacher = price_grades(everyone, PASSAGES, 100, made=True)
    assert judge.requests == (30, 100)
    assert check.requests[0] < 100 * 5 < check.requests[1] == 100 * (1 + 4 * 3)
    assert teacher.requests[1] == 100 * (1 + 3 + 2 * 2)
    assert 0 < judge.low.prompt < judge.high.prompt and judge.low.completion < judge.high.completion
    assert [part.name for part in price_grades(everyone, PASSAGES, 100, made=False)] == ["the check", "the teacher"]
    assert asks_for_queries(everyone) and asks_for_grades(everyone)
    assert not asks_for_queries(config()) and not asks_for_grades(config(negatives={"check": "llm", "per_query": 0}))
    limited = everyone.llm.model_copy(update={"max_tokens": judge.high.total + 1})
    assert not any("may stop" in said for said in cost_sentences(limited, [judge]))
    assert any("may stop" in said for said in cost_sentences(limited, [judge, teacher]))


@pytest.fixture
def project(tmp_path: Path, tiny_model: str) -> dict[str, Any]:
    rows = [
        {"_id": f"p{n}", "title": f"article {n}", "text": f"rent {n} covers tenant {n} and {n} deposit notice {n}"}
        for n in range(24)
    ]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [{"corpus-id": f"p{n}", "style": "formal", "query": f"what covers rent tenant {n} here"} for n in range(24)]
    (tmp_path / "made.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    return {
        "out": str(tmp_path / "run"),
        "model": {"base": tiny_model},
        "queries": {
            "from": str(tmp_path / "made.jsonl"),
            "corpus": str(tmp_path / "corpus.jsonl"),
            "judge": True,
            "round_trip_k": 0,
        },
        "negatives": {"per_query": 1, "depth": 5},
        "teacher": {"model": "llm", "ranks": [5], "per_band": 1},
    }


def test_a_limit_holds_for_judge_and_teacher_together(serve_llm: Any, project: dict[str, Any]) -> None:
    endpoint = serve_llm(lambda *_: '{"reason": "so", "grade": 3}')  # ten tokens each
    llm = {"base_url": endpoint.url, "model": "m", "answer_tokens": 50, "concurrency": 1}
    plan = " ".join(query_price(make_config(project | {"llm": llm | {"max_tokens": 100}})))
    assert "the judge: 7 to 24 requests" in plan and "the teacher:" in plan and "may stop it" in plan
    assert not endpoint.requests
    results = run_pipeline(make_config(project | {"llm": llm | {"max_tokens": 700}}), last="dataset")
    notes = " ".join(note for result in results for note in result.notes)
    spent = 10 * endpoint.paid
    assert endpoint.paid > 24 and 400 < spent <= 700
    assert "gave 24 grades to queries" in notes and re.search(r"pairs got no score of m: the spending limit", notes)
    paid = endpoint.paid
    run_pipeline(make_config(project | {"llm": llm}), last="dataset")
    assert endpoint.paid > paid and len(set(endpoint.paid_for)) == endpoint.paid
    assert query_price(make_config(project | {"llm": llm})) == [
        "The LLM's answers are there; nothing is left to pay for."
    ]
