"""Full load for minutes: flat memory, and every answer right.

    python benchmarks/serve_soak.py RUN [--minutes 10] [--clients 16] [--growth 0.05] [--results FILE]

Searches, embeddings and answers without an LLM, from `--clients` connections that ask again at once. The right answers
are those of the same server when it is asked one by one, before the load begins: the same ids (those of equal scores in
any order), the same vectors within 2e-3. The resident memory of the server is read every five seconds; it is flat where
the mean over the last fifth is within `--growth` of that over the second. The status is 1 where an answer was wrong, a
request failed (503 excepted, which is what overload is answered with), or memory grew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from results import RESULTS, append, markdown
from serve_client import Line, ours, started
from serve_load import questions


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a finished run")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--growth", type=float, default=0.05)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(words)


def requests(run: Path) -> list[tuple[str, dict[str, Any]]]:
    """A few hundred, of every kind; more queries than are asked for their vectors at once."""
    texts = questions(run)[:300]
    found: list[tuple[str, dict[str, Any]]] = [("/v1/search", {"query": text, "k": 10}) for text in texts]
    found += [("/v1/search", {"query": text, "k": 5, "mode": "words"}) for text in texts[:40]]
    found += [("/v1/embeddings", {"model": "m", "input": texts[at : at + 8]}) for at in range(0, 80, 8)]
    found += [("/v1/answer", {"question": text, "k": 3}) for text in texts[:20]]
    found += [("/v1/similarity", {"first": texts[:2], "second": texts[2:5]})]
    found += [("/v1/search", {"query": "x", "where": {"no such column": 1}})]  # refusals must not leak either
    return found


def same(path: str, one: Any, other: Any) -> bool:
    """Whether two answers say the same, up to the last bits of a batch and the order of equals."""
    if path == "/v1/embeddings":
        pairs = zip(one["data"], other["data"], strict=True)
        return all(abs(a - b) < 2e-3 for x, y in pairs for a, b in zip(x["embedding"], y["embedding"], strict=True))
    if path == "/v1/similarity":
        return all(
            abs(a - b) < 5e-3 for x, y in zip(one["scores"], other["scores"], strict=True)
            for a, b in zip(x, y, strict=True)
        )  # fmt: skip
    name = "passages" if path == "/v1/answer" else "results"
    if name not in one:
        return bool(one == other)
    scores = [hit["score"] for hit in one[name]], [hit["score"] for hit in other[name]]
    if len(scores[0]) != len(scores[1]) or any(
        abs(a - b) > 5e-3 * max(1, abs(a)) for a, b in zip(*scores, strict=True)
    ):
        return False
    # At the end of the list equals compete for the last places; above it the ids are the same.
    last = (scores[0] or [0.0])[-1] + 5e-3
    sure = [{hit["id"] for hit in side[name] if hit["score"] > last} for side in (one, other)]
    close = [{hit["id"] for hit in side[name]} for side in (one, other)]
    return sure[0] <= close[1] and sure[1] <= close[0]


def resident(pid: int) -> float:
    """MB; Linux alone tells it in this way."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


async def soak(address: str, pid: int, given: argparse.Namespace) -> tuple[int, int, list[str], list[float]]:
    """(answers, answers 503, what was wrong, memory by time)"""
    asked = requests(Path(given.run))
    line, right = Line(address), []
    for path, body in asked:
        status, found = await line.post(path, body)
        right.append((status, json.loads(found)))
    line.close()
    end = time.monotonic() + 60 * given.minutes
    answers = refused = 0
    wrong: list[str] = []
    memory: list[float] = []

    async def client(seed: int) -> None:
        nonlocal answers, refused
        rng, mine = random.Random(seed), Line(address)
        while time.monotonic() < end and len(wrong) < 100:
            number = rng.randrange(len(asked))
            path, body = asked[number]
            try:
                status, found = await mine.post(path, body)
            except (OSError, EOFError) as error:
                wrong.append(f"{path}: {type(error).__name__}")
                mine.close()
                continue
            if status == 503:
                refused += 1
                continue
            answers += 1
            if status != right[number][0] or not same(path, json.loads(found), right[number][1]):
                wrong.append(f"{path} {json.dumps(body, ensure_ascii=False)[:120]}: {status} {found[:120]!r}")

    async def watch() -> None:
        while time.monotonic() < end:
            memory.append(resident(pid))
            await asyncio.sleep(min(5.0, 6 * given.minutes))

    await asyncio.gather(watch(), *(client(seed) for seed in range(given.clients)))
    return answers, refused, wrong, memory


def main(words: list[str] | None = None) -> int:
    given = arguments(words)
    with started(ours(given.run, "serving.name=m")) as (address, server):
        answers, refused, wrong, memory = asyncio.run(soak(address, server.pid, given))
    fifth = max(1, len(memory) // 5)
    early, late = memory[fifth : 2 * fifth] or memory[:1], memory[-fifth:]
    growth = (sum(late) / len(late)) / (sum(early) / len(early)) - 1
    rows = [(
        f"{given.minutes:g}", f"{answers:,}", len(wrong), refused, f"{sum(early) / len(early):.0f}",
        f"{sum(late) / len(late):.0f}", f"{growth:+.1%}",
    )]  # fmt: skip
    columns = ("minutes", "answers", "wrong", "503", "MB early", "MB late", "growth")
    about = f"{given.clients} clients at full load on loopback."
    print(append("The service under a soak", about, markdown(columns, rows), given.results))
    for sentence in wrong[:10]:
        print(" ", sentence)
    return int(bool(wrong) or growth > given.growth)


if __name__ == "__main__":
    sys.exit(main())
