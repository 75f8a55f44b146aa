"""Embeddings over HTTP with and without an export: passages a second of `fieldtune serve`.

    python benchmarks/serve_export.py RUN EXPORT [EXPORT …] [--results FILE]

Each EXPORT was written by `fieldtune export RUN/model --data RUN/data --out EXPORT`. A service of the run without one
and a service with each get the same 512 passages in one request, in turn, seven times; the median of each counts, and
the lowest cosine of what an export's service gives with what the plain one gives.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import statistics
import sys
import time
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from results import RESULTS, append, markdown
from serve_client import Line, ours, started

PASSAGES = 512
ROUNDS = 7


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a finished run")
    parser.add_argument("exports", nargs="+", help="folders that `fieldtune export` wrote of its model")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(words)


async def embedded(line: Line, texts: list[str]) -> tuple[float, NDArray[np.float32]]:
    """Seconds of one request for all of them, and the vectors (len(texts), dim)."""
    began = time.perf_counter()
    status, body = await line.post("/v1/embeddings", {"model": "m", "input": texts, "encoding_format": "base64"})
    took = time.perf_counter() - began
    if status != 200:
        sys.exit(f"embeddings: {status} {body[:200]!r}")
    rows = [np.frombuffer(base64.b64decode(one["embedding"]), np.float32) for one in json.loads(body)["data"]]
    return took, np.stack(rows)


def main(words: list[str] | None = None) -> int:
    given = arguments(words)
    from fieldtune.encoding.exported import export_record
    from fieldtune.index import Index

    index = Index.open(given.run)
    texts = [one.content for one in islice(index.iterate(), PASSAGES)]
    settings = {"PyTorch": "serving.name=m"}
    for export in given.exports:
        record = export_record(Path(export))
        settings[f"{record['backend']} {record['precision']} ({Path(export).name})"] = f"encoding.export={export}"
    times: dict[str, list[float]] = {name: [] for name in settings}
    cosines: dict[str, float] = {}

    async def measured(addresses: dict[str, str]) -> None:
        lines = {name: Line(address) for name, address in addresses.items()}
        for turn in range(ROUNDS + 1):  # the first warms up
            exact = None
            for name, line in lines.items():
                took, vectors = await embedded(line, texts)
                exact = vectors if exact is None else exact
                cosines[name] = float((vectors * exact).sum(axis=1).min())
                if turn:
                    times[name].append(took)
        for line in lines.values():
            line.close()

    with ExitStack() as stack:
        addresses = {
            name: stack.enter_context(started(ours(given.run, "serving.name=m", setting)))[0]
            for name, setting in settings.items()
        }
        asyncio.run(measured(addresses))
    plain = times["PyTorch"]
    rows = []
    for name, took in times.items():
        ratios = sorted(mine / own for mine, own in zip(plain, took, strict=True))
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        rows.append((name, f"{len(texts) / statistics.median(took):.0f}", spread, f"{cosines[name]:.4f}"))
    columns = ("embeddings of the service by", "passages/s", "times PyTorch", "lowest cosine")
    about = f"{len(texts)} passages a request, {ROUNDS} requests to each service in turn, loopback."
    print(append("The service with an export", about, markdown(columns, rows), given.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
