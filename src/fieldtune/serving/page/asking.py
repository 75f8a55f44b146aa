"""Questions on the page: an LLM's answer as it is written, or whole for those who read without scripts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic_core import to_json

from fieldtune.serving.answering import Asked, events, retrieve, whole_answer
from fieldtune.serving.guard import ASK_STREAM
from fieldtune.serving.page.rendering import form_of, link, part_of, render, secure, words_for
from fieldtune.serving.page.shown import answer_html, cited
from fieldtune.serving.page.wanted import Wanted, labelled_by, start_of, wanted_by
from fieldtune.serving.problems import ApiError
from fieldtune.serving.routes import Served
from fieldtune.serving.service import Service
from fieldtune.serving.shapes import AnswerAnswer, AnswerBody

router = APIRouter(include_in_schema=False)


@router.get("/ask")
async def ask(request: Request, service: Served) -> Response:
    """An answer with citations, or the passages that come closest.

    Where an LLM is to write it the page comes at once and fetches it from `answer`; without scripts it goes on to
    itself with `whole`, which waits for the end.
    """
    wanted = await wanted_by(request, service, "auto")
    if not wanted.query:
        return render(request, "ask", wanted=wanted, answer=None, stream="", **await start_of(service))
    if service.llm is not None and "whole" not in request.query_params:
        form = form_of(request)
        return render(request, "ask", wanted=wanted, answer=None, stream=link(ASK_STREAM, form),
                      whole=link("/ask", form, whole="1"))  # fmt: skip
    asked = await retrieve(service, _body(wanted))
    try:
        answer = await whole_answer(service, asked)
    except ApiError as error:  # the LLM is busy or fails: what it would have read is there all the same
        answer = _without(asked, error.message)
    return render(request, "ask", wanted=wanted, stream="", **_said(request, answer),
                  **await _read(request, service, wanted, asked))  # fmt: skip


@router.get(ASK_STREAM)
async def answer(request: Request, service: Served) -> Response:
    """Server-sent events: `passages` and at the end `final` with HTML, between them `delta` with the LLM's text."""
    wanted = await wanted_by(request, service, "auto")
    if not wanted.query:
        raise ApiError(400, "q: holds nothing to ask", param="q", code="empty")
    asked = await retrieve(service, _body(wanted))
    response = StreamingResponse(_sent(request, service, wanted, asked), media_type="text/event-stream",
                                 headers={"X-Accel-Buffering": "no"})  # fmt: skip
    secure(response)
    return response


async def _sent(request: Request, service: Service, wanted: Wanted, asked: Asked) -> AsyncIterator[bytes]:
    stream = events(service, asked)
    try:
        async for name, data in stream:
            if name == "passages":
                read = await _read(request, service, wanted, asked)
                yield _event("passages", {"html": part_of(request, "read", wanted=wanted, **read)})
            elif name == "delta":
                yield _event("delta", data)
            else:
                failed = name == "error"
                answer = _without(asked, data["error"]["message"]) if failed else AnswerAnswer.model_validate(data)
                yield _event("final", {"html": part_of(request, "answer", **_said(request, answer))})
    finally:
        await stream.aclose()  # type: ignore[attr-defined]


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + to_json(data) + b"\n\n"


def _body(wanted: Wanted) -> AnswerBody:
    return AnswerBody(
        question=wanted.query, mode=wanted.mode, rerank=wanted.rerank, where=cast(Any, wanted.where)
    )  # fmt: skip


def _without(asked: Asked, why: str) -> AnswerAnswer:
    return AnswerAnswer(answer="", found=asked.found, by="passages", note=why, sentences=[], passages=asked.passages,
                        supported=True)  # fmt: skip


def _said(request: Request, answer: AnswerAnswer) -> dict[str, Any]:
    return {"answer": answer, "answer_html": answer_html(answer, words_for(request).unsupported)}


async def _read(request: Request, service: Service, wanted: Wanted, asked: Asked) -> dict[str, Any]:
    """The passages as the page shows them."""
    passages = await asyncio.to_thread(cited, asked.hits, wanted.query)
    return {"results": passages, **await labelled_by(request, service, wanted.query)}
