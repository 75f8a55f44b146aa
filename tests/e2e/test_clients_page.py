"""What docs/clients.md tells people to write is run as it stands, against a real server with a real model."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from fieldtune.models import resolve_model

sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))
from serving_cases import serving, write_run

PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text("utf-8")
CODE = re.findall(r"^## (.*?)$.*?^```python\n(.*?)^```", PAGE, re.M | re.S)
CURL = re.findall(r"^curl -s (\S+) .*?-d '(.*?)'$", PAGE, re.M | re.S)

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = str(resolve_model("builtin:all-MiniLM-L6-v2").folder)
    with serving(write_run(tmp_path_factory.mktemp("clients") / "run", model), name="team") as (found, _):
        yield found


@pytest.mark.parametrize(("title", "code"), CODE, ids=[title for title, _ in CODE])
def test_the_code_runs_as_it_stands(title: str, code: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDTUNE_URL", f"{address}/v1")
    monkeypatch.delenv("FIELDTUNE_KEY", raising=False)
    assert "\nassert " in code  # each ends by a check of its own: the right passage is nearer than the wrong one
    exec(compile(code, f"clients.md, {title}", "exec"), {})


def test_there_are_three_clients_and_two_calls_without_one() -> None:
    assert [title for title, _ in CODE] == ["The openai package", "LangChain", "LlamaIndex"]
    assert [urlsplit(url).path for url, _ in CURL] == ["/v1/search", "/v1/answer"]


@pytest.mark.parametrize(("url", "body"), CURL, ids=[urlsplit(url).path for url, _ in CURL])
def test_the_calls_without_a_client_are_answered(url: str, body: str, address: str) -> None:
    given = httpx.post(f"{address}{urlsplit(url).path}", json=json.loads(body), timeout=30)
    assert given.status_code == 200, given.text
    assert given.json().get("results") or given.json().get("passages")
