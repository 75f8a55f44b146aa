"""POST /v1/answer, whole or as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from pydantic_core import to_json

from fieldtune.serving.answering import Asked, events, retrieve, whole_answer
from fieldtune.serving.routes import Served, as_json, problems
from fieldtune.serving.service import Service
from fieldtune.serving.shapes import AnswerAnswer, AnswerBody

router = APIRouter(tags=["answers"])
_EVENTS = {
    "description": "The answer, or with `stream: true` server-sent events `passages`, `delta`…, `final` or `error`.",
    "content": {
        "text/event-stream": {
            "schema": {
                "type": "object",
                "properties": {
                    "event": {"type": "string", "enum": ["passages", "delta", "final", "error"]},
                    "data": {"type": "string", "description": "JSON on one line."},
                },
                "required": ["event", "data"],
            }
        }
    },
}
_RESPONSES: dict[int | str, dict[str, Any]] = {200: _EVENTS, **problems(501, 502)}


@router.post("/v1/answer", response_model=AnswerAnswer, responses=_RESPONSES)
async def answer(body: AnswerBody, service: Served) -> Response:
    """Answer a question from the documents, each claim with [n] for the n-th passage, and each of them checked.

    Without an LLM in the server's settings, and where the documents hold no answer, the best passages are the answer.
    """
    asked = await retrieve(service, body)
    if not body.stream:
        return as_json(await whole_answer(service, asked))
    return StreamingResponse(_sent(service, asked), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _sent(service: Service, asked: Asked) -> AsyncIterator[bytes]:
    # JSON on one line: a line break of the text is escaped in it, and cannot end an event.
    stream = events(service, asked)
    try:
        async for name, data in stream:
            yield b"event: " + name.encode() + b"\ndata: " + to_json(data) + b"\n\n"
    finally:
        await stream.aclose()  # type: ignore[attr-defined]
