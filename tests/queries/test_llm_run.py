"""A whole run of questions to an LLM: bad answers of every kind, limits, prices, and what the command line says."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_endpoint import Answer, Endpoint, completion, refusal

from fieldtune.cli import main
from fieldtune.config import Config, Llm, Queries, Styles
from fieldtune.errors import ConfigError, EndpointError
from fieldtune.llm import pace
from fieldtune.queries import gather_queries
from fieldtune.queries.generate import generate_queries
from fieldtune.queries.made import Made
from fieldtune.queries.pricing import price_queries
from fieldtune.types import Passage

SUBJECTS = [
    "rent", "deposits", "pets", "repairs", "parking", "insurance", "gardens", "keys", "lodgers", "heating", "noise",
    "cellars", "lifts", "bicycles", "balconies", "windows", "chimneys", "fences", "gutters", "drains",
]  # fmt: skip
PASSAGES = {
    f"p{n}": Passage(
        f"p{n}", f"House rules > {word}", f"The rules on {word}: whoever wants {word} {n} asks {word} office.", f"g{n}"
    )
    for n, word in enumerate(SUBJECTS)
}


def vectors() -> np.ndarray:
    """All in one topic."""
    found = np.random.default_rng(0).normal(0, 0.05, (len(PASSAGES), 16)).astype(np.float32)
    found[:, 0] += 1
    found[len(PASSAGES) // 2 :, 1] += 1
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Endpoint]]:
    monkeypatch.setattr(pace, "_FIRST_PAUSE", 0.005)
    monkeypatch.setenv("FIELDTUNE_LLM_API_KEY", "sk-key")
    started: list[Endpoint] = []

    def start(script: Callable[[int, dict], Answer | None]) -> Endpoint:
        started.append(Endpoint(script))
        return started[-1]

    yield start
    for endpoint in started:
        endpoint.server.shutdown()
        endpoint.server.server_close()


def wanted(body: dict) -> list[str]:
    """The styles that a prompt asks for, one entry per query."""
    found = re.findall(r'^- (\d+) of style "(\w+)"', body["messages"][1]["content"], re.M)
    return [style for count, style in found for _ in range(int(count))]


def written(body: dict, wording: str = "{style} {n} on {about}?") -> str:
    about = " and ".join(re.findall(r"The rules on (\w+)", body["messages"][1]["content"]))
    queries = [
        {"style": style, "text": wording.format(style=style, n=n, about=about)} for n, style in enumerate(wanted(body))
    ]
    return json.dumps({"queries": queries})


def good(_: int, body: dict) -> Answer:
    made = json.loads(completion(written(body)))
    made["usage"] = {"prompt_tokens": sum(len(m["content"]) for m in body["messages"]) // 4, "completion_tokens": 70}
    return 200, {}, json.dumps(made)


def make(endpoint: Endpoint, folder: Path, queries: dict | None = None, **llm: object) -> Made:
    settings = Llm(base_url=endpoint.url, model="m", **llm)  # type: ignore[arg-type]
    return generate_queries(Queries(source="llm", **(queries or {})), settings, PASSAGES, 1, folder, vectors)


def test_styles_are_mixed_by_weight_and_comparisons_have_two_positives(serve, tmp_path):
    endpoint = serve(good)
    weights = Styles(formal=2, colloquial=1, keywords=1, case=0, claim=0, comparison=1)
    made = make(endpoint, tmp_path, {"styles": weights, "per_passage": 2})
    styles = Counter(query.style for query in made.queries.values())
    # 40 queries on single passages; a comparison for four of them: 10, asked two by two.
    assert styles == {"llm-formal": 20, "llm-colloquial": 10, "llm-keywords": 10, "llm-comparison": 10}
    for key, query in made.queries.items():
        found = made.qrels["all"][key]
        assert len(found) == (2 if query.style == "llm-comparison" else 1)
        assert all(PASSAGES[passage].title.split("> ")[1] in query.text for passage in found)
    assert made.counts["pairs asked about"] == 5 and endpoint.paid == 25
    assert len(made.details["prompts"]) == 2 and "=== PASSAGE" in made.details["prompts"][1]["messages"][1][1]


@pytest.mark.parametrize("seed", [1, 2])
def test_random_failures_of_all_kinds_cost_nothing_twice_and_lose_nothing_good(serve, tmp_path, seed):
    rng = random.Random(seed)
    good_for: Counter[str] = Counter()

    def script(_: int, body: dict) -> Answer | None:
        if rng.random() < 0.35:
            unpaid = [None, (500, {}, refusal("boom")), (429, {"Retry-After": "0.01"}, ""), (503, {}, "<html>")]
            return rng.choice(unpaid)
        useless = [
            "I would rather tell you a story about rent.",
            written(body)[:30],
            '{"queries": []}',
            "z" * 10_000,
            json.dumps(
                {"queries": [{"style": wanted(body)[0] if wanted(body) else "formal", "text": "这是什么规定？"}]}
            ),
            written(body, "What are the rules?"),
        ]
        if rng.random() < 0.5:
            return 200, {}, completion(rng.choice(useless))
        good_for[body["messages"][1]["content"]] += 1
        return 200, {}, completion(written(body))

    endpoint = serve(script)
    made = make(endpoint, tmp_path, concurrency=5)
    asked = Counter(endpoint.paid_for)
    assert set(asked.values()) == {1} and sum(asked.values()) == endpoint.paid
    first = [messages for messages in asked if len(json.loads(messages)) == 2]
    assert len(first) == made.counts["passages asked about"] + made.counts["pairs asked about"]
    assert len(made.queries) >= 2 * len(good_for) * 0.9
    assert not any("这" in query.text or len(query.text) > 400 for query in made.queries.values())
    before = len(endpoint.requests)
    assert make(endpoint, tmp_path).queries == made.queries and len(endpoint.requests) == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Here you are.", "answer that cannot be read"),
        ('{"queries": [{"text": "Wha', "broken JSON"),
        ('{"queries": []}', "passage nobody would ask about"),
        ("w" * 10_000, "no JSON object"),
        ('{"queries": [{"style": "formal", "text": "租金怎么算？"}]}', "in another language"),
        ('{"queries": [{"style": "formal", "text": "What are the rules?"}]}', "the same few wordings"),
    ],
)
def test_a_model_that_only_ever_fails_in_one_way_is_told_so(serve, tmp_path, text, says):
    endpoint = serve(lambda *_: (200, {}, completion(text)))
    with pytest.raises(EndpointError, match="held a usable query") as caught:
        make(endpoint, tmp_path)
    assert says in caught.value.message
    # A model that keeps to the form needs another cure than one that does not.
    assert ("queries.domain" if text == '{"queries": []}' else "JSON schema") in caught.value.hint
    assert set(Counter(endpoint.paid_for).values()) == {1}


def test_a_limit_stops_the_run_and_keeps_what_is_there(serve, tmp_path):
    endpoint = serve(good)
    made = make(endpoint, tmp_path, max_tokens=6_000, answer_tokens=300, concurrency=2)
    assert 0 < len(made.queries) < 30 and endpoint.paid < 22
    assert made.counts["prompt tokens"] + made.counts["completion tokens"] <= 6_000
    note = next(note for note in made.notes if "spending limit" in note)
    assert f"{22 - endpoint.paid} of 22 requests were not made" in note and "raise the limit" in note
    paid = endpoint.paid
    whole = make(endpoint, tmp_path)
    assert set(made.queries) < set(whole.queries)
    assert endpoint.paid > paid and set(Counter(endpoint.paid_for).values()) == {1}
    with pytest.raises(ConfigError, match="does not allow a single request"):
        make(endpoint, tmp_path / "other", max_tokens=500)


def test_near_copies_of_the_users_queries_are_dropped(serve, tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("formal 0 on rent?\nsomething else about cats\n")
    styles = Styles(formal=1, colloquial=0, keywords=0, case=0, claim=0, comparison=0)
    endpoint = serve(good)
    made = make(endpoint, tmp_path, {"examples": str(own), "styles": styles, "per_passage": 1})
    texts = {query.text for query in made.queries.values()}
    assert "formal 0 on rent?" not in texts and "formal 0 on pets?" in texts and len(texts) == 19
    assert made.dropped["query close to one of your own"] == 1
    assert any("2 queries of your users" in note and "not queries of the run" in note for note in made.notes)
    assert all("something else about cats" in json.dumps(body) for body in endpoint.requests)


def test_a_plan_without_asking_holds_what_the_run_then_takes(serve, tmp_path):
    endpoint = serve(good)
    llm = Llm(base_url=endpoint.url, model="m", price_prompt=1, price_completion=4)
    config = Config(seed=1, queries=Queries(source="llm"), llm=llm)
    price = price_queries(config, PASSAGES, tmp_path)
    assert not endpoint.requests and price.sampled == 20 and price.answered == 0
    made = make(endpoint, tmp_path / "queries" / "cache", price_prompt=1, price_completion=4)
    assert price.low.prompt <= made.counts["prompt tokens"] <= price.high.prompt
    assert price.low.completion <= made.counts["completion tokens"] <= price.high.completion
    said = " ".join(price.sentences(config))
    assert "22 requests" in said and "cost: 0.0" in said and "none asked yet" in said
    assert price.low.cost(llm) < made.counts["cost"] < price.high.cost(llm)
    after = price_queries(config, PASSAGES, tmp_path)
    assert after.answered == 20 and after.high.total - after.low.total < price.high.total - price.low.total
    unpriced = Config(seed=1, queries=config.queries, llm=Llm(base_url=endpoint.url, model="m", max_tokens=100))
    said = " ".join(price_queries(unpriced, PASSAGES, tmp_path).sentences(unpriced))
    assert "set llm.price_prompt" in said and "may stop it before the end" in said


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


@pytest.fixture
def project(tmp_path: Path, tiny_model: str) -> Path:
    docs = tmp_path / "docs"
    docs.mkdir()
    for n, word in enumerate(SUBJECTS):
        text = (
            f"# {word}\n\nThe rules on {word}: whoever wants {word} {n} asks the {word} office in writing before May.\n"
        )
        (docs / f"{word}.md").write_text(text)
    (tmp_path / "c.toml").write_text(
        f'out = "out"\n[documents]\npaths = ["docs"]\n[corpus]\nmin_tokens = 0\n[model]\nbase = "{tiny_model}"\n'
        '[queries]\nfrom = "llm"\n[llm]\nbase_url = "URL"\nmodel = "m"\n'
    )
    return tmp_path


def test_the_command_line_plans_asks_a_sample_and_stops_at_a_limit(serve, project, capsys):
    endpoint = serve(good)
    config = project / "c.toml"
    config.write_text(config.read_text().replace("URL", endpoint.url))
    assert run("plan", str(config)) == 0
    out = capsys.readouterr().out
    assert "requests:" in out and "tokens:" in out and not endpoint.requests
    assert run("plan", str(config), "--ask") == 0
    assert endpoint.paid == 20 and "20 of them answered" in capsys.readouterr().out
    assert run("generate", str(config), "--max-tokens", "2500") == 0
    said = capsys.readouterr().err
    assert "spending limit" in said and endpoint.paid == 20, "what was paid for is over the limit already"
    assert run("generate", str(config)) == 0
    assert set(Counter(endpoint.paid_for).values()) == {1} and endpoint.paid > 20
    assert run("plan", str(config)) == 0
    assert "nothing is left to pay for" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((401, {}, refusal("bad key sk-key")), "refuses the key"),
        ((404, {}, refusal("no such model")), "does not know 'm'"),
        ((200, {}, completion("no")), "held a usable query"),
    ],
)
def test_where_nothing_can_go_on_the_exit_is_2_with_a_cure(serve, project, capsys, answer, says):
    config = project / "c.toml"
    config.write_text(config.read_text().replace("URL", serve(lambda *_: answer).url))
    assert run("generate", str(config)) == 2
    said = capsys.readouterr().err
    assert says in said and "sk-key" not in said and "Traceback" not in said


def test_a_dead_endpoint_exits_with_2(project, capsys, monkeypatch):
    monkeypatch.setattr(pace, "_FIRST_PAUSE", 0.005)
    config = project / "c.toml"
    config.write_text(config.read_text().replace("URL", "http://127.0.0.1:9/v1"))
    assert run("generate", str(config)) == 2
    assert "cannot be reached" in capsys.readouterr().err
    assert run("generate", str(config), "--max-cost", "1") == 2
    assert "no prices are" in capsys.readouterr().err


def test_the_stage_finds_the_base_models_vectors_where_they_are_kept(serve, tmp_path, tiny_model):
    endpoint = serve(good)
    config = Config.model_validate(
        {
            "queries": {"from": "llm", "max_passages": 8},
            "llm": {"base_url": endpoint.url, "model": "m"},
            "model": {"base": tiny_model},
        }
    )
    result = gather_queries(config, PASSAGES, tmp_path / "q", tmp_path / "cache", tmp_path / "vectors")
    assert list((tmp_path / "vectors").glob("*.npy"))
    assert result.counts["passages asked about"] == 8 and sum(t["asked"] for t in result.details["topics"]) == 8
    assert any("8 of 20 passages, spread over 3 topics" in note for note in result.notes)
