"""Search and embeddings over HTTP under load: `fieldtune serve` beside a plain FastAPI handler.

    python benchmarks/serve_load.py RUN [--rate 50] [--seconds 20] [--clients 32] [--check] [--results FILE]

The plain handler is what a tutorial has: `SentenceTransformer.encode` of one query, then LanceDB's search of a table
with the same vectors and passages, in a `def` endpoint that FastAPI runs in its threads. Both run one after the other
on loopback with the same queries, in a process of their own. At a steady rate each request is timed from the moment it
was due; at saturation each of the clients asks again as soon as it has its answer. Vectors are not remembered between
queries unless the row says so. Embeddings: 256 passages in one request, and the same passages through the encoding
engine (`Encoder`, or `with_torch` of it where that is faster) in a process of its own, in turn, the median of each.
With --check the status is 1 where a bar is missed: p50 under 15 ms and p99 under 60 ms at the steady rate, three times
the plain handler's requests a second, embeddings no slower than the engine. Both cores must be free for the figures to
mean anything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from results import RESULTS, append, markdown
from serve_client import Line, Seen, ours, saturated, started, steady

P50, P99, TIMES = 15.0, 60.0, 3.0
PASSAGES = 256
ROUNDS = 7


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a finished run")
    parser.add_argument("--rate", type=float, default=50, help="requests a second")
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
    parser.add_argument("--clients", type=int, default=32, help="at saturation")
    parser.add_argument("--mode", default="dense", help="of search: dense, words, hybrid or auto")
    parser.add_argument("--check", action="store_true", help="end with status 1 where a bar is missed")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)  # plain, or engine, in a process of its own
    return parser.parse_args(words)


class PlainBody(BaseModel):
    query: str
    k: int = 10
    mode: str = ""


def plain(run: str) -> None:
    """Serve what a tutorial would."""
    import lancedb
    import uvicorn
    from fastapi import FastAPI
    from sentence_transformers import SentenceTransformer

    from fieldtune.index import Index

    index = Index.open(run)
    model = SentenceTransformer(index.model, device="cpu")
    rows = [
        {"id": one.id, "title": one.title, "text": one.text, "source": one.source, "vector": vector}
        for one, vector in zip(index.iterate(), index.stored_vectors(), strict=True)
    ]
    folder = tempfile.TemporaryDirectory()
    table = lancedb.connect(folder.name).create_table("passages", rows)
    del rows

    app = FastAPI()

    @app.post("/v1/search")
    def search(body: PlainBody) -> dict[str, Any]:
        vector = model.encode(body.query, normalize_embeddings=True, show_progress_bar=False)
        found = table.search(vector).distance_type("dot").limit(body.k)
        return {"results": found.select(["id", "title", "text", "source", "_distance"]).to_list()}

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            print(f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}", flush=True)

    Server(uvicorn.Config(app, port=0, log_level="warning")).run()


def engine(run: str) -> None:
    """For each line that comes in print the seconds of the encoding engine alone, the faster of its two ways."""
    from fieldtune.encoding import Encoder
    from fieldtune.encoding.fast import with_torch
    from fieldtune.index import Index

    index = Index.open(run)
    texts = [one.content for one, _ in zip(index.iterate(), range(PASSAGES), strict=False)]
    encoder = Encoder.load(index.model)
    ways = (encoder, with_torch(encoder))
    for _ in sys.stdin:
        times = []
        for way in ways:
            began = time.perf_counter()
            way.encode(texts, "passage")
            times.append(time.perf_counter() - began)
        print(min(times), flush=True)


def questions(run: Path) -> list[str]:
    """Distinct queries of the run, else titles of its passages."""
    path = run / "data" / "queries.jsonl"
    if path.exists():
        texts = [json.loads(line)["text"] for line in path.read_text("utf-8").splitlines() if line.strip()]
    else:
        from fieldtune.index import Index

        texts = [passage.title or passage.text[:80] for passage in Index.open(run).iterate()]
    return list(dict.fromkeys(texts))


async def embedded(address: str, name: str, texts: list[str], alone: subprocess.Popen[str]) -> tuple[float, float]:
    """Passages a second of one request for all of them, and of the engine alone, taken in turn, the median of each."""
    line, times, others = Line(address), [], []
    for _ in range(ROUNDS + 1):  # the first warms up
        began = time.perf_counter()
        status, body = await line.post("/v1/embeddings", {"model": name, "input": texts, "encoding_format": "base64"})
        times.append(time.perf_counter() - began)
        if status != 200:
            sys.exit(f"embeddings: {status} {body[:200]!r}")
        print("again", file=alone.stdin, flush=True)
        others.append(float(alone.stdout.readline() if alone.stdout else "nan"))
    line.close()
    return len(texts) / statistics.median(times[1:]), len(texts) / statistics.median(others[1:])


def measured(address: str, bodies: list[Any], given: argparse.Namespace) -> tuple[Seen, Seen]:
    asyncio.run(saturated(address, "/v1/search", bodies[-200:], 4, 3))
    calm = asyncio.run(steady(address, "/v1/search", bodies, given.rate, given.seconds))
    return calm, asyncio.run(saturated(address, "/v1/search", bodies[::-1], given.clients, given.seconds))


def main(words: list[str] | None = None) -> int:
    given = arguments(words)
    if given.one == "plain":
        plain(given.run)
        return 0
    if given.one == "engine":
        engine(given.run)
        return 0
    from fieldtune.index import Index

    began = os.getloadavg()[0]
    bodies = [{"query": text, "k": 10, "mode": given.mode} for text in questions(Path(given.run))]
    texts = [one.content for one, _ in zip(Index.open(given.run).iterate(), range(PASSAGES), strict=False)]
    found: dict[str, tuple[Seen, Seen]] = {}
    myself = [sys.executable, __file__, given.run]
    with started([*myself, "--one", "plain"]) as (address, _):
        found["plain FastAPI, SentenceTransformer, LanceDB"] = measured(address, bodies, given)
    with started(ours(given.run, "serving.cached_queries=0", "serving.name=m")) as (address, _):
        found["fieldtune serve"] = measured(address, bodies, given)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen([*myself, "--one", "engine"], text=True, **pipes) as other:  # type: ignore[call-overload]
            served, alone = asyncio.run(embedded(address, "m", texts, other))
            other.stdin.close()
    with started(ours(given.run)) as (address, _):
        found["fieldtune serve, queries asked before"] = measured(address, bodies[:200], given)
    rows = [
        (
            name, f"{calm.percentile(0.5):.1f}", f"{calm.percentile(0.99):.1f}", sum(calm.bad.values()),
            f"{full.rate:.0f}", f"{full.percentile(0.5):.1f}", sum(full.bad.values()),
        )
        for name, (calm, full) in found.items()
    ]  # fmt: skip
    columns = (
        "search", f"p50 ms at {given.rate:g}/s", "p99 ms", "refused", f"requests/s, {given.clients} clients", "p50 ms",
        "refused",
    )  # fmt: skip
    calm, full = found["fieldtune serve"]
    beside = found["plain FastAPI, SentenceTransformer, LanceDB"][1]
    if not beside.seconds:
        sys.exit(f"the plain handler answered nothing: {beside.bad}")
    times = full.rate / beside.rate
    bars = {
        f"p50 {calm.percentile(0.5):.1f} ms under {P50:g}": calm.percentile(0.5) < P50,
        f"p99 {calm.percentile(0.99):.1f} ms under {P99:g}": calm.percentile(0.99) < P99,
        f"{times:.1f} times the plain handler, at least {TIMES:g}": times >= TIMES,
        f"embeddings {served:.0f} passages/s, the engine alone {alone:.0f}": served >= 0.98 * alone,
        "nothing refused at the steady rate": not calm.bad,
    }
    lines = [*markdown(columns, rows), "", *(f"- {'met' if met else 'MISSED'}: {bar}" for bar, met in bars.items())]
    about = (
        f"{len(Index.open(given.run)):,} passages, mode {given.mode}, {given.seconds:g} s a measurement, loopback; "
        f"load average {began:.1f} before it began (0: the machine was free)."
    )
    print(append("The service under load", about, lines, given.results))
    return int(given.check and not all(bars.values()))


if __name__ == "__main__":
    sys.exit(main())
