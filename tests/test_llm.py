"""The client against a real server on loopback that fails in the ways endpoints fail."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_endpoint import Answer, Endpoint, completion, refusal

from fieldtune.config import Llm
from fieldtune.errors import ConfigError, EndpointError
from fieldtune.llm import LlmClient, Prompt, find_object, pace
from fieldtune.llm.endpoint import remote_endpoint

SECRET = "sk-very-secret-key"
SCHEMA = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}


@pytest.fixture
def serve() -> Iterator[Callable[..., Endpoint]]:
    started: list[Endpoint] = []

    def start(script: Callable[[int, dict], Answer | None]) -> Endpoint:
        started.append(Endpoint(script))
        return started[-1]

    yield start
    for endpoint in started:
        endpoint.server.shutdown()
        endpoint.server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_FIRST_PAUSE", 0.01)
    monkeypatch.setenv("FIELDTUNE_LLM_API_KEY", SECRET)


def prompt(word: str) -> Prompt:
    return Prompt((("system", "Repeat the word."), ("user", word)), SCHEMA, "word")


def client(endpoint: Endpoint, folder: Path, **settings: object) -> LlmClient:
    return LlmClient(Llm(base_url=endpoint.url, model="m", **settings), folder / "llm.jsonl")  # type: ignore[arg-type]


def echo(body: dict) -> Answer:
    return 200, {}, completion(json.dumps({"word": body["messages"][-1]["content"]}))


WORDS = [f"word-{n}" for n in range(12)]


def test_each_distinct_prompt_is_paid_once_and_never_again(serve, tmp_path):
    endpoint = serve(lambda _, body: echo(body))
    prompts = [prompt(word) for word in [*WORDS, *WORDS]]
    replies = dict(client(endpoint, tmp_path).ask(prompts))
    assert [json.loads(replies[n].text)["word"] for n in range(24)] == WORDS * 2
    assert replies[0].prompt_tokens == 7 and replies[0].completion_tokens == 3
    assert endpoint.paid == 12
    again = dict(client(endpoint, tmp_path).ask(prompts))
    assert len(endpoint.requests) == 12
    assert {n: reply.text for n, reply in again.items()} == {n: reply.text for n, reply in replies.items()}
    assert all(reply.cached for reply in again.values())


def test_another_model_or_temperature_is_another_question(serve, tmp_path):
    endpoint = serve(lambda _, body: echo(body))
    list(client(endpoint, tmp_path).ask([prompt("a")]))
    list(client(endpoint, tmp_path, temperature=0.1).ask([prompt("a")]))
    assert endpoint.paid == 2


def test_failures_that_pass_are_retried_without_paying_twice(serve, tmp_path):
    tries: dict[str, int] = {}

    def script(number: int, body: dict) -> Answer | None:
        word = body["messages"][-1]["content"]
        tries[word] = tries.get(word, 0) + 1
        if tries[word] > int(word[-1]) % 4:
            return echo(body)
        return [None, (500, {}, refusal("boom")), (503, {}, "<html>busy</html>")][number % 3]

    endpoint = serve(script)
    replies = dict(client(endpoint, tmp_path, concurrency=2).ask([prompt(word) for word in WORDS]))
    assert not [reply.error for reply in replies.values() if reply.error]
    assert endpoint.paid == 12 and len(endpoint.requests) == 12 + 0 + 1 + 2 + 3 + 0 + 1 + 2 + 3 + 0 + 1 + 0 + 1


def test_a_rate_limit_holds_all_requests_as_long_as_asked(serve, tmp_path):
    def script(number: int, body: dict) -> Answer:
        return (429, {"Retry-After": "0.6"}, refusal("slow down")) if number == 0 else echo(body)

    endpoint = serve(script)
    replies = dict(client(endpoint, tmp_path, concurrency=1).ask([prompt(word) for word in WORDS[:4]]))
    assert not any(reply.error for reply in replies.values())
    assert endpoint.times[1] - endpoint.times[0] >= 0.55
    assert endpoint.times[-1] - endpoint.times[1] < 0.5
    assert len(endpoint.requests) == 5


def test_a_slow_answer_is_asked_for_once_more_and_that_is_counted(serve, tmp_path):
    def script(number: int, body: dict) -> Answer:
        if number == 1:
            time.sleep(1.0)
        return echo(body)

    endpoint = serve(script)
    asking = client(endpoint, tmp_path, timeout_seconds=0.3, concurrency=1)
    replies = dict(asking.ask([prompt("a"), prompt("b")]))
    assert json.loads(replies[1].text) == {"word": "b"}
    assert asking.calls == 3 and asking.late == 1


def test_what_is_never_answered_in_time_is_sent_twice_and_blamed_on_no_address(serve, tmp_path):
    def script(_: int, body: dict) -> Answer:
        if body["messages"][-1]["content"] == "slow":
            time.sleep(1.0)
        return echo(body)

    endpoint = serve(script)
    asked = [prompt("a"), prompt("slow")]
    replies = dict(client(endpoint, tmp_path, timeout_seconds=0.3, concurrency=1).ask(asked))
    assert replies[1].error == "no answer within 0.3 seconds (llm.timeout_seconds)"
    assert len(endpoint.requests) == 3
    dict(client(endpoint, tmp_path, timeout_seconds=0.2).ask(asked))
    assert len(endpoint.requests) == 3, "it may have been paid for, and would again be too late"
    patient = dict(client(endpoint, tmp_path, timeout_seconds=5).ask(asked))
    assert json.loads(patient[1].text) == {"word": "slow"} and len(endpoint.requests) == 4


def test_an_endpoint_that_never_answers_in_time_is_told_early(serve, tmp_path):
    def script(_: int, body: dict) -> Answer:
        time.sleep(0.4)
        return echo(body)

    endpoint = serve(script)
    with pytest.raises(EndpointError, match=r"2 requests in a row failed .* no answer within 0\.1 seconds"):
        list(client(endpoint, tmp_path, timeout_seconds=0.1, concurrency=1).ask([prompt(word) for word in WORDS]))
    assert len(endpoint.requests) == 4


def test_openais_key_and_names_go_to_openai_alone(serve, tmp_path, monkeypatch):
    monkeypatch.delenv("FIELDTUNE_LLM_API_KEY")
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "sk-of-openai")
    endpoint = serve(lambda _, body: echo(body))
    dict(client(endpoint, tmp_path).ask([prompt("a")]))
    assert endpoint.paid == 1 and "sk-of-openai" not in json.dumps(endpoint.headers)
    openai = "https://api.openai.com/v1"
    for url in ("http://api.openai.com/v1", "https://api.openai.com.example/v1", "https://api.openai.com@example/v1"):
        assert remote_endpoint(Llm(base_url=url, model="m")).key == ""
    assert remote_endpoint(Llm(base_url=openai, model="m")).key == "sk-of-openai"
    monkeypatch.setenv("FIELDTUNE_LLM_API_KEY", SECRET)
    assert remote_endpoint(Llm(base_url=openai, model="m")).key == SECRET


@pytest.mark.parametrize(
    ("status", "code", "says", "cure"),
    [
        (401, "invalid_api_key", "refuses the key", "FIELDTUNE_LLM_API_KEY"),
        (404, "", "does not know 'm'", "llm.base_url"),
        (429, "insufficient_quota", "used up", "top up"),
    ],
)
def test_what_cannot_get_better_ends_at_once_and_hides_the_key(serve, tmp_path, caplog, status, code, says, cure):
    endpoint = serve(lambda *_: (status, {}, refusal(f"wrong: {SECRET}", code)))
    with caplog.at_level("DEBUG"), pytest.raises(EndpointError, match=says) as caught:
        list(client(endpoint, tmp_path, concurrency=1).ask([prompt(word) for word in WORDS]))
    assert len(endpoint.requests) <= 2
    assert cure in caught.value.hint
    assert SECRET not in caught.value.message and SECRET not in caplog.text
    assert endpoint.keys == {f"Bearer {SECRET}"}
    assert not (tmp_path / "llm.jsonl").exists()


def test_a_dead_address_is_told_after_few_tries(tmp_path):
    settings = Llm(base_url="http://user:word@127.0.0.1:9/v1", model="m", concurrency=1)
    start = time.monotonic()
    asking = LlmClient(settings, tmp_path / "llm.jsonl")
    with pytest.raises(EndpointError, match=r"http://127.0.0.1:9/v1 cannot be reached"):
        list(asking.ask([prompt("a")]))
    assert asking.calls == 3
    assert time.monotonic() - start < 5


def test_an_endpoint_that_dies_on_the_way_ends_the_run_and_keeps_what_it_gave(serve, tmp_path):
    endpoint = serve(lambda number, body: echo(body) if number < 3 else (500, {}, refusal("gone")))
    got = []
    with pytest.raises(EndpointError, match="5 requests in a row failed") as caught:
        for index, reply in client(endpoint, tmp_path, concurrency=1, max_retries=1).ask([prompt(w) for w in WORDS]):
            got.append((index, reply))
    assert "not asked twice" in caught.value.hint
    assert sum(not reply.error for _, reply in got) == 3
    # The prompt after the fifth may be under way when the run ends.
    assert 3 + 5 * 2 <= len(endpoint.requests) <= 3 + 5 * 2 + 2
    assert len((tmp_path / "llm.jsonl").read_text().splitlines()) == 3


def test_an_endpoint_without_structured_output_is_asked_more_plainly(serve, tmp_path):
    def script(_: int, body: dict) -> Answer:
        if body.get("response_format", {}).get("type") == "json_schema":
            return 400, {}, refusal("response_format json_schema is not supported")
        if "temperature" in body:
            return 400, {}, refusal("Unsupported value: 'temperature'")
        return echo(body)

    endpoint = serve(script)
    replies = dict(client(endpoint, tmp_path, concurrency=1).ask([prompt(word) for word in WORDS]))
    assert not any(reply.error for reply in replies.values())
    assert endpoint.paid == 12 and len(endpoint.requests) == 14
    assert endpoint.requests[-1]["response_format"] == {"type": "json_object"}


def test_a_prompt_that_is_too_long_fails_alone(serve, tmp_path):
    def script(_: int, body: dict) -> Answer:
        if body["messages"][-1]["content"] == "word-3":
            return 400, {}, refusal("This exceeds the maximum context length of 4096 tokens")
        return echo(body)

    endpoint = serve(script)
    replies = dict(client(endpoint, tmp_path).ask([prompt(word) for word in WORDS]))
    assert [n for n, reply in replies.items() if reply.error] == [3]
    assert "context length" in replies[3].error
    assert endpoint.requests[-1]["response_format"]["type"] == "json_schema"


def test_answers_that_are_no_completions(serve, tmp_path):
    endpoint = serve(lambda *_: (200, {"Content-Type": "text/html"}, "<html>welcome to the proxy</html>"))
    replies = dict(client(endpoint, tmp_path, max_retries=1, concurrency=1).ask([prompt("a")]))
    assert "not a chat completion" in replies[0].error
    assert len(endpoint.requests) == 1


def test_an_empty_answer_is_not_paid_for_again(serve, tmp_path):
    endpoint = serve(lambda *_: (200, {}, completion("")))
    replies = dict(client(endpoint, tmp_path).ask([prompt("a")]))
    assert replies[0].error == "empty answer (stop)" and endpoint.paid == 1


def test_leaving_early_keeps_the_answers_and_a_cut_line_harms_nothing(serve, tmp_path):
    endpoint = serve(lambda _, body: echo(body))
    replies = client(endpoint, tmp_path, concurrency=1).ask([prompt(word) for word in WORDS])
    next(replies)
    replies.close()
    time.sleep(0.2)
    kept = endpoint.paid
    assert kept < 12
    cache = tmp_path / "llm.jsonl"
    assert len(cache.read_text().splitlines()) == kept
    with cache.open("ab") as stream:
        stream.write(b'{"key": "half a li')
    dict(client(endpoint, tmp_path).ask([prompt(word) for word in WORDS]))
    assert endpoint.paid == 12
    dict(client(endpoint, tmp_path).ask([prompt(word) for word in WORDS]))
    assert endpoint.paid == 12
    assert SECRET not in cache.read_text()


def test_without_an_endpoint_the_cure_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no LLM endpoint") as caught:
        LlmClient(Llm(), tmp_path / "llm.jsonl")
    assert "llm.base_url" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        '{"word": "a [b]"}',
        'Sure! Here it is:\n```json\n{"word": "a [b]"}\n```\nAnything else?',
        '<think>{"word": "wrong"}</think>{"word": "a [b]"}',
        'As asked [1], for {x}: {"word": "a [b]"}',
    ],
)
def test_json_is_found_in_what_models_wrap_it_in(text):
    assert find_object(text) == {"word": "a [b]"}


@pytest.mark.parametrize("text", ["I cannot do that.", '{"word": ["a", "b"', "<think>never ends {}"])
def test_an_answer_without_json_is_said_to_be_one(text):
    with pytest.raises(ValueError, match="JSON"):
        find_object(text)
