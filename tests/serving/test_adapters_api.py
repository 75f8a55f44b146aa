"""Several adapters on one base, served together and chosen with each request."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from adapter_cases import KINDS, write_other_base, write_tuned
from prometheus_client.parser import text_string_to_metric_families
from serving_cases import eventually, examples_posted, serving, tiny_passages, write_index, write_run

from fieldtune.adapters import load_adapters
from fieldtune.encoding import Encoder
from fieldtune.errors import ConfigError, ModelError

TEXTS = ["what ends 3", "lease covers rent 4", "fever cough asthma", "insulin 7", "article 9 audit revenue"]


@pytest.fixture(scope="module")
def tuned(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write_tuned(tiny_model, name, tmp_path_factory.mktemp("tuned") / "model") for name in KINDS}


@pytest.fixture(scope="module")
def served(tiny_run: Path, tuned: dict[str, Path]) -> Iterator[tuple[str, Any]]:
    """An index made with the base, and an adapter of each kind beside it."""
    adapters = {name: str(folder) for name, folder in tuned.items()}
    with serving(tiny_run, name="tiny", adapters=adapters, request_seconds=300) as found:
        yield found


def problem(response: httpx.Response, status: int, field: str) -> str:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["param"] == field
    return str(error["message"])


def embedded(client: httpx.Client, model: str, texts: list[str], side: str) -> np.ndarray:
    answer = client.post("/v1/embeddings", json={"model": model, "input": texts, "input_type": side})
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == model
    return np.array([one["embedding"] for one in answer.json()["data"]])


def test_adapters_asked_for_at_once_in_mixed_order_give_the_vectors_that_each_gives_alone(
    served: tuple[str, Any], tiny_model: str, tuned: dict[str, Path]
) -> None:
    sides = ("query", "passage")
    expected = {("tiny", side): Encoder.load(tiny_model).encode(TEXTS, side) for side in sides}
    for name, folder in tuned.items():
        alone = load_adapters(tiny_model, {name: folder}).encoder(name)
        for side in sides:
            expected[f"tiny:{name}", side] = alone.encode(TEXTS, side)
    asked = [(*key, row) for key in expected for row in range(len(TEXTS))] * 4
    random.Random(0).shuffle(asked)
    with httpx.Client(base_url=served[0], timeout=300) as client, ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda one: embedded(client, one[0], [TEXTS[one[2]]], one[1])[0], asked))
    for (model, side, row), vector in zip(asked, found, strict=True):
        assert vector @ expected[model, side][row] >= 0.9999, (model, side, row)
    vectors = [expected[f"tiny:{name}", "query"] for name in KINDS]
    assert max(cosines(a, b).max() for n, a in enumerate(vectors) for b in vectors[:n]) < 0.999


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", a, b)


def test_models_are_listed_and_found_by_name_in_an_address(client: httpx.Client, served: tuple[str, Any]) -> None:
    import openai

    cards = {card["id"]: card for card in client.get("/v1/models").json()["data"]}
    assert list(cards) == ["tiny", *(f"tiny:{name}" for name in KINDS)]
    assert [cards[one]["adapter"] for one in cards] == [None, *KINDS]
    assert [cards[one]["parent"] for one in cards] == [None, *["tiny"] * 4]
    assert [cards[one]["method"] for one in cards] == ["", "lora", "lora", "bottleneck", "query"]
    # The index's vectors are for questions of the base, and of an adapter that changes questions alone.
    assert [cards[one]["passages"] for one in cards] == [60, 0, 0, 0, 60]
    assert cards["tiny:law"]["modes"] == [] and "hybrid" in cards["tiny:search"]["modes"]
    assert client.get("/v1/models/tiny:finance.zh").json() == cards["tiny:finance.zh"]
    with openai.OpenAI(base_url=f"{served[0]}/v1", api_key="none", max_retries=0) as clients:
        assert clients.models.retrieve("tiny:law").id == "tiny:law"
        with pytest.raises(openai.NotFoundError) as caught:
            clients.embeddings.create(model="tiny:lwa", input="x")
    assert caught.value.code == "model_not_found" and caught.value.param == "model"
    for name in ("tiny:lwa", "law", "tiny:"):
        said = problem(client.post("/v1/embeddings", json={"model": name, "input": "x"}), 404, "model")
        assert all(f"'{there}'" in said for there in cards), said
    assert "'tiny:law'" in problem(client.get("/v1/models/tiny:none"), 404, "model")


def test_texts_are_compared_by_the_adapter_that_is_named(client: httpx.Client) -> None:
    body = {"first": TEXTS[:2], "second": TEXTS[2:], "first_type": "query"}
    found = {}
    for model in ("tiny", "tiny:law", "tiny:search"):
        answer = client.post("/v1/similarity", json=body | {"model": model}).json()
        first, second = embedded(client, model, TEXTS[:2], "query"), embedded(client, model, TEXTS[2:], "passage")
        np.testing.assert_allclose(answer["scores"], first @ second.T, atol=2e-3)
        assert answer["model"] == model
        found[model] = answer["scores"]
    assert client.post("/v1/similarity", json=body).json()["scores"] == found["tiny"]
    assert not np.allclose(found["tiny"], found["tiny:law"], atol=0.02)
    assert "tiny:law" in problem(client.post("/v1/similarity", json=body | {"model": "law"}), 404, "model")


def test_an_adapter_counts_in_the_metrics_under_its_name(client: httpx.Client) -> None:
    def counted() -> dict[tuple[str, str], float]:
        families = {one.name: one for one in text_string_to_metric_families(client.get("/metrics").text)}
        waiting = {one.labels["adapter"]: one.value for one in families["fieldtune_adapter_waiting"].samples}
        assert waiting == dict.fromkeys(KINDS, 0)
        samples = families["fieldtune_texts_encoded"].samples
        return {(one.labels["adapter"], one.labels["side"]): one.value for one in samples if one.name.endswith("total")}

    before = counted()
    embedded(client, "tiny:medicine", TEXTS, "passage")
    embedded(client, "tiny", TEXTS[:2], "passage")
    after = counted()
    changed = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}
    assert changed == {("medicine", "passage"): 5, ("", "passage"): 2}


def test_an_adapter_that_changes_questions_alone_searches_the_index(
    client: httpx.Client, served: tuple[str, Any], tiny_model: str, tuned: dict[str, Path]
) -> None:
    service, question = served[1], "when must notice 17 be given"
    index = service.volume.index
    alone = load_adapters(tiny_model, {"search": tuned["search"]}).encoder("search")
    for mode in ("dense", "hybrid"):
        body = {"query": question, "k": 10, "mode": mode}
        found = client.post("/v1/search", json=body | {"adapter": "search"}).json()
        vector = alone.encode([question], "query")
        (expected,) = index.search_vectors(vector, 10, queries=[question], mode=mode)
        assert {one["id"] for one in found["results"][:3]} <= {hit.passage.id for hit in expected[:5]}
        np.testing.assert_allclose(
            [one["score"] for one in found["results"]], [hit.score for hit in expected], atol=5e-3
        )
        assert found["found"] is None  # the limit is one of the index's model
        plain = client.post("/v1/search", json=body).json()
        assert plain["found"] is not None
        assert [one["id"] for one in plain["results"]] != [one["id"] for one in found["results"]]
    asked = [None, "search"] * 20
    with ThreadPoolExecutor(8) as pool:
        service.cache.clear()

        def best(adapter: str | None) -> float:
            body = {"query": question, "k": 1, "mode": "dense", "adapter": adapter}
            return float(client.post("/v1/search", json=body).json()["results"][0]["score"])

        scores = list(pool.map(best, asked))
    assert np.ptp(scores[::2]) < 5e-3 and np.ptp(scores[1::2]) < 5e-3
    assert abs(scores[0] - scores[1]) > 0.02


def test_a_search_with_an_adapter_of_other_passages_is_refused_with_the_reason(client: httpx.Client) -> None:
    for name in ("law", "medicine", "finance.zh"):
        said = problem(client.post("/v1/search", json={"query": "lease", "adapter": name}), 400, "adapter")
        assert "vectors of two models never mix" in said and "method=query" in said
    said = problem(client.post("/v1/search", json={"query": "lease", "adapter": "lwa"}), 404, "adapter")
    assert all(f"'{name}'" in said for name in KINDS)
    problem(client.post("/v1/answer", json={"question": "lease", "adapter": "search"}), 400, "adapter")


def test_the_examples_show_the_adapters(client: httpx.Client) -> None:
    found = examples_posted(client, "/v1/search", "/v1/embeddings", "/v1/similarity")
    assert {answer.status_code for answer in found.values()} == {200}
    assert found["/v1/embeddings", "by-an-adapter"].json()["model"] == "tiny:law"
    assert found["/v1/similarity", "by-an-adapter"].json()["model"] == "tiny:law"
    assert found["/v1/search", "asked-with-an-adapter"].json()["results"]


@pytest.fixture(scope="module")
def field_run(tiny_run: Path, tuned: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose own model is tuned: the base with the adapter law merged into it."""
    return write_run(tmp_path_factory.mktemp("field") / "run", str(tuned["law"]))


def test_adapters_stand_on_what_a_tuned_run_was_made_from(
    field_run: Path, tiny_model: str, tuned: dict[str, Path]
) -> None:
    adapters = {name: str(tuned[name]) for name in ("law", "medicine", "search")}
    with (
        serving(field_run, name="field", adapters=adapters, model={"base": tiny_model}) as (address, _),
        httpx.Client(base_url=address, timeout=300) as client,
    ):
        cards = {card["id"]: card for card in client.get("/v1/models").json()["data"]}
        assert list(cards) == ["field", "field:base", "field:law", "field:medicine", "field:search"]
        assert [card["parent"] for card in cards.values()] == [None, None, *["field:base"] * 3]
        base = Encoder.load(tiny_model).encode(TEXTS, "passage")
        assert cosines(embedded(client, "field:base", TEXTS, "passage"), base).min() >= 0.9999
        assert cosines(embedded(client, "field:search", TEXTS, "passage"), base).min() >= 0.9999
        assert cosines(embedded(client, "field", TEXTS, "passage"), base).min() < 0.99
        # The index was made with law, so law may search it; the query adapter stands on the base, whose it is not.
        body = {"query": "when must notice 17 be given", "k": 5, "mode": "dense"}
        plain = client.post("/v1/search", json=body).json()["results"]
        assert client.post("/v1/search", json=body | {"adapter": "law"}).json()["results"] == plain
        for name in ("search", "medicine", "base"):
            problem(client.post("/v1/search", json=body | {"adapter": name}), 400, "adapter")


@pytest.mark.parametrize(
    ("change", "says", "cure"),
    [
        ("another base", "neither the index's model", "model.base="),
        ("two bases", "stand on two bases", "a server of its own"),
        ("no record", "does not say which model it was trained on", "adapter merge"),
        ("no adapter", "holds no adapter", "training.method"),
    ],
)
def test_what_cannot_be_served_is_refused_at_the_start(
    change: str, says: str, cure: str, tiny_run: Path, tiny_model: str, tuned: dict[str, Path], tmp_path: Path
) -> None:
    adapters = {"law": str(tuned["law"])}
    if change == "no adapter":
        adapters["empty"] = str(tmp_path)
    elif change == "no record":
        shutil.copytree(tuned["law"] / "adapter", tmp_path / "foreign")
        (tmp_path / "foreign" / "fieldtune.json").unlink()
        adapters["foreign"] = str(tmp_path / "foreign")
    else:
        other = write_other_base(tiny_model, tmp_path / "other")
        adapters["med"] = str(write_tuned(str(other), "medicine", tmp_path / "med"))
        if change == "another base":
            del adapters["law"]
    with (
        pytest.raises(ModelError, match=says) as caught,
        serving(tiny_run, adapters=adapters, model={"base": tiny_model}),
    ):
        pass
    assert cure in caught.value.hint
    if change == "another base":  # all three are named
        assert all(str(one) in caught.value.message for one in (tmp_path / "other", tiny_run / "model", tiny_model))


def test_when_the_index_is_made_anew_with_another_model_adapters_stay_and_search_no_more(
    tiny_run: Path, tiny_model: str, tuned: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    body = {"query": "when must notice 17 be given", "adapter": "search", "mode": "dense"}
    with (
        serving(run, name="tiny", adapters={"search": str(tuned["search"])}) as (address, service),
        httpx.Client(base_url=address, timeout=300) as client,
    ):
        assert len(client.post("/v1/search", json=body).json()["results"]) == 10
        before = embedded(client, "tiny:search", TEXTS, "query")
        write_index(run, tuned["law"], tiny_passages())
        eventually(lambda: service.volume.engine.model == str(tuned["law"]))
        assert "never mix" in problem(client.post("/v1/search", json=body), 400, "adapter")
        assert client.get("/v1/models/tiny:search").json()["modes"] == []
        np.testing.assert_allclose(embedded(client, "tiny:search", TEXTS, "query"), before, atol=1e-6)
        assert len(client.post("/v1/search", json=body | {"adapter": None}).json()["results"]) == 10


def test_adapters_are_named_in_a_file_or_on_the_command_line(tiny_run: Path, tmp_path: Path) -> None:
    from fieldtune.cli_serve import _adapters, _settings

    file = tmp_path / "serving.toml"
    file.write_text('[serving]\nadapters = {law = "runs/law", medicine = "/runs/medicine"}\n')
    given = _settings(tiny_run, file, None, adapters=_adapters(["law=here=there", "zh-2.0=~/zh"])).serving.adapters
    assert given == {"law": "here=there", "medicine": "/runs/medicine", "zh-2.0": "~/zh"}
    assert _settings(tiny_run, file, None, adapters={}).serving.adapters["law"] == str(tmp_path / "runs" / "law")
    for words, says in ((["law"], "NAME=FOLDER"), (["law="], "NAME=FOLDER"), (["a=b", "a=c"], "given twice")):
        with pytest.raises(ConfigError, match=says):
            _adapters(words)
    for name in ("base", "a/b", "法律", "-a", "a b", "x" * 65):
        with pytest.raises(ConfigError, match="cannot be served"):
            _settings(tiny_run, None, None, adapters={name: "folder"})
