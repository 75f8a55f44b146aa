"""Full load for minutes: flat memory, and every answer right, also while the index is brought up to date.

    python benchmarks/serve_soak.py RUN [--minutes 10] [--clients 16] [--growth 0.05] [--reranker MODEL]
                                        [--results FILE]

Works on a copy of the run, with a stub LLM on loopback and a tiny reranker (or MODEL). `--clients` connections ask
again at once: searches (by meaning, words, both, filtered, reranked), the page (results, answers, a passage in its
context), judgements, answers whole and streamed, embeddings, rerank, similarity, refusals. Twice, after a tenth and
after half of the time, `fieldtune index --add` adds a document under load.

The right answers are those of the same server when it is asked one by one, before the load and after each change of the
index: the same ids (those of equal scores in any order), the same vectors within 2e-3, the same sentences. While the
index changes an answer must be that of the one or of the other. What was added must be found, and every judgement that
was taken must be in the journal. The memory of the server and its children that is no file's (RssAnon) is read every
five seconds; it is flat where the mean over the last fifth is within `--growth` of that over the second. The status is
1 where an answer was wrong, a request failed (503 excepted, which overload is answered with), or memory grew.
"""

from __future__ import annotations

import argparse
import asyncio
import html
import json
import random
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

from results import RESULTS, append, markdown
from serve_client import Line, ours, started
from serve_load import questions
from serve_requests import Request, requests, same
from serve_stubs import SAID, stub_llm, tiny_reranker

CHANGES = (0.1, 0.5)
"""When documents are added, as shares of the time."""
NEWS = "The zanzibar clause number {number} binds every quokka to the cartographer."


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a finished run")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--growth", type=float, default=0.05)
    parser.add_argument("--reranker", default="", help="a cross-encoder; by default a tiny one is made")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(words)


def resident(pid: int) -> float:
    """MB of a process and its children that no file backs; Linux alone tells it in this way."""
    total, waiting = 0.0, [pid]
    while waiting:
        one = Path(f"/proc/{waiting.pop()}")
        try:
            for line in (one / "status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    total += int(line.split()[1]) / 1024
            for task in (one / "task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
        except OSError:  # it has ended
            continue
    return total


@dataclass
class Soak:
    """What is asked, what is right, and what came."""

    address: str
    run: Path
    asked: list[Request]
    end: float
    right: list[tuple[int, bytes]] = field(default_factory=list)
    changing: bool = False
    unjudged: list[tuple[int, int, bytes]] = field(default_factory=list)
    """(request, status, answer) while the index changed."""
    answers: int = 0
    refused: int = 0
    labels: int = 0
    wrong: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    async def truth(self) -> list[tuple[int, bytes]]:
        """One by one; what is refused for want of room is asked again."""
        line, found = Line(self.address), []
        for one in self.asked:
            while (answer := await one.sent(line))[0] == 503:
                await asyncio.sleep(0.2)
            self.labels += one.path == "/label"
            found.append(answer)
        line.close()
        return found

    def judge(self, number: int, status: int, found: bytes, *allowed: list[tuple[int, bytes]]) -> None:
        one = self.asked[number]
        if not any(status == truth[number][0] and same(one, found, truth[number][1]) for truth in allowed):
            self.wrong.append(f"{one}: {status} {found[:160]!r}")

    async def client(self, seed: int) -> None:
        rng, mine = random.Random(seed), Line(self.address)
        while time.monotonic() < self.end and len(self.wrong) < 100:
            number = rng.randrange(len(self.asked))
            before = self.changing
            try:
                status, found = await self.asked[number].sent(mine)
            except (OSError, EOFError) as error:
                self.wrong.append(f"{self.asked[number]}: {type(error).__name__}")
                mine.close()
                continue
            if status == 503:
                self.refused += 1
                continue
            self.answers += 1
            self.labels += self.asked[number].path == "/label"
            if before or self.changing:
                self.unjudged.append((number, status, found))
            else:
                self.judge(number, status, found, self.right)

    async def watch(self, pid: int) -> None:
        while time.monotonic() < self.end:
            self.memory.append(resident(pid))
            await asyncio.sleep(min(5.0, max(0.5, (self.end - time.monotonic()) / 40)))

    async def change(self, at: float, number: int) -> None:
        """Add a document under load; the answers meanwhile are judged when both truths are known."""
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        news = self.run.parent / "news"
        news.mkdir(exist_ok=True)
        (news / f"news-{number}.md").write_text(f"# News {number}\n\n{NEWS.format(number=number)}\n")
        self.changing = True
        command = [sys.executable, "-m", "fieldtune", "index", str(self.run), "--add", str(news)]
        process = await asyncio.create_subprocess_exec(*command, stdout=-1, stderr=-2)
        said, _ = await process.communicate()
        if process.returncode:
            self.wrong.append(f"indexing failed: {said[-300:]!r}")
        line, query = Line(self.address), {"query": NEWS.format(number=number), "k": 1, "mode": "words"}
        await asyncio.sleep(3)  # the server looks every second; the threshold is found anew
        status, found = await line.post("/v1/search", query)
        if status == 200 and f"number {number} binds" not in json.loads(found)["results"][0]["text"]:
            self.wrong.append(f"what was added is not found: {found[:160]!r}")
        line.close()
        before, self.right = self.right, await self.truth()
        self.changing = False
        for row, code, answer in self.unjudged:
            self.judge(row, code, answer, before, self.right)
        self.unjudged = []


async def soak(address: str, run: Path, pid: int, given: argparse.Namespace) -> Soak:
    line = Line(address)
    _, found = await line.send("GET", "/openapi.json")
    shown = json.loads(found)["paths"]["/v1/search"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    where = shown.get("filtered-by-value", {"value": {"where": {"source": ["none"]}}})["value"]["where"]
    _, page = await line.send("GET", "/?" + urlencode({"q": questions(run)[0]}))
    links = re.findall(r'href="(/passage\?[^"]*)"', page.decode())
    ids = [parse_qs(urlsplit(html.unescape(one)).query)["id"][0] for one in links]
    line.close()
    made = Soak(address, run, requests(run, where.get("source", ["none"]), ids), 0.0)
    made.right = await made.truth()
    for (status, answer), one in zip(made.right, made.asked, strict=True):
        if status >= 400 and "no such column" not in str(one):
            made.wrong.append(f"{one}: {status} {answer[:160]!r}")
        if isinstance(one.body, dict) and one.path == "/v1/answer" and b'"by":"llm"' in answer:
            final = json.loads(answer.rpartition(b"data: ")[2] if one.body["stream"] else answer)
            if final["answer"] != "".join(SAID) or final["sentences"][-1]["supported"]:
                made.wrong.append(f"{one}: {answer[:160]!r}")
    began = time.monotonic()
    made.end = began + 60 * given.minutes
    changes = (made.change(began + share * 60 * given.minutes, row) for row, share in enumerate(CHANGES))

    async def changed() -> None:
        for one in changes:
            await one

    await asyncio.gather(made.watch(pid), changed(), *(made.client(seed) for seed in range(given.clients)))
    return made


def main(words: list[str] | None = None) -> int:
    given = arguments(words)
    with tempfile.TemporaryDirectory() as folder, stub_llm() as llm:
        run = Path(folder) / "run"
        shutil.copytree(given.run, run, ignore=shutil.ignore_patterns("labels", "keys.jsonl"))
        reranker = given.reranker or tiny_reranker(Path(folder) / "reranker", run / "model")
        settings = ("serving.name=m", "serving.labels=true", "serving.refresh_seconds=1", f"serving.rerank={reranker}",
                    f"llm.base_url={llm}", "llm.model=m")  # fmt: skip
        with started(ours(str(run), *settings)) as (address, server):
            made = asyncio.run(soak(address, run, server.pid, given))
        kept = len((run / "labels" / "journal.jsonl").read_text("utf-8").splitlines())
    if kept != made.labels:
        made.wrong.append(f"{made.labels} judgements were taken, {kept} are in the journal")
    fifth = max(1, len(made.memory) // 5)
    early, late = made.memory[fifth : 2 * fifth] or made.memory[:1], made.memory[-fifth:]
    growth = (sum(late) / len(late)) / (sum(early) / len(early)) - 1
    rows = [(
        f"{given.minutes:g}", f"{made.answers:,}", len(made.wrong), made.refused, f"{made.labels:,}", len(CHANGES),
        f"{sum(early) / len(early):.0f}", f"{sum(late) / len(late):.0f}", f"{growth:+.1%}",
    )]  # fmt: skip
    columns = ("minutes", "answers", "wrong", "503", "labels", "index changes", "MB early", "MB late", "growth")
    about = f"{given.clients} clients at full load on loopback: searches, page, labels, answers, embeddings, rerank."
    print(append("The service under a soak", about, markdown(columns, rows), given.results))
    for sentence in made.wrong[:10]:
        print(" ", sentence)
    return int(bool(made.wrong) or growth > given.growth)


if __name__ == "__main__":
    sys.exit(main())
