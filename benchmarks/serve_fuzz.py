"""Thousands of requests made from the service's OpenAPI by schemathesis; none may end in a fault of the server.

    python benchmarks/serve_fuzz.py RUN [--cases 3000] [--seed 1]

Runs the application in this process, without a socket, with a stub LLM on loopback and a tiny reranker, so that what is
behind them is reached. For each endpoint valid and invalid requests are made; checked
are: no 5xx but 503, which is what overload is answered with, the status is one that the OpenAPI names, and the
answer's type and body are as it says. Prints the count of each status by endpoint; the status is 1 where a check fails.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from serve_stubs import stub_llm, tiny_reranker

ALLOWED = frozenset({501, 503})
"""501 where `fuzz` is given an application without LLM or reranker."""


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a finished run")
    parser.add_argument("--cases", type=int, default=3_000, help="over all endpoints")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(words)


def fuzz(app: Any, cases: int, seed: int, name: str) -> tuple[Counter[tuple[str, int]], list[str]]:
    """Statuses by endpoint, and what failed a check, one sentence each; `name` is that of the model."""
    import hypothesis
    import schemathesis
    from hypothesis import HealthCheck, Phase
    from schemathesis.checks import load_all_checks
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [status_code_conformance, content_type_conformance, response_schema_conformance]
    load_all_checks()
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [found.ok() for found in schema.get_all_operations()]
    seen: Counter[tuple[str, int]] = Counter()
    failed: list[str] = []
    posts = [one for one in operations if one.method.upper() == "POST"]
    for operation in operations:
        # An endpoint without a body has little to vary.
        each = max(1, cases // (2 * len(posts))) if operation in posts else 5
        for mode in GenerationMode:
            strategy = operation.as_strategy(generation_mode=mode)
            judge = _judge(operation.label, seen, failed, checks, name)
            test = hypothesis.given(case=strategy)(judge)
            test = hypothesis.settings(
                max_examples=each, deadline=None, database=None, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )(test)  # fmt: skip
            try:
                hypothesis.seed(seed)(test)()
            except hypothesis.errors.Unsatisfiable:
                continue  # nothing invalid can be sent where nothing is taken
    return seen, failed


def _judge(label: str, seen: Counter[tuple[str, int]], failed: list[str], checks: list[Any], name: str) -> Any:
    def one(case: Any) -> None:
        # No chance would hit upon the model's name, and what is behind it would never be reached.
        if isinstance(case.body, dict) and isinstance(case.body.get("model"), str) and sum(seen.values()) % 4:
            case.body["model"] = name
        response = case.call(headers={"Host": "127.0.0.1"}, timeout=120)
        seen[label, response.status_code] += 1
        if response.status_code >= 500 and response.status_code not in ALLOWED:
            failed.append(f"{label}: {response.status_code} for {case.body!r:.300}")
        try:
            case.validate_response(response, checks=checks)
        except Exception as error:
            failed.append(f"{label}: {str(error)[:600]}")

    return one


def main(words: list[str] | None = None) -> int:
    given = arguments(words)
    from fieldtune.config import make_config
    from fieldtune.serving.app import make_app
    from fieldtune.serving.opening import open_service

    began = time.monotonic()
    run = Path(given.run)
    with tempfile.TemporaryDirectory() as folder, stub_llm() as address:
        settings = {
            "hosts": ["*"],
            "request_seconds": 240,
            "rerank": tiny_reranker(Path(folder) / "reranker", run / "model"),
        }
        config = make_config({"serving": settings, "llm": {"base_url": address, "model": "m"}})
        with open_service(run, config) as service:
            seen, failed = fuzz(make_app(service), given.cases, given.seed, service.name)
    failed += [f"{label}: {status}" for label, status in seen if status == 501]
    for (label, status), count in sorted(seen.items()):
        print(f"{label:32} {status} {count:6}")
    print(f"{sum(seen.values()):,} requests in {time.monotonic() - began:.0f} s, {len(failed)} failed a check")
    for line in failed[:20]:
        print(" ", line)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
