from __future__ import annotations

import http.server
import importlib.metadata
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fieldtune import doctor
from fieldtune.config import Llm
from fieldtune.doctor import Check, examine, rows


def named(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("FIELDTUNE_LLM_API_KEY", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(503 if "broken" in self.path else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_says_what_is_there() -> None:
    found = named(examine())
    assert found["torch"] == Check("torch", "ok", importlib.metadata.version("torch"))
    assert "cores usable" in found["processor"].found
    assert found["memory"].found.endswith("GB")
    assert {"Python", "fieldtune", "GPU", "disk", "hub", "builtin:all-MiniLM-L6-v2", "LLM"} <= set(found)
    assert "HF_HUB_OFFLINE" in found["hub"].found


def test_old_and_missing_packages_are_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PACKAGES", (("numpy", "99.1"), ("no-such-package-at-all", "1")))
    found = named(examine())
    assert (found["numpy"].status, found["numpy"].cure) == ("problem", "needs 99.1 or newer")
    assert found["no-such-package-at-all"].status == "problem"


def test_one_failing_look_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Check:
        raise RuntimeError("no such device")

    monkeypatch.setattr(doctor, "_gpu", fail)
    found = named(examine())
    assert found["GPU"].status == "problem"
    assert "no such device" in found["GPU"].found
    assert found["LLM"].status == "info"


def test_the_hub_is_asked_and_its_answer_told(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server)
    assert doctor._hub().status == "ok"
    monkeypatch.setenv("HF_ENDPOINT", server + "/broken")
    assert "503" in doctor._hub().found
    monkeypatch.setenv("HF_ENDPOINT", "not an address")
    assert doctor._hub().status == "info"


def test_a_silent_hub_costs_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        assert "not reachable" in doctor._hub().found
        assert time.monotonic() - start < 4


def test_the_llm_endpoint_is_tried_and_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    monkeypatch.setenv("FIELDTUNE_LLM_API_KEY", "sk-very-secret")
    address = server.replace("http://", "http://user:hidden@") + "/v1?key=hidden"
    check = doctor._llm(Llm(base_url=address, model="qwen"))
    assert check.status == "ok"
    assert "FIELDTUNE_LLM_API_KEY is set" in check.found
    assert "qwen" in check.found
    assert "secret" not in check.found and "hidden" not in check.found
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    check = doctor._llm(Llm(base_url=f"http://127.0.0.1:{port}/v1"))
    assert check.status == "problem"
    assert check.cure


def test_little_disk_is_a_problem_even_in_a_folder_not_there_yet(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: type("Usage", (), {"free": 1_000_000_000}))
    check = doctor._disk(tmp_path / "not" / "there")
    assert check.status == "problem"
    assert str(tmp_path) in check.found


def test_rows_show_the_cure() -> None:
    assert rows([Check("a", "ok", "fine"), Check("b", "problem", "gone", "pip install b")]) == [
        ("a", "fine"),
        ("b", "! gone -> pip install b"),
    ]
