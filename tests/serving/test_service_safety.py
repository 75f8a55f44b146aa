"""What must not bring the service down: keys and rates, too much at once, slow clients, a lost index, a failing LLM."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from llm_teller import Teller
from safetensors.numpy import load_file, save_file
from serving_cases import eventually, serving, tiny_passages, write_index

from fieldtune.config import Serving
from fieldtune.serving.engine import Engine
from fieldtune.serving.guard import Guard
from fieldtune.serving.keys import KeyRing, new_key
from fieldtune.serving.metrics import Metrics
from fieldtune.serving.sessions import Sessions
from fieldtune.types import Passage

QUESTION = {"query": "when must notice 3 be given", "k": 2}


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    blocks = [block.split("\n", 1) for block in text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def test_with_keys_only_their_owners_get_in_and_only_so_often(tiny_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.jsonl"
    key, other = new_key(file, "one"), new_key(file, "two")
    with (
        serving(tiny_run, keys=str(file), rate_per_minute=4) as (address, _),
        httpx.Client(base_url=address) as client,
    ):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": key}, {"X-Api-Key": "é" * 600}):
            refused = client.post("/v1/search", json=QUESTION, headers={k: v.encode() for k, v in headers.items()})
            assert refused.status_code == 401 and refused.json()["error"]["code"] == "invalid_api_key"
            assert refused.headers["www-authenticate"] == "Bearer"
        assert client.get("/metrics").status_code == 401
        assert client.get("/health").status_code == client.get("/ready").status_code == 200
        codes = [client.post("/v1/search", json=QUESTION, headers={"Authorization": f"Bearer {key}"}) for _ in range(2)]
        assert [one.status_code for one in codes] == [200, 429]
        assert codes[-1].json()["error"]["type"] == "rate_limit_error"
        assert 1 <= int(codes[-1].headers["retry-after"]) <= 15
        assert client.post("/v1/search", json=QUESTION, headers={"X-Api-Key": other}).status_code == 200


def test_a_key_made_while_the_server_runs_closes_it_to_all_others(tiny_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.jsonl"
    with serving(tiny_run, keys=str(file)) as (address, _), httpx.Client(base_url=address, timeout=30) as client:
        assert client.post("/v1/search", json=QUESTION).status_code == 200
        key = new_key(file, "late")
        eventually(lambda: client.post("/v1/search", json=QUESTION).status_code == 401, 10)
        assert client.get("/", follow_redirects=False).status_code == 303
        assert client.post("/v1/search", json=QUESTION, headers={"X-Api-Key": key}).status_code == 200


def test_one_request_too_many_is_refused_at_once_and_the_others_end(tiny_run: Path) -> None:
    with serving(tiny_run, max_requests=2) as (address, service):
        hold = threading.Event()
        search = service.searcher._work
        service.searcher._work = lambda kind, items: (hold.wait(20), search(kind, items))[1]
        codes: list[int] = []

        def ask() -> None:
            codes.append(httpx.post(f"{address}/v1/search", json=QUESTION, timeout=30).status_code)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        eventually(lambda: "under_way 2.0" in service.metrics.text().decode())
        began = time.monotonic()
        refused = httpx.post(f"{address}/v1/search", json=QUESTION, timeout=30)
        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        assert time.monotonic() - began < 5
        assert httpx.get(f"{address}/health").status_code == 200
        hold.set()
        for thread in threads:
            thread.join(30)
        assert codes == [200, 200]


def test_idle_connections_shut_nobody_out(tiny_run: Path) -> None:
    with serving(tiny_run, max_requests=4) as (address, service), httpx.Client(base_url=address, timeout=30) as client:
        host, port = address.removeprefix("http://").split(":")
        hold = threading.Event()
        search = service.searcher._work
        service.searcher._work = lambda kind, items: (hold.wait(20), search(kind, items))[1]
        codes: list[int] = []
        asking = threading.Thread(
            target=lambda: codes.append(httpx.post(f"{address}/v1/search", json=QUESTION, timeout=30).status_code)
        )
        asking.start()
        eventually(lambda: "under_way 1.0" in service.metrics.text().decode())
        idle = [socket.create_connection((host, int(port)), 10) for _ in range(60)]
        try:
            assert [httpx.get(f"{address}/health", timeout=10).status_code for _ in range(3)] == [200] * 3
            idle[0].settimeout(10)
            with contextlib.suppress(ConnectionResetError):
                assert idle[0].recv(1) == b"", "the connection idle for longest is still there"
            hold.set()
            asking.join(30)
            assert codes == [200], "a request under way had to make room"
            assert client.post("/v1/search", json=QUESTION).status_code == 200
        finally:
            for line in idle:
                line.close()


def test_slow_clients_are_cut_off_and_a_slow_search_is_given_up(tiny_run: Path) -> None:
    with serving(tiny_run, read_seconds=1.5, request_seconds=2.5) as (address, service):
        host, port = address.removeprefix("http://").split(":")
        head = f"POST /v1/search HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 50\r\n"
        lines = {}
        for name, sent in (("nothing", ""), ("half a head", head[:40]), ("no body", head + "\r\n{")):
            lines[name] = socket.create_connection((host, int(port)), 10)
            lines[name].sendall(sent.encode())
        got = {}
        for name, line in lines.items():
            line.settimeout(15)
            got[name] = line.recv(4_096)  # b"" when the server hung up
            line.close()
        assert got["nothing"] == b"" and got["half a head"] == b""
        assert b" 408 " in got["no body"].splitlines()[0]
        search = service.searcher._work
        service.searcher._work = lambda kind, items: (time.sleep(4), search(kind, items))[1]
        asked: list[tuple[str, dict[str, Any]]] = [("search", QUESTION)]
        asked += [("answer", {"question": "when must notice 4 be given", "stream": stream}) for stream in (False, True)]
        for name, body in asked:
            late = httpx.post(f"{address}/v1/{name}", json=body, timeout=30)
            assert late.status_code == 504 and late.json()["error"]["code"] == "timeout"
        service.searcher._work = search
        eventually(lambda: httpx.post(f"{address}/v1/search", json=QUESTION, timeout=30).status_code == 200)


def test_a_fault_is_told_without_its_inside_and_logged_without_the_query(
    tiny_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tiny_run) as (address, service), caplog.at_level(logging.DEBUG):

        def broken(kind: Any, items: Any) -> Any:
            raise ZeroDivisionError(f"while looking for {items}")

        service.encoder._work = broken
        failed = httpx.post(f"{address}/v1/search", json={"query": "verysecretquestion"}, timeout=30)
    assert failed.status_code == 500
    assert failed.json()["error"]["type"] == "server_error"
    assert "Zero" not in failed.text and "verysecret" not in failed.text
    assert "ZeroDivisionError" in caplog.text and "verysecretquestion" not in caplog.text


@pytest.mark.parametrize("on", [True, False])
def test_what_was_asked_is_in_the_log_where_the_settings_say_so_alone(
    tiny_run: Path, caplog: pytest.LogCaptureFixture, on: bool
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/v1/search", {"query": "lease of the secretword"}),
        ("/v1/answer", {"question": "租约 secretword\nERROR forged"}),
        ("/v1/answer", {"question": "rent secretword", "stream": True}),
    ]
    with (
        serving(tiny_run, log_queries=on) as (address, _),
        caplog.at_level(logging.DEBUG),
        httpx.Client(base_url=address, timeout=30) as client,
    ):
        for path, body in asked:
            assert client.post(path, json=body).status_code == 200
        assert client.get("/", params={"q": "notice secretword"}).status_code == 200
    lines = [one.getMessage() for one in caplog.records if one.name.startswith("fieldtune")]
    told = [line for line in lines if "secretword" in line]
    assert len(told) == (4 if on else 0)
    if on:
        assert all("passages" in line and "\n" not in line for line in told)
        assert "lease of the secretword" in told[0] and "租约 secretword" in told[1]


def test_an_index_that_is_deleted_rebuilt_and_damaged_under_the_server(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    with serving(run) as (address, service), httpx.Client(base_url=address, timeout=30) as client:

        def status() -> int:
            return client.post("/v1/search", json=QUESTION).status_code

        assert status() == 200
        more = tiny_passages()[:50]
        write_index(run, run / "model", more)
        eventually(lambda: client.get("/ready").json().get("passages") == 50)
        assert status() == 200
        shutil.move(run / "index", tmp_path / "away")
        eventually(lambda: client.get("/ready").status_code == 503)
        assert status() == 503
        gone = client.post("/v1/search", json=QUESTION)
        assert gone.json()["error"]["code"] == "index_unavailable" and str(tmp_path) not in gone.text
        # The model is still there.
        assert client.post("/v1/embeddings", json={"model": "run", "input": "lease"}).status_code == 200
        assert client.get("/health").status_code == 200
        shutil.move(tmp_path / "away", run / "index")
        eventually(lambda: client.get("/ready").status_code == 200)
        assert status() == 200
        assert len(service.volume.index) == 50


def test_a_model_trained_anew_is_loaded_beside_the_searches_and_another_is_refused(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    loading, may_end, whole = threading.Event(), threading.Event(), Engine.whole
    asked = {"model": "run", "input": "lease"}
    with serving(run) as (address, service), httpx.Client(base_url=address, timeout=120) as client:
        old, before = service.volume.engine, service.volume.model

        def slow(engine: Engine) -> Any:
            if engine is not old:
                loading.set()
                assert may_end.wait(300)
            return whole(engine)

        monkeypatch.setattr(Engine, "whole", slow)
        was = client.post("/v1/embeddings", json=asked).json()["data"][0]["embedding"]
        for path in (run / "model").rglob("*.safetensors"):  # trained anew: other weights in the place of these
            save_file({name: weight + 0.1 for name, weight in load_file(path).items()}, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)
        assert client.post("/v1/search", json=QUESTION).status_code == 200  # no index of it yet: the old one goes on
        write_index(run, run / "model", tiny_passages()[:50])
        assert loading.wait(300)
        found = client.post("/v1/search", json=QUESTION | {"query": "notice 55", "k": 60})
        assert found.status_code == 200 and len(found.json()["results"]) == 60  # of the old index, by the old model
        assert service.volume.model == before and client.get("/ready").status_code == 200
        may_end.set()
        eventually(lambda: service.volume.model != before, 300)
        assert len(service.volume.index) == 50 and service.volume.engine is not old
        assert client.post("/v1/search", json=QUESTION).status_code == 200
        now = client.post("/v1/embeddings", json=asked).json()["data"][0]["embedding"]
        assert max(abs(one - other) for one, other in zip(was, now, strict=True)) > 0.01
        eventually(lambda: service.volume.calibrated == service.volume.version, 300)
        # An index of a model that is not there: refused, and nothing is found with vectors of two models.
        meta = json.loads((run / "index" / "meta.json").read_text())
        (run / "index" / "meta.json").write_text(json.dumps(meta | {"model_fingerprint": "0" * 32}))
        eventually(lambda: client.get("/ready").status_code == 503, 300)
        assert client.post("/v1/search", json=QUESTION).json()["error"]["code"] == "index_unavailable"
        (run / "index" / "meta.json").write_text(json.dumps(meta))
        eventually(lambda: client.get("/ready").status_code == 200, 300)
        assert client.post("/v1/search", json=QUESTION).status_code == 200


def test_bodies_on_their_way_count_while_their_clients_take_their_time(tmp_path: Path) -> None:
    async def never(*_: Any) -> None:
        raise AssertionError("a request got through without its body")

    async def try_it() -> list[int]:
        keys = KeyRing(tmp_path / "none")
        guard = Guard(never, settings=Serving(max_body_bytes=1_000), keys=keys, sessions=Sessions(keys),
                      metrics=Metrics(), routes=frozenset(), pages=frozenset())  # fmt: skip
        statuses: list[int] = []
        stalled = asyncio.Event()

        async def ask() -> None:
            parts = [{"type": "http.request", "body": b"x" * 1_000, "more_body": True}]

            async def receive() -> Any:
                if not parts:
                    await stalled.wait()
                    return {"type": "http.disconnect"}
                return parts.pop()

            async def send(message: Any) -> None:
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])

            scope = {"type": "http", "method": "POST", "path": "/v1/search", "headers": [(b"host", b"localhost")]}
            await guard(scope, receive, send)

        waiting = [asyncio.create_task(ask()) for _ in range(64)]
        await asyncio.sleep(0.05)
        assert statuses == []
        await ask()  # one more than fits into memory
        assert statuses == [503]
        stalled.set()
        await asyncio.gather(*waiting)
        assert statuses == [503] and guard._bytes == 0
        return statuses

    assert asyncio.run(try_it()) == [503]


def test_after_a_rebuild_not_found_is_calibrated_anew_while_it_serves(
    tiny_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    caplog.set_level(logging.INFO, logger="fieldtune.serving")
    with serving(run) as (address, service), httpx.Client(base_url=address, timeout=30) as client:
        before, first = service.volume.threshold, service.volume.version
        assert before is not None
        # Now each dev question stands in the documents word for word: its best similarity is near 1.
        texts = [line["text"] for line in map(json.loads, (run / "data" / "queries.jsonl").read_text().splitlines())]
        write_index(run, run / "model", [Passage(f"p{at}", "", text, source="n.pdf") for at, text in enumerate(texts)])
        statuses = []

        def calibrated() -> bool:
            statuses.append(client.post("/v1/search", json=QUESTION).status_code)
            return service.volume.calibrated == service.volume.version != first

        eventually(calibrated)
        after = service.volume.threshold
        assert after is not None and after.cut > before.cut and after.refused == 0
        assert set(statuses) == {200}
        said = [record.getMessage() for record in caplog.records if "calibrated anew" in record.getMessage()]
        assert said == [f"calibrated anew: {after.sentence}"]
        assert service.library.volume.index.meta["table"] in (run / "serving" / "threshold.json").read_text()
    (run / "serving" / "threshold.json").unlink()
    with serving(run) as (_, service):
        assert service.volume.threshold == after, "a start finds another threshold than the running server did"
        # With all of their passages gone the dev questions say nothing of what these documents hold.
        write_index(run, run / "model", [replace(one, id=f"n{one.id}") for one in tiny_passages()])
        eventually(lambda: service.volume.threshold is None)


@pytest.fixture(scope="module")
def teller() -> Iterator[Teller]:
    made = Teller()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def answering(tiny_run: Path, teller: Teller) -> Iterator[Callable[..., httpx.Response]]:
    llm = {"base_url": f"http://127.0.0.1:{teller.server.server_port}/v1", "model": "m"}
    with serving(tiny_run, llm=llm, stall_seconds=2, answer_seconds=30) as (address, service):
        service.library.volume = replace(service.volume, threshold=None)

        def ask(script: list[str | float | None], **body: Any) -> httpx.Response:
            teller.script, teller.asked = script, []
            question = {"question": "In how many days must notice 3 be given?", "k": 3} | body
            return httpx.post(f"{address}/v1/answer", json=question, timeout=30)

        yield ask


def test_an_answer_is_streamed_checked_and_fenced(answering: Any, teller: Teller) -> None:
    said = ["Notice must ", "be given [1]. ", "It takes 777 days [1]. ", "Nothing else."]
    got = events(answering(["\n", *said], stream=True).text)
    assert [name for name, _ in got] == ["passages", *["delta"] * 4, "final"]
    final = got[-1][1]
    assert "".join(data["text"] for name, data in got if name == "delta") == final["answer"] == "".join(said)
    assert [one["supported"] for one in final["sentences"]] == [True, False, False]
    assert final["answer"][final["sentences"][1]["start"] : final["sentences"][1]["end"]] == "It takes 777 days [1]."
    assert not final["supported"] and final["note"] and final["passages"] == got[0][1]["passages"]
    user = teller.asked[0]["messages"][1]["content"]
    markers = [line for line in user.splitlines() if line.startswith("=== PASSAGE")]
    assert len(markers) == 6 and len(set(markers)) == 3
    whole = answering(["Notice must be given [1]."]).json()
    assert whole["supported"] and whole["by"] == "llm"
    nothing = answering(["NOT_FOUND"]).json()
    assert nothing["found"] is False and nothing["answer"] == "Not found in these documents."
    assert answering(["NOT_FOUND"], question="第三条通知期是几天?").json()["answer"].startswith("在这些文件中")


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (["Notice ", 60.0, "late"], "silent"),
        ([60.0], "silent"),
        (["Notice ", None], "broke off"),
        ([], "empty"),
    ],
)
def test_an_llm_that_stalls_or_dies_ends_in_a_clear_event(answering: Any, script: Any, says: str) -> None:
    began = time.monotonic()
    got = events(answering(script, stream=True).text)
    assert time.monotonic() - began < 25
    assert got[0][0] == "passages" and got[-1][0] == "error"
    assert says in got[-1][1]["error"]["message"] and got[-1][1]["error"]["code"] == "llm_failed"
    failed = answering(script)
    assert failed.status_code == 502 and says in failed.json()["error"]["message"]
    assert answering(["Notice must be given [1]."]).status_code == 200


def test_a_question_about_something_else_is_not_put_to_the_llm(tiny_run: Path, teller: Teller) -> None:
    from fieldtune.serving.threshold import Threshold

    llm = {"base_url": f"http://127.0.0.1:{teller.server.server_port}/v1", "model": "m"}
    with serving(tiny_run, llm=llm) as (address, service):
        high = Threshold(2.0, 0, 0, 1, 1)
        service.library.volume = replace(service.volume, threshold=high)
        teller.asked = []
        answer = httpx.post(f"{address}/v1/answer", json={"question": "Who won the match?"}, timeout=30).json()
        assert answer["found"] is False and answer["answer"] == "Not found in these documents." and answer["passages"]
        assert teller.asked == []
        assert httpx.post(f"{address}/v1/search", json=QUESTION, timeout=30).json()["found"] is False


@pytest.mark.e2e
def test_the_command_serves_and_a_stop_lets_what_is_under_way_end(tiny_run: Path, teller: Teller) -> None:
    teller.script = ["Notice ", 1.5, "must be given [1]."]
    command = [sys.executable, "-m", "fieldtune", "serve", str(tiny_run), "--port", "0"]
    command += ["--set", f"llm.base_url=http://127.0.0.1:{teller.server.server_port}/v1", "--set", "llm.model=m"]
    command += ["--set", "serving.stop_seconds=15"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert "serving 60 passages at http://127.0.0.1:" in line, line + server.stderr.read()  # type: ignore[union-attr]
        address = line.split()[-1]
        text = ""
        question = {"question": "when must notice 3 for the deposit be given", "stream": True}
        with httpx.stream("POST", f"{address}/v1/answer", json=question, timeout=30) as answer:
            for piece in answer.iter_text():
                if not text:
                    server.send_signal(signal.SIGTERM)
                text += piece
        assert events(text)[-1][0] == "final"
        assert server.wait(20) == 0
    finally:
        server.kill()
        server.wait()
