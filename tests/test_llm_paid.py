"""What an answer costs is paid once: under failures of every kind, in flight, after a kill, and under a limit."""

from __future__ import annotations

import email.utils
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_endpoint import Answer, Endpoint, completion, refusal

from fieldtune.config import Llm
from fieldtune.errors import ConfigError, EndpointError
from fieldtune.llm import LlmClient, Prompt, pace
from fieldtune.llm.failures import retry_after

SCHEMA = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}


def prompt(word: str) -> Prompt:
    return Prompt((("system", "Repeat the word."), ("user", word)), SCHEMA, "word")


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


def client(endpoint: Endpoint, folder: Path, **settings: object) -> LlmClient:
    return LlmClient(Llm(base_url=endpoint.url, model="m", **settings), folder / "llm.jsonl")  # type: ignore[arg-type]


def echo(body: dict) -> Answer:
    return 200, {}, completion(json.dumps({"word": body["messages"][-1]["content"]}))


NO_COMPLETIONS = (
    "[]",
    "",
    "null",
    '"fine"',
    "Here you are: all is well.",
    "<html>welcome to the proxy</html>",
    '{"choices": []}',
    '{"choices": [{}]}',
    '{"object": "list", "data": []}',
    json.dumps({"error": {"message": "upstream is busy", "code": 502}}),
    json.dumps({"error": "no"}),
)
"""Bodies that some endpoints send with the status of success."""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_under_failures_of_every_kind_each_prompt_is_paid_for_once(serve, tmp_path, seed):
    rng = random.Random(seed)
    tries: Counter[str] = Counter()

    def script(_: int, body: dict) -> Answer | None:
        word = body["messages"][-1]["content"]
        tries[word] += 1
        date = email.utils.formatdate(time.time() + 0.3, usegmt=True)
        unpaid: list[Answer | None] = [
            None,
            (500, {}, refusal("boom")),
            (502, {"Content-Type": "text/html"}, "<html>bad gateway</html>"),
            (503, {"Retry-After": "0.02"}, ""),
            (429, {"Retry-After": "0.02"}, refusal("slow down")),
            (429, {"Retry-After": date}, refusal("slow down")),
            (429, {}, "{half"),
        ]
        if tries[word] < 5 and rng.random() < 0.5:
            return rng.choice(unpaid)
        cut = completion("x" * 200)
        return rng.choice(
            [
                *([echo(body)] * 20),
                (200, {}, completion("I'd rather not.")),
                (200, {}, completion('{"word": "ha')),
                (200, {}, completion("y" * 10_000)),
                (200, {}, completion("")),
                (200, {}, cut[:100]),
                *((200, {}, body) for body in NO_COMPLETIONS),
                (200, {"Content-Length": str(len(cut))}, cut[:100]),
            ]
        )

    endpoint = serve(script)
    prompts = [prompt(f"word-{n % 60}") for n in range(90)]
    replies = dict(client(endpoint, tmp_path, concurrency=6).ask(prompts))
    assert len(replies) == 90
    assert Counter(endpoint.paid_for).most_common(1)[0][1] == 1 and endpoint.paid == 60
    assert sum(not reply.error for reply in replies.values()) > 30
    before = len(endpoint.requests)
    again = dict(client(endpoint, tmp_path).ask(prompts))
    assert len(endpoint.requests) == before, "a second run asks nothing, not even what was answered uselessly"
    assert {n: r.error for n, r in again.items()} == {n: r.error for n, r in replies.items()}


@pytest.mark.parametrize("text", NO_COMPLETIONS)
def test_whatever_has_the_status_of_success_is_paid_for_once(serve, tmp_path, text):
    endpoint = serve(lambda number, body: (200, {}, text) if number == 0 else echo(body))
    reply = dict(client(endpoint, tmp_path).ask([prompt("a")]))[0]
    assert reply.error and reply.paid and len(endpoint.requests) == 1
    asking = client(endpoint, tmp_path)
    assert dict(asking.ask([prompt("a")]))[0].error == reply.error and len(endpoint.requests) == 1
    assert asking.budget.spent.prompt == reply.prompt_tokens > 0
    again = dict(client(endpoint, tmp_path, ask_again=True).ask([prompt("a")]))
    assert json.loads(again[0].text) == {"word": "a"} and len(endpoint.requests) == 2


@pytest.mark.parametrize("seed", range(4))
def test_two_runs_against_random_failures_pay_once_per_prompt(serve, tmp_path, seed):
    rng = random.Random(seed)

    def script(_: int, body: dict) -> Answer | None:
        if rng.random() < 0.5:  # at any time: also the first, and also one after the other
            return rng.choice([None, (500, {}, ""), (502, {}, "<html>"), (429, {"Retry-After": "0.01"}, refusal("no"))])
        useless = rng.choice([*NO_COMPLETIONS, completion(""), completion("no"), completion("y" * 10_000)])
        return (200, {}, useless) if rng.random() < 0.6 else echo(body)

    endpoint = serve(script)
    prompts = [prompt(f"w{n % 50}") for n in range(70)]
    for _ in range(2):
        replies = dict(client(endpoint, tmp_path, concurrency=4).ask(prompts))
        assert len(replies) == 70
        assert Counter(endpoint.paid_for).most_common(1)[0][1] == 1
    assert endpoint.paid == 50


def test_answers_of_no_use_end_the_run_after_a_while_and_are_kept(serve, tmp_path):
    endpoint = serve(lambda *_: (200, {}, "<html>welcome to the proxy</html>"))
    prompts = [prompt(f"w{n}") for n in range(60)]
    with pytest.raises(EndpointError, match="25 requests in a row failed"):
        list(client(endpoint, tmp_path, concurrency=1).ask(prompts))
    assert endpoint.paid == 25 == (tmp_path / "llm.jsonl").read_text().count("\n")


def test_a_prompt_that_failed_gets_a_second_turn_after_the_others(serve, tmp_path):
    tries = Counter[str]()

    def script(_: int, body: dict) -> Answer:
        word = body["messages"][-1]["content"]
        tries[word] += 1
        return (500, {}, refusal("boom")) if word == "w1" and tries[word] < 4 else echo(body)

    endpoint = serve(script)
    asking = client(endpoint, tmp_path, concurrency=1, max_retries=1)
    replies = dict(asking.ask([prompt(f"w{n}") for n in range(4)]))
    assert not any(reply.error for reply in replies.values()) and endpoint.paid == 4
    assert [body["messages"][-1]["content"] for body in endpoint.requests][-2:] == ["w1", "w1"]


def test_the_limit_holds_for_all_that_the_file_of_answers_keeps(serve, tmp_path):
    endpoint = serve(lambda _, body: usage(body, 60, 40))
    limits = {"max_tokens": 3_000, "answer_tokens": 50, "concurrency": 1}
    one = client(endpoint, tmp_path, **limits)
    list(one.ask([prompt(f"w{n}") for n in range(20)]))
    two = client(endpoint, tmp_path, temperature=0.0, **limits)
    replies = dict(two.ask([prompt(f"other {n}") for n in range(20)]))
    assert sum(reply.asked for reply in replies.values()) == endpoint.paid - 20 == 9
    assert two.budget.reached and two.budget.spent.total == 2_900 and two.used.total == 900


def test_a_prompt_in_flight_is_not_asked_by_a_second_caller(serve, tmp_path):
    def script(_: int, body: dict) -> Answer:
        time.sleep(0.2)
        return echo(body)

    endpoint = serve(script)
    asking = client(endpoint, tmp_path)
    found: list[str] = []
    callers = [
        threading.Thread(target=lambda: found.append(dict(asking.ask([prompt("same")]))[0].text)) for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == ['{"word": "same"}'] * 4 and endpoint.paid == 1


def test_answers_under_way_are_kept_when_asking_ends_early(serve, tmp_path):
    def script(number: int, body: dict) -> Answer:
        if number:
            time.sleep(0.4)
        return echo(body)

    endpoint = serve(script)
    replies = client(endpoint, tmp_path, concurrency=3).ask([prompt(f"w{n}") for n in range(9)])
    next(replies)
    replies.close()
    kept = (tmp_path / "llm.jsonl").read_text().count("\n")
    assert kept == endpoint.paid == len(endpoint.requests) >= 3


def test_an_answer_cut_by_its_cap_is_asked_for_again_when_the_cap_is_raised(serve, tmp_path):
    def script(_: int, body: dict) -> Answer:
        if body["max_tokens"] < 500:
            return 200, {}, completion("").replace('"stop"', '"length"')
        return echo(body)

    endpoint = serve(script)
    low = dict(client(endpoint, tmp_path, answer_tokens=100).ask([prompt("a")]))
    assert "llm.answer_tokens" in low[0].error
    assert dict(client(endpoint, tmp_path, answer_tokens=100).ask([prompt("a")]))[0].error and endpoint.paid == 1
    assert json.loads(dict(client(endpoint, tmp_path, answer_tokens=900).ask([prompt("a")]))[0].text) == {"word": "a"}


def test_retry_after_is_read_as_seconds_and_as_a_date():
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert 28 < (retry_after({"retry-after": date}) or 0) <= 30
    assert 28 < (retry_after({"retry-after": date.replace("GMT", "-0000")}) or 0) <= 30
    assert retry_after({"retry-after": email.utils.formatdate(0, usegmt=True)}) == 0
    assert retry_after({"retry-after": "soon"}) is None and retry_after({}) is None


def test_a_date_to_wait_for_is_waited_for(serve, tmp_path):
    date = email.utils.formatdate(time.time() + 2, usegmt=True)
    endpoint = serve(lambda n, body: (503, {"Retry-After": date}, "") if n == 0 else echo(body))
    start = time.time()
    dict(client(endpoint, tmp_path, concurrency=1).ask([prompt("a")]))
    assert endpoint.paid == 1 and start + 2.5 > time.time() >= email.utils.parsedate_to_datetime(date).timestamp()


def test_a_day_of_waiting_is_said_and_not_waited_for(serve, tmp_path):
    endpoint = serve(lambda *_: (429, {"Retry-After": "86400"}, refusal("daily limit")))
    with pytest.raises(EndpointError, match=r"asks to wait for 24\.0 hours"):
        list(client(endpoint, tmp_path).ask([prompt("a")]))


def test_a_low_rate_limit_slows_but_loses_nothing(serve, tmp_path):
    lock, last = threading.Lock(), [0.0]

    def script(_: int, body: dict) -> Answer:
        with lock:
            if time.monotonic() - last[0] < 0.05:
                return 429, {"Retry-After": "0.05"}, refusal("slow down")
            last[0] = time.monotonic()
        return echo(body)

    endpoint = serve(script)
    asking = client(endpoint, tmp_path, concurrency=8, max_retries=2)
    replies = dict(asking.ask([prompt(f"w{n}") for n in range(30)]))
    assert not any(reply.error for reply in replies.values()) and endpoint.paid == 30


def usage(body: dict, prompt_tokens: int, completion_tokens: int) -> Answer:
    status, headers, text = echo(body)
    made = json.loads(text)
    made["usage"] = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": 0}
    return status, headers, json.dumps(made)


@pytest.mark.parametrize("concurrency", [1, 6])
def test_a_limit_of_tokens_is_kept_and_well_used(serve, tmp_path, concurrency):
    endpoint = serve(lambda _, body: usage(body, 60, 40))
    limits = {"max_tokens": 3_000, "answer_tokens": 200, "concurrency": concurrency}
    asking = client(endpoint, tmp_path, **limits)
    replies = dict(asking.ask([prompt(f"w{n}") for n in range(100)]))
    asked = [n for n, reply in replies.items() if reply.asked]
    assert len(replies) == 100 and asking.budget.reached
    assert 27 <= len(asked) == endpoint.paid <= 30 and asking.budget.spent.total == 100 * len(asked) <= 3_000
    assert max(asked) < 40, "the first prompts are asked first"
    more = client(endpoint, tmp_path, **limits | {"max_tokens": 5_000})
    assert sum(reply.asked for reply in dict(more.ask([prompt(f"w{n}") for n in range(100)])).values()) >= 47
    assert endpoint.paid <= 50, "what the first run paid for counts, and is not paid for again"


def test_a_limit_of_money_needs_prices_and_is_kept(serve, tmp_path):
    endpoint = serve(lambda _, body: usage(body, 1_000, 500))
    with pytest.raises(ConfigError, match="no prices") as caught:
        client(endpoint, tmp_path, max_cost=1)
    assert "price_prompt" in caught.value.hint
    prices = {"price_prompt": 2.0, "price_completion": 8.0}
    asking = client(endpoint, tmp_path, max_cost=0.12, answer_tokens=600, concurrency=2, **prices)
    list(asking.ask([prompt(f"w{n}") for n in range(60)]))
    settings = Llm(**prices)
    assert 0.09 < asking.budget.spent.cost(settings) <= 0.12  # an answer is 0.006


def test_a_run_that_is_told_to_end_keeps_the_answers_under_way(serve, tmp_path):
    """Sent by `kill`, `timeout` and containers; the answers are on their way when it comes."""
    arrived, told = threading.Semaphore(0), threading.Event()

    def script(_: int, body: dict) -> Answer:
        arrived.release()
        told.wait(20)
        return echo(body)

    endpoint = serve(script)
    name = str(tmp_path / "a")
    program = (
        "import sys; from pathlib import Path; from fieldtune.config import Llm\n"
        "from fieldtune.llm import Prompt, open_client\n"
        f"with open_client(Llm(base_url={endpoint.url!r}, model='m', concurrency=3), Path({name!r})) as c:\n"
        "    list(c.ask([Prompt((('user', str(n)),), {}, 'x') for n in range(30)]))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL) as running:
        for _ in range(3):
            assert arrived.acquire(timeout=60)
        running.terminate()
        time.sleep(0.3)
        told.set()
        assert running.wait(30) != 0
    assert len((tmp_path / "a").read_bytes().splitlines()) == endpoint.paid == 3
