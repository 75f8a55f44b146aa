"""Requests made from the service's own OpenAPI, a few hundred; benchmarks/serve_fuzz.py makes thousands."""

from __future__ import annotations

from pathlib import Path

import serve_fuzz

from fieldtune.config import make_config


def test_requests_made_from_the_openapi_meet_no_fault_and_no_undocumented_answer(tiny_run: Path) -> None:
    from fieldtune.serving.app import make_app
    from fieldtune.serving.opening import open_service

    with open_service(tiny_run, make_config({"serving": {"hosts": ["*"], "request_seconds": 240}})) as service:
        seen, failed = serve_fuzz.fuzz(make_app(service), cases=320, seed=1, name=service.name)
    assert failed == []
    posts = {label for label, _ in seen if label.startswith("POST")}
    assert len(posts) == 8 and sum(seen.values()) > 150
    assert {status for _, status in seen} >= {200, 400}, "only one kind of request was made"
