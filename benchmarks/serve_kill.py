"""SIGKILL at random moments of indexing while a server reads: nothing that was committed is lost, no answer is mixed.

    python benchmarks/serve_kill.py RUN [--rounds 12] [--seed 1] [--documents 40]

Works on a copy of the run. Each round begins one of `fieldtune index RUN --docs` (all documents in a new edition),
`--add` (the same, beside those that are indexed) and `fieldtune index RUN` (built again from the run's corpus), and
kills it with its children at a moment drawn by lot: half of them anywhere in its usual time, half in the second after
the new files appear; every fifth is let through. Meanwhile clients ask a `fieldtune serve` without pause. Checked:

- every answer is a 200 whose passages are all of one edition, one that was begun, and none older than the last that
  was committed before the question;
- after each kill a new process opens the index and finds that edition, whole;
- every third round, and at the end, the server is killed too, and the next one serves it.

Prints a table of how the rounds ended; the status is 1 where anything was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serve_client import Line, ours, started

KINDS = ("docs", "add", "rebuild")
ALL = 50
"""Passages that a question asks for."""
CORPUS = 0
"""The edition that the run's own corpus counts as."""


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--documents", type=int, default=40)
    return parser.parse_args(words)


def write_edition(folder: Path, number: int, documents: int) -> Path:
    """Documents that all say which edition they are."""
    folder.mkdir(exist_ok=True)
    for row in range(documents):
        text = f"# Paper {row}\n\nThis is paper {row} of edition {number}. Whoever reads it must keep paper {row}.\n"
        (folder / f"paper-{row}.md").write_text(text)
    return folder


def edition_of(text: str) -> int:
    """Which edition a passage is from; the run's own passages are of none of them."""
    _, found, rest = text.partition(" of edition ")
    return int(rest.split(".")[0]) if found else CORPUS


class Watch:
    """What clients saw, and what they may have seen."""

    def __init__(self) -> None:
        self.committed = CORPUS
        self.begun: set[int] = {CORPUS}
        self.wrong: list[str] = []
        self.answers = 0
        self.editions: Counter[int] = Counter()

    def judge(self, status: int, body: bytes, allowed_before: frozenset[int]) -> None:
        self.answers += 1
        if status != 200:
            self.wrong.append(f"{status} {body[:200]!r}")
            return
        editions = {edition_of(hit["text"]) for hit in json.loads(body)["results"]}
        if len(editions) != 1:
            self.wrong.append(f"an answer of editions {sorted(editions)}")
        elif not editions <= allowed_before | self.allowed:
            self.wrong.append(f"an answer of edition {editions.pop()}, committed is {self.committed}")
        self.editions.update(editions)

    @property
    def allowed(self) -> frozenset[int]:
        """The last that was committed, and the one that may be at any moment."""
        return frozenset({self.committed} | self.begun)


async def ask(address: str, watch: Watch, stop: threading.Event) -> None:
    line, number = Line(address), 0
    while not stop.is_set():
        number += 1
        modes = ("dense", "words", "hybrid")
        body = {"query": f"Whoever reads it must keep paper {number % 40}", "k": ALL, "mode": modes[number % 3]}
        before = watch.allowed
        try:
            status, found = await line.post("/v1/search", body)
        except (OSError, EOFError):
            line.close()
            if not stop.is_set():
                watch.wrong.append("the server hung up")
                return
            continue
        watch.judge(status, found, before)
        await asyncio.sleep(0.005)
    line.close()


@contextmanager
def server(run: Path, watch: Watch) -> Iterator[str]:
    """A server that is asked all the time; killed at the end."""
    with started(ours(str(run), "serving.refresh_seconds=0.1")) as (address, process):
        stop = threading.Event()
        client = threading.Thread(target=lambda: asyncio.run(ask(address, watch, stop)))
        client.start()
        try:
            yield address
        finally:
            stop.set()
            client.join()
            process.send_signal(signal.SIGKILL)


def indexing(run: Path, kind: str, documents: Path) -> subprocess.Popen[str]:
    more = [] if kind == "rebuild" else [f"--{kind}", str(documents)]
    command = [sys.executable, "-m", "fieldtune", "index", str(run), *more]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def killed(process: subprocess.Popen[str], index: Path, usual: float, late: bool, rng: random.Random) -> bool:
    """Kill it at some moment; False where it was done before."""
    there = {entry.name for entry in index.iterdir()}
    end = time.monotonic() + (600 if late else rng.uniform(0, usual))
    while time.monotonic() < end and process.poll() is None:
        if late and {entry.name for entry in index.iterdir()} - there:
            time.sleep(rng.uniform(0, 1) ** 2)  # most of the writing is done in the first tenths
            break
        time.sleep(0.002)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def found_in(run: Path) -> set[int]:
    """The editions of all passages that a fresh process finds."""
    code = (
        "import sys, json; from fieldtune.index import Index; index = Index.open(sys.argv[1]); "
        "found = list(index.iterate()); assert len(found) == len(index) == len(index.stored_vectors()); "
        "print(json.dumps([one.text for one in found]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-500:])
    return {edition_of(text) for text in json.loads(done.stdout.splitlines()[-1])}


def main(words: list[str] | None = None) -> int:
    given = arguments(words)
    rng, watch = random.Random(given.seed), Watch()
    ended: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        shutil.copytree(given.run, run, ignore=shutil.ignore_patterns("keys.jsonl"))
        documents, usual, edition = Path(folder) / "papers", 0.0, 0
        for number in range(given.rounds):
            if number % 3 == 0:
                servers = server(run, watch)
                servers.__enter__()
            # The first is let through and timed. An edition beside the corpus would be two: --add follows --docs.
            kind = KINDS[number % 3] if watch.committed != CORPUS or number % 3 != 1 else "docs"
            target = CORPUS if kind == "rebuild" else (edition := edition + 1)
            watch.begun = {target}
            began = time.monotonic()
            process = indexing(run, kind, write_edition(documents, edition, given.documents))
            if number % 5 == 0:
                said, _ = process.communicate()
                outcome = "let through" if process.returncode == 0 else "failed"
                if outcome == "failed":
                    watch.wrong.append(f"{kind}: {said[-300:]}")
                usual = usual or time.monotonic() - began
            else:
                outcome = "killed" if killed(process, run / "index", usual, bool(number % 2), rng) else "done before"
            editions = found_in(run)
            if outcome in ("let through", "done before") and editions != {target}:
                watch.wrong.append(f"{kind} of edition {target} was committed, and {sorted(editions)} is there")
            if len(editions) != 1 or not editions <= watch.allowed:
                watch.wrong.append(f"after {kind} {outcome}: {sorted(editions)} of {sorted(watch.allowed)}")
            if outcome == "killed" and editions == {target} != {watch.committed}:
                outcome = "killed after the change-over"
            ended[kind, outcome] += 1
            # The server looks every tenth of a second, and searches look by themselves.
            watch.committed = next(iter(editions))
            time.sleep(0.5)
            watch.begun = set()
            time.sleep(0.5)
            if number % 3 == 2 or number == given.rounds - 1:
                servers.__exit__(None, None, None)
        with server(run, watch):
            time.sleep(1)
    for (kind, outcome), count in sorted(ended.items()):
        print(f"{kind:8} {outcome:28} {count:4}")
    print(f"{watch.answers:,} answers meanwhile, editions {dict(sorted(watch.editions.items()))}")
    for line in list(dict.fromkeys(watch.wrong))[:20]:
        print("WRONG:", line)
    print(f"{len(watch.wrong)} wrong")
    return int(bool(watch.wrong))


if __name__ == "__main__":
    sys.exit(main())
