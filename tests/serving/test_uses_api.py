"""Classes, duplicates and outliers over HTTP: the same that the functions find, and clear refusals."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving_cases import TOPICS, VERBS, alive, eventually, serving, tiny_passages

RARE = {"text": "x", "label": "rare"}
LEASE, CARE = TOPICS[:8], ["fever", "cough", "asthma", "insulin", "fracture"]


def examples() -> list[dict[str, str]]:
    lease = [{"text": f"The {one} {VERBS[n % 6]} the {LEASE[n - 1]}", "label": "lease"} for n, one in enumerate(LEASE)]
    care = [{"text": f"The {one} {VERBS[n % 6]} the {CARE[n - 1]}", "label": "care"} for n, one in enumerate(CARE)]
    return lease + care


def test_classes_are_learnt_from_examples_and_what_that_is_worth_is_said(client: httpx.Client) -> None:
    body: dict[str, Any] = {"examples": examples(), "texts": ["rent rent tenant lease deposit", "cough fever asthma"]}
    found = client.post("/v1/classify", json=body).json()
    assert [one["label"] for one in found["predictions"]] == ["lease", "care"]
    assert all(0.5 < one["probability"] <= 1 for one in found["predictions"])
    assert found["labels"] == ["care", "lease"] and 0.5 <= found["accuracy"] <= 1 and found["folds"] >= 2
    assert {one["label"]: one["examples"] for one in found["classes"]} == {"care": 5, "lease": 8}
    unsure = client.post("/v1/classify", json=body | {"abstain_below": 0.999}).json()
    assert [one["label"] for one in unsure["predictions"]] == [None, None]
    assert [one["best"] for one in unsure["predictions"]] == ["lease", "care"]
    assert client.post("/v1/classify", json=body | {"texts": []}).json()["predictions"] == []


def test_the_same_said_twice_is_found_among_texts_and_between_two_lists(client: httpx.Client) -> None:
    texts = [
        "The lease ends the rent.",
        "Notice 5 must be given",
        "THE LEASE  ends the rent.",
        "Notice 6 must be given",
    ]
    found = client.post("/v1/duplicates", json={"texts": texts, "threshold": 0.9}).json()
    assert (found["pairs"][0]["first"], found["pairs"][0]["second"], found["pairs"][0]["kind"]) == (0, 2, "equal")
    near = [one for one in found["pairs"] if one["kind"] == "near"]
    assert next((one["first"], one["second"], one["differs"]) for one in near) == (1, 3, "5 | 6")
    between = client.post("/v1/duplicates", json={"texts": texts[:1], "against": texts[1:], "threshold": 0.999}).json()
    assert [(one["first"], one["second"]) for one in between["pairs"]] == [(0, 1)]


def test_what_lies_far_from_its_kind_is_found(client: httpx.Client) -> None:
    texts = [f"The rent {VERBS[n % 6]} the lease. Notice {n}" for n in range(30)] + ["asthma fever cough insulin"]
    found = client.post("/v1/outliers", json={"texts": texts}).json()
    assert found["outliers"][0]["index"] == 30 and found["judged"] == 31 and found["outliers"][0]["misplaced"] is None
    kinds = ["a"] * 15 + ["b"] * 15 + ["c"]
    found = client.post("/v1/outliers", json={"texts": texts, "kinds": kinds}).json()
    assert found["too_small"] == {"c": 1}


@pytest.mark.parametrize(
    ("path", "body", "param", "says"),
    [
        ("classify", {"examples": examples()[:8], "texts": []}, "examples", "only 1 class"),
        ("classify", {"examples": [*examples(), RARE], "texts": []}, "examples", "'rare' has 1"),
        ("classify", {"examples": examples()[:3], "texts": []}, "examples", "at least 6"),
        ("classify", {"examples": examples(), "texts": [" "]}, "texts[0]", "is empty"),
        ("duplicates", {"texts": ["a", "b"], "threshold": 2}, "threshold", "less than or equal"),
        ("duplicates", {"texts": []}, "texts", "at least 1"),
        ("outliers", {"texts": ["a b", "c"], "kinds": ["x"]}, "kinds", "1 kinds for 2 texts"),
        ("outliers", {"texts": ["a", "b"]}, "texts", "no kind has 10"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_field(
    client: httpx.Client, path: str, body: dict[str, Any], param: str, says: str
) -> None:
    answer = client.post(f"/v1/{path}", json=body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param and says in error["message"]


def test_searches_go_on_beside_it(client: httpx.Client) -> None:
    texts = [f"{one.text} {n}" for n in range(6) for one in tiny_passages()]
    body = {"examples": [{"text": text, "label": str(n % 12)} for n, text in enumerate(texts)], "texts": []}
    with ThreadPoolExecutor(1) as beside:
        long = beside.submit(client.post, "/v1/classify", json=body)
        answered = 0
        while not long.done() and answered < 20:
            assert client.post("/v1/search", json={"query": f"lease {answered}"}).status_code == 200
            answered += 1
        assert answered == 20, "the long work was over before the searches"
        assert long.result().status_code == 200, long.result().text


def test_work_beyond_its_time_is_killed_and_the_next_is_answered(
    client: httpx.Client, served: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [one.text for one in tiny_passages()]
    assert client.post("/v1/duplicates", json={"texts": texts}).status_code == 200
    uses = served[1].uses
    first = uses.pid
    body = {"examples": [{"text": text, "label": str(n % 12)} for n, text in enumerate(texts)], "texts": []}
    with monkeypatch.context() as patched:
        patched.setattr(uses, "seconds", 0.05)
        late = client.post("/v1/classify", json=body)
    assert late.status_code == 504 and "fewer texts" in late.json()["error"]["message"]
    assert uses.pid is None and not alive(first)
    assert client.post("/v1/duplicates", json={"texts": texts}).status_code == 200
    assert uses.pid not in (None, first)


def test_more_than_can_be_done_in_time_is_refused_at_once(client: httpx.Client) -> None:
    many = [{"text": f"a {n}", "label": str(n % 40)} for n in range(2_000)]
    error = client.post("/v1/classify", json={"examples": many, "texts": []}).json()["error"]
    assert error["param"] == "examples" and "20,000" in error["message"]
    alike = [f"the lease {n}" for n in range(400)]
    error = client.post("/v1/duplicates", json={"texts": alike, "threshold": 0}).json()["error"]
    assert error["param"] == "texts" and "more than 50,000 pairs" in error["message"]


def test_a_stop_ends_long_work_and_says_so(tiny_run: Path) -> None:
    texts = [f"{one.text} {n}" for n in range(20) for one in tiny_passages()]
    body = {"examples": [{"text": text, "label": str(n % 16)} for n, text in enumerate(texts)], "texts": []}
    with ThreadPoolExecutor(1) as beside:
        with serving(tiny_run, stop_seconds=1) as (address, service):
            long = beside.submit(httpx.post, f"{address}/v1/classify", json=body, timeout=60)
            eventually(lambda: service.uses.pid is not None)
            child = service.uses.pid
            began = time.monotonic()
        assert time.monotonic() - began < 10 and not alive(child)
        answer = long.result(10)
    assert answer.status_code == 503 and "stopping" in answer.json()["error"]["message"]
