"""Requests of every kind that a service takes, and whether two answers to one of them say the same."""

from __future__ import annotations

import base64
import html
import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from serve_client import Line
from serve_load import questions


@dataclass(frozen=True, slots=True)
class Request:
    """One request; a dictionary goes as JSON, text as a form, none as GET."""

    path: str
    body: dict[str, Any] | str | None = None

    async def sent(self, line: Line) -> tuple[int, bytes]:
        if self.body is None:
            return await line.send("GET", self.path)
        if isinstance(self.body, str):
            return await line.send("POST", self.path, self.body.encode(), "application/x-www-form-urlencoded")
        return await line.post(self.path, self.body)

    def __str__(self) -> str:
        return f"{self.path} {json.dumps(self.body, ensure_ascii=False)[:120]}"


def requests(run: Path, sources: list[str], passages: list[str]) -> list[Request]:
    """A few hundred, of every kind; more queries than are asked for their vectors at once."""
    texts = questions(run)[:300]
    bodies: list[tuple[str, dict[str, Any]]] = [("/v1/search", {"query": text, "k": 10}) for text in texts]
    for mode in ("words", "dense"):
        bodies += [("/v1/search", {"query": text, "k": 5, "mode": mode}) for text in texts[:40]]
    where = {"source": sources}
    bodies += [("/v1/search", {"query": text, "k": 5, "where": where}) for text in texts[:40]]
    bodies += [("/v1/search", {"query": text, "k": 5, "rerank": True}) for text in texts[:5]]
    for kind in ("float", "base64"):
        bodies += [
            ("/v1/embeddings", {"model": "m", "input": texts[at : at + 8], "encoding_format": kind})
            for at in range(0, 40, 8)
        ]
    bodies += [
        ("/v1/answer", {"question": text, "k": 3, "stream": bool(row % 2)}) for row, text in enumerate(texts[:40])
    ]
    bodies += [("/v1/similarity", {"first": texts[:2], "second": texts[2:5]})]
    bodies += [("/v1/rerank", {"query": texts[0], "documents": texts[1:6], "return_documents": True})]
    bodies += [("/v1/search", {"query": "x", "where": {"no such column": 1}})]  # refusals must not leak either
    found = [Request(path, body) for path, body in bodies]
    found += [Request("/?" + urlencode({"q": text})) for text in texts[:40]]
    found += [Request("/ask?" + urlencode({"q": text, "whole": "1"})) for text in texts[:10]]
    found += [Request("/passage?" + urlencode({"id": one, "q": texts[0]})) for one in passages[:10]]
    said = ("right", "wrong", "neither")
    found += [
        Request("/label", urlencode({"q": texts[row], "id": one, "said": said[row % 3], "by": "soak"}))
        for row, one in enumerate(passages[:10])
    ]
    return found


def same(asked: Request, one: bytes, other: bytes) -> bool:
    """Whether two answers say the same, up to the last bits of a batch and the order of equals."""
    if not isinstance(asked.body, dict):
        return same_page(one.decode(), other.decode())
    if asked.body.get("stream"):
        finals = [found.rpartition(b"event: final\ndata: ")[2] for found in (one, other)]
        return same_json("/v1/answer", *(json.loads(final) for final in finals))
    return same_json(asked.path, json.loads(one), json.loads(other))


def same_page(one: str, other: str) -> bool:
    """The same passages, but for two that may be in another's place; the same answer, and no text of an LLM as HTML."""
    ids = [re.findall(r'href="/passage\?[^"]*?id=([^"&]*)', page) for page in (one, other)]
    said = [html.unescape(re.sub(r"<[^>]*>", "", page.partition('class="said"')[2][:400])) for page in (one, other)]
    return len(ids[0]) == len(ids[1]) and len(set(ids[0]) - set(ids[1])) <= 2 and said[0][:40] == said[1][:40]


def same_json(path: str, one: Any, other: Any) -> bool:
    if set(one) != set(other) or "error" in one:
        return bool(one == other)
    if path == "/v1/embeddings":
        pairs = zip(map(vector, one["data"]), map(vector, other["data"]), strict=True)
        return all(abs(a - b) < 2e-3 for x, y in pairs for a, b in zip(x, y, strict=True))
    if path == "/v1/rerank":
        return [hit["index"] for hit in one["results"]] == [hit["index"] for hit in other["results"]]
    if path == "/v1/answer" and (one["answer"], one["by"]) != (other["answer"], other["by"]):
        return False
    if path == "/v1/similarity":
        return all(
            abs(a - b) < 5e-3 for x, y in zip(one["scores"], other["scores"], strict=True)
            for a, b in zip(x, y, strict=True)
        )  # fmt: skip
    name = "passages" if path == "/v1/answer" else "results"
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


def vector(row: Any) -> list[float]:
    given = row["embedding"]
    if not isinstance(given, str):
        return list(given)
    data = base64.b64decode(given)
    return list(struct.unpack(f"<{len(data) // 4}f", data))
