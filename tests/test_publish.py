from __future__ import annotations

import base64
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fieldtune import cli
from fieldtune.console import size
from fieldtune.errors import EndpointError, InputError, ModelError
from fieldtune.model_folder import PLACE
from fieldtune.publish import plan_push, send

GOOD = {
    "verdict": {"outcome": "better", "headline": "It finds more."},
    "general": {"failed": False, "sentence": "Kept."},
}


@pytest.fixture
def run(tiny_model: str, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    shutil.copytree(tiny_model, folder / "model")
    (folder / "model" / "README.md").write_text(f'---\nlicense: unknown\n---\nSentenceTransformer("{PLACE}")\n')
    (folder / "metrics.json").write_text(json.dumps(GOOD))
    (folder / "report.html").write_text("texts")
    (folder / "data").mkdir()
    return folder


class Hub:
    """What the real client offers of what is used here, with a memory."""

    def __init__(self, private: bool | None = None) -> None:
        self.repos: dict[str, bool] = {} if private is None else {"me/model": private}
        self.sent: dict[str, bytes] = {}

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
        assert exist_ok
        self.repos.setdefault(repo_id, private)
        return f"https://hub.example/{repo_id}"

    def model_info(self, repo_id: str) -> SimpleNamespace:
        return SimpleNamespace(private=self.repos[repo_id])

    def create_commit(self, repo_id: str, operations: list[Any], *, commit_message: str) -> None:
        for one in operations:
            with one.as_file() as stream:
                self.sent[one.path_in_repo] = stream.read()


def test_a_dry_run_shows_each_file_and_touches_no_network(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a dry run opened a connection")

    (run / "model" / ".cache.tmp").write_text("x")
    (run / "model" / "checkpoint-5").mkdir()
    (run / "model" / "checkpoint-5" / "model.safetensors").write_text("x")
    (run / "model" / "optimizer.pt").write_text("x")
    (run / "model" / "per_query.csv").write_text("x")
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(SystemExit) as ended:
        cli.main(["push", str(run), "--to", "me/model", "--dry-run"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    planned = plan_push(run, "me/model", public=False)
    assert {"README.md", "modules.json"} <= {file.name for file in planned.files}
    assert any(file.name.endswith("model.safetensors") for file in planned.files)
    assert all(file.name in said and size(file.size) in said for file in planned.files)
    assert {name.strip("/ ") for name, _ in planned.left_out} == {
        ".cache.tmp", "checkpoint-5", "optimizer.pt", "per_query.csv", "../report.html", "../metrics.json", "../data",
    }  # fmt: skip
    assert "left out: ../report.html" in said
    assert "(private)" in said
    assert said.rstrip().endswith("dry run: nothing was sent")


def test_sends_the_model_privately_and_names_the_repository_in_the_card(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub = Hub()
    planned = plan_push(run, "me/model", public=False)
    assert send(planned, anyway=False, api=hub) == "https://hub.example/me/model"
    assert hub.repos == {"me/model": True}
    assert set(hub.sent) == {file.name for file in planned.files}
    assert b'SentenceTransformer("me/model")' in hub.sent["README.md"]
    assert hub.sent["modules.json"] == (run / "model" / "modules.json").read_bytes()
    assert PLACE in (run / "model" / "README.md").read_text()


def test_the_model_folder_of_a_run_is_judged_by_the_run(run: Path) -> None:
    (run / "stages").mkdir()
    (run / "metrics.json").write_text(json.dumps({"verdict": {"outcome": "worse", "headline": "It finds less."}}))
    by_run, by_folder = (plan_push(path, "me/model", public=False) for path in (run, run / "model"))
    assert by_folder == by_run
    assert by_folder.warnings == ("The verdict is worse: It finds less.",)


def test_never_lands_in_a_public_repository_unasked(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub = Hub(private=False)
    with pytest.raises(InputError, match="exists and is public"):
        send(plan_push(run, "me/model", public=False), anyway=True, api=hub)
    assert hub.sent == {}
    send(plan_push(run, "me/model", public=True), anyway=False, api=hub)
    assert hub.sent


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        ({"verdict": {"outcome": "worse", "headline": "It finds less."}}, "The verdict is worse: It finds less."),
        ({"verdict": {"outcome": "not trustworthy", "headline": "Leaks."}}, "not trustworthy: Leaks."),
        (GOOD | {"general": {"failed": True, "sentence": "General ability was lost."}}, "General ability was lost."),
        ({}, "no verdict"),
        (None, "never measured"),
    ],
)
def test_a_model_that_should_not_ship_is_sent_only_anyway(
    metrics: dict[str, Any] | None, says: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "metrics.json").unlink()
    if metrics is not None:
        (run / "metrics.json").write_text(json.dumps(metrics))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    planned, hub = plan_push(run, "me/model", public=False), Hub()
    with pytest.raises(ModelError, match="not sent") as caught:
        send(planned, anyway=False, api=hub)
    assert says in caught.value.message
    assert hub.sent == {}
    send(planned, anyway=True, api=hub)
    assert hub.sent


def test_what_is_missing_is_said(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(InputError, match="HF_TOKEN is not set"):
        send(plan_push(run, "me/model", public=False), anyway=False, api=Hub())
    for name in ("model", "me/", "me/a/b", "https://hub/me/model", "-x/y"):
        with pytest.raises(InputError, match="no repository"):
            plan_push(run, name, public=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError):
        plan_push(tmp_path / "empty", "me/model", public=False)
    (run / "model" / "README.md").unlink()
    assert plan_push(run, "me/model", public=False).warnings == ("There is no model card.",)


def test_the_token_is_never_in_an_error(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Angry(Hub):
        def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
            raise RuntimeError("401: hf_secret is not valid")

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(EndpointError, match="401") as caught:
        send(plan_push(run, "me/model", public=False), anyway=False, api=Angry())
    assert "hf_secret" not in caught.value.message + caught.value.hint


class Loopback(BaseHTTPRequestHandler):
    """As much of a hub's protocol as the real client needs for files that are stored in the commit itself."""

    def do_GET(self) -> None:
        self._answer({"id": "me/model", "private": self.server.private, "siblings": [], "sha": "0" * 40, "tags": []})  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        seen: list[Any] = self.server.seen  # type: ignore[attr-defined]
        seen.append((self.path, self.headers.get("Authorization"), body))
        if "/preupload/" in self.path:
            files = [
                {"path": row["path"], "uploadMode": "regular", "shouldIgnore": False}
                for row in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif "/commit/" in self.path:
            place = f"http://{self.headers['Host']}/me/model"
            self._answer({"commitUrl": f"{place}/commit/{'1' * 40}", "commitOid": "1" * 40, "hookOutput": ""})
        elif self.path.endswith("/validate-yaml"):
            self._answer({"errors": [], "warnings": []})
        else:
            asked = json.loads(body)
            self.server.private = asked.get("private") is True or asked.get("visibility") == "private"  # type: ignore[attr-defined]
            self._answer({"url": f"http://{self.headers['Host']}/me/model"})

    def _answer(self, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def loopback() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Loopback)
    server.seen, server.private = [], True  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_the_real_client_sends_to_a_server_on_loopback(
    run: Path, loopback: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{loopback.server_address[1]}")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(SystemExit) as ended:
        cli.main(["push", str(run), "--to", "me/model"])
    assert ended.value.code == 0, capsys.readouterr()
    assert loopback.private is True
    assert {token for _, token, _ in loopback.seen} == {"Bearer hf_secret"}
    commit = next(body for path, _, body in loopback.seen if "/commit/" in path)
    rows = [json.loads(line)["value"] for line in commit.splitlines()]
    sent = {row["path"]: base64.b64decode(row["content"]) for row in rows if "content" in row}
    assert set(sent) == {file.name for file in plan_push(run, "me/model", public=False).files}
    assert b"me/model" in sent["README.md"]
    assert "hf_secret" not in capsys.readouterr().out


def test_a_hub_that_cannot_be_reached_ends_with_2(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(SystemExit) as ended:
        cli.main(["push", str(run), "--to", "me/model"])
    assert ended.value.code == 2
    assert "the hub did not take me/model" in capsys.readouterr().err
