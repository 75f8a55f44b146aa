"""A tiny run with an index, and a real server on loopback around it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fieldtune.config import make_config
from fieldtune.types import Passage

_WORDS = (
    "lease rent tenant deposit eviction contract breach damages notice landlord fever cough asthma insulin fracture "
    "bond equity dividend revenue audit"
)
TOPICS = _WORDS.split()
VERBS = ["ends", "starts", "covers", "excludes", "requires", "allows"]
PASSAGES = 60


def tiny_passages() -> list[Passage]:
    return [
        Passage(
            f"p{number}",
            f"article {number}",
            f"The {TOPICS[number % 20]} {VERBS[number % 6]} the {TOPICS[(number + 7) % 20]}. "
            f"Notice {number} must be given in {number + 2} days. <b>§ {number}</b> ends {TOPICS[(number + 3) % 20]}.",
            group=TOPICS[number % 20],
            source=f"doc-{number % 4}.pdf",
            page=number % 9 + 1,
        )
        for number in range(PASSAGES)
    ]


def write_index(run: Path, model: Path, passages: list[Passage]) -> None:
    from fieldtune.config import Index
    from fieldtune.encoding import Encoder
    from fieldtune.index import build_index
    from fieldtune.models import resolve_model

    encoder = Encoder.load(str(model))
    vectors = encoder.encode([passage.content for passage in passages], "passage")
    fingerprint = resolve_model(str(model)).fingerprint
    build_index(Index(), passages, vectors, run / "index", model_fingerprint=fingerprint, model=model, seed=1)


def write_run(run: Path, model: str) -> Path:
    import shutil

    shutil.copytree(model, run / "model")
    write_index(run, run / "model", tiny_passages())
    (run / "run.json").write_text(json.dumps({"config": make_config({}).model_dump(by_alias=True)}))
    data = run / "data" / "qrels"
    data.mkdir(parents=True)
    rows = tiny_passages()
    corpus = [{"_id": one.id, "title": one.title, "text": one.text} for one in rows]
    queries = [{"_id": f"q{n}", "text": f"when must notice {n} be given for {TOPICS[n % 20]}"} for n in range(PASSAGES)]
    for name, found in (("corpus", corpus), ("queries", queries)):
        (data.parent / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    judged = "".join(f"q{n}\tp{n}\t1\n" for n in range(PASSAGES))
    (data / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    return run


@contextmanager
def serving(run: Path, **settings: Any) -> Iterator[tuple[str, Any]]:
    """A server in a thread: its address, and the service behind it."""
    from fieldtune.serving.opening import open_service
    from fieldtune.serving.server import Server

    others = {name: settings.pop(name) for name in ("llm", "model") if name in settings}
    config = make_config({"serving": {"port": 0, "refresh_seconds": 0.2, **settings}, **others})
    ready = threading.Event()
    with open_service(run, config) as service:
        server = Server(service, ready=lambda _: ready.set())
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        assert ready.wait(60)
        try:
            yield server.address, service
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def eventually(what: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def alive(process: int | None) -> bool:
    try:
        os.kill(process or 0, 0)
    except ProcessLookupError:
        return False
    return True


def examples_posted(client: Any, *only: str) -> dict[tuple[str, str], Any]:
    """The answers to the examples of the server's OpenAPI, by address and name; each POST must have one."""
    schema = client.get("/openapi.json").json()
    found = {}
    for path, methods in schema["paths"].items():
        if "post" in methods and (not only or path in only):
            shown = methods["post"]["requestBody"]["content"]["application/json"]["examples"]
            assert shown, path
            for name, example in shown.items():
                answer = client.post(path, json=example["value"])
                assert str(answer.status_code) in methods["post"]["responses"], (path, name, answer.status_code)
                found[path, name] = answer
    return found
