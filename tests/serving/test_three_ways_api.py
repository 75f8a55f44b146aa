"""A service whose model gives sparse and token vectors: every mode by the API and on the page, and why it was found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving_cases import serving, tiny_passages, write_run

from fieldtune.index import MODES, Index


@pytest.fixture(scope="module")
def three_run(tmp_path_factory: pytest.TempPathFactory, tiny_model: str) -> Path:
    import torch

    from fieldtune.config import make_config
    from fieldtune.encoding.m3 import new_heads, save_heads
    from fieldtune.stages.index import run as index_stage
    from fieldtune.stages.run import Run
    from fieldtune.workspace import Workspace

    run = write_run(tmp_path_factory.mktemp("three") / "run", tiny_model)
    heads = new_heads(32, 16)
    torch.manual_seed(1)
    torch.nn.init.normal_(heads["sparse_linear"].weight, std=0.1)  # type: ignore[arg-type]
    torch.nn.init.constant_(heads["sparse_linear"].bias, 2.0)  # type: ignore[arg-type]
    save_heads(heads, run / "model")
    with Workspace(run) as workspace:
        index_stage(Run(make_config({"out": str(run), "model": {"base": tiny_model}}), workspace))
    return run


@pytest.fixture(scope="module")
def three(three_run: Path) -> Iterator[tuple[str, Any]]:
    with serving(three_run, name="three") as found:
        yield found


@pytest.fixture
def client(three: tuple[str, Any]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=three[0], timeout=60) as made:
        yield made


@pytest.mark.parametrize("mode", ["auto", *MODES])
def test_each_mode_gives_what_the_index_gives(client: httpx.Client, three_run: Path, mode: str) -> None:
    query = "when must notice 7 be given for lease"
    where = {"title": [f"article {number}" for number in range(1, 40, 2)]}
    body = {"query": query, "k": 5, "mode": mode, "where": where}
    answer = client.post("/v1/search", json=body)
    assert answer.status_code == 200, answer.text
    index = Index.open(three_run)
    expected = index.search(query, 5, mode=mode, where=where)
    found = answer.json()["results"]
    assert len(found) == 5 and {one["title"] for one in found} <= set(where["title"])
    assert [one["id"] for one in found] == [hit.passage.id for hit in expected]
    for one, hit in zip(found, expected, strict=True):
        assert one["parts"].keys() == hit.parts.keys()
        assert one["parts"] == pytest.approx(dict(hit.parts), abs=2e-3)  # rounded to bf16 in another batch
    meant = index.meta["mode"] if mode == "auto" else mode
    if meant in ("m3", "m3-words", "multi"):
        assert {"dense", "sparse", "multi"} <= set(found[0]["parts"])
    again = client.post("/v1/search", json=body).json()["results"]
    assert [one["id"] for one in again] == [one["id"] for one in found]


def test_questions_of_several_kinds_at_once_are_kept_apart(three: tuple[str, Any]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    texts = [f"notice {number} for rent" for number in range(12)]
    modes = ["m3", "dense", "sparse", "words"]

    def ask(place: int) -> list[str]:
        body = {"query": texts[place // 4], "mode": modes[place % 4], "k": 4}
        answer = httpx.post(f"{three[0]}/v1/search", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        return [one["id"] for one in answer.json()["results"]]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(ask, range(48)))
    assert together == [ask(place) for place in range(48)]


def test_the_modes_are_named_and_others_refused(client: httpx.Client, served_plain: str) -> None:
    (model,) = client.get("/v1/models").json()["data"]
    assert model["modes"] == ["auto", "dense", "words", "hybrid", *MODES]
    assert client.post("/v1/search", json={"query": "rent", "mode": "colbert"}).status_code in (400, 422)
    refused = httpx.post(f"{served_plain}/v1/search", json={"query": "rent", "mode": "m3"}, timeout=30)
    assert refused.status_code == 400 and "this index has auto, dense, words, hybrid" in refused.text
    assert "Word for word" not in httpx.get(f"{served_plain}/", params={"q": "rent"}, timeout=30).text


@pytest.fixture(scope="module")
def served_plain(tiny_run: Path) -> Iterator[str]:
    with serving(tiny_run, name="plain") as (address, _):
        yield address


def test_the_page_offers_them_and_says_why(client: httpx.Client) -> None:
    english = {"accept-language": "en"}
    page = client.get("/", params={"q": "notice 7 lease", "mode": "m3"}, headers=english).text
    assert '<option value="m3" selected>By all three</option>' in page
    assert all(f"<dt>{name}</dt>" in page for name in ("Meaning", "Learned words", "Word for word"))
    assert "<dt>Words</dt>" not in page
    chinese = client.get("/", params={"q": "notice 7", "mode": "m3-words"}, headers={"accept-language": "zh"}).text
    assert "三者加词语" in chinese and "<dt>逐词对照</dt>" in chinese and "<dt>词语</dt>" in chinese
    # What is compared with the base model is what that has as well.
    assert "By all three" not in client.get("/compare", headers=english).text
    assert client.get("/compare", params={"q": "rent", "mode": "m3"}).status_code == 400


def test_a_rebuilt_index_is_taken_up(three: tuple[str, Any], three_run: Path) -> None:
    from serving_cases import eventually, write_index

    passages = [*tiny_passages(), *tiny_passages()[:1]]
    write_index(three_run, three_run / "model", passages[:-1])  # and now without sparse and token vectors
    address = three[0]

    def gone() -> bool:
        answer = httpx.post(f"{address}/v1/search", json={"query": "rent", "mode": "m3"}, timeout=30)
        return answer.status_code == 400 and "auto, dense, words, hybrid" in answer.text

    eventually(gone)
    assert httpx.post(f"{address}/v1/search", json={"query": "rent"}, timeout=30).status_code == 200
