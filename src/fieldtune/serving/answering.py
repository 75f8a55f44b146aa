"""A question answered from passages: by an LLM whose every sentence is checked, or by the passages themselves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from fieldtune.errors import EndpointError
from fieldtune.serving.found import all_found
from fieldtune.serving.grounding import check_answer
from fieldtune.serving.problems import ApiError, error_body, late, overloaded
from fieldtune.serving.prompting import NOT_FOUND, answer_messages, says
from fieldtune.serving.query_text import clean_query
from fieldtune.serving.search import find, is_found, where_of
from fieldtune.serving.service import Service
from fieldtune.serving.shapes import AnswerAnswer, AnswerBody, Found, Sentence
from fieldtune.types import Hit

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with the passages that an answer may be made from."""

    question: str
    hits: list[Hit]
    found: bool | None
    passages: list[Found]


async def retrieve(service: Service, body: AnswerBody) -> Asked:
    """The best passages for a question, within the time that any request has. Raises ApiError."""
    question = clean_query(body.question, service.settings.max_query, "question")
    k = body.k or service.settings.answer_passages
    try:
        async with asyncio.timeout(service.settings.request_seconds):
            hits = await find(service, question, k, body.mode, where_of(body.where), rerank=body.rerank)
    except TimeoutError:
        raise late() from None
    found = is_found(service, hits) if hits else False
    return Asked(question, hits, found, all_found(hits, question))


def without_llm(service: Service, asked: Asked) -> AnswerAnswer | None:
    """The answer where no LLM is to be asked: there is none, or nothing for it to read. None where it is."""
    if asked.found is False:
        service.metrics.answers.labels("not found").inc()
        return _from_passages(asked, says("not found", asked.question), says("scores", asked.question))
    if service.llm is None:
        service.metrics.answers.labels("passages").inc()
        return _from_passages(asked, "", says("no llm", asked.question))
    return None


async def pieces(service: Service, asked: Asked) -> AsyncIterator[str]:
    """The LLM's text as it comes. Raises EndpointError when it fails."""
    if service.llm is None:
        return
    messages = answer_messages(asked.question, [hit.passage for hit in asked.hits])
    stream = service.llm.pieces(messages)
    try:
        async for piece in stream:
            yield piece
    finally:
        await stream.aclose()  # type: ignore[attr-defined]


def checked(service: Service, asked: Asked, text: str) -> AnswerAnswer:
    """What the LLM wrote with each sentence checked against the passages that it cites."""
    if _bare(text).startswith(NOT_FOUND):
        service.metrics.answers.labels("not found").inc()
        answer = _from_passages(asked, says("not found", asked.question), says("model", asked.question))
        return answer.model_copy(update={"found": False, "by": "llm"})
    sentences = [
        Sentence(start=one.start, end=one.end, citations=list(one.citations), supported=not one.reason,
                 reason=one.reason)
        for one in check_answer(text, [hit.passage for hit in asked.hits], asked.question)
    ]  # fmt: skip
    supported = bool(sentences) and all(one.supported for one in sentences)
    service.metrics.answers.labels("supported" if supported else "unsupported").inc()
    return AnswerAnswer(
        answer=text, found=asked.found, by="llm", note="" if supported else says("unsupported", asked.question),
        sentences=sentences, passages=asked.passages, supported=supported,
    )  # fmt: skip


async def whole_answer(service: Service, asked: Asked) -> AnswerAnswer:
    """The answer in one piece. Raises ApiError 502 where the LLM fails."""
    ready = without_llm(service, asked)
    if ready is not None:
        return ready
    with _place(service):
        try:
            return checked(service, asked, "".join([piece async for piece in pieces(service, asked)]).strip())
        except EndpointError as error:
            service.metrics.answers.labels("failed").inc()
            log.warning("an answer failed: %s", error.message)
            raise ApiError(502, error.message, code="llm_failed") from None


async def events(service: Service, asked: Asked) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """(event, data): `passages`, `delta` for each piece, and `final` or `error` at the end, whatever happens.

    The word by which the LLM says that there is no answer is for us: what may become it is held back.
    """
    yield "passages", {"passages": [one.model_dump() for one in asked.passages], "found": asked.found}
    ready = without_llm(service, asked)
    if ready is not None:
        yield "final", ready.model_dump()
        return
    text = held = ""
    try:
        with _place(service):
            async for piece in pieces(service, asked):
                # White space before the first word would shift the places that `final` names.
                piece = piece if text else piece.lstrip()
                text, held = text + piece, held + piece
                if held and not _may_be_none(text):
                    yield "delta", {"text": held}
                    held = ""
        if held and not _bare(text).startswith(NOT_FOUND):
            yield "delta", {"text": held}
        yield "final", checked(service, asked, text.rstrip()).model_dump()
    except ApiError as error:
        yield "error", error.body
    except EndpointError as error:
        service.metrics.answers.labels("failed").inc()
        log.warning("an answer failed: %s", error.message)
        yield "error", error_body(502, error.message, code="llm_failed") | {"partial": text != held}
    except asyncio.CancelledError:
        raise
    except Exception as error:  # the headers are sent: this is the only way left to say it
        log.error("an answer failed: %s", type(error).__name__)
        yield "error", error_body(500, "something went wrong in the server", code="internal")


def _bare(text: str) -> str:
    """The text as it is compared with NOT_FOUND, which models write in many ways."""
    return text.strip("*`\"'. ").replace(" ", "_")


def _may_be_none(text: str) -> bool:
    bare = _bare(text)
    return bare.startswith(NOT_FOUND) or NOT_FOUND.startswith(bare)


@contextlib.contextmanager
def _place(service: Service) -> Iterator[None]:
    if service.answering >= service.settings.answers_at_once:
        raise overloaded(f"the LLM works on {service.answering} answers", 5)
    service.answering += 1
    try:
        yield
    finally:
        service.answering -= 1


def _from_passages(asked: Asked, text: str, note: str) -> AnswerAnswer:
    return AnswerAnswer(
        answer=text, found=asked.found, by="passages", note=note, sentences=[], passages=asked.passages,
        supported=True,
    )  # fmt: skip
