"""The page's addresses: search, passage in its context, answer, base against tuned, report."""

from __future__ import annotations

import asyncio
import html
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from fastapi.routing import APIRoute

from fieldtune.errors import FieldtuneError, InputError
from fieldtune.index import MODES
from fieldtune.serving.answering import retrieve, whole_answer
from fieldtune.serving.page import entrance, files, labelling
from fieldtune.serving.page.comparing import DEPTH, compare
from fieldtune.serving.page.filters import Field, fields_of, where_from
from fieldtune.serving.page.passages import in_context
from fieldtune.serving.page.rendering import NAME, form_of, render, secure, words_for
from fieldtune.serving.page.shown import answer_html, cited, shown
from fieldtune.serving.problems import LOST, ApiError, unavailable
from fieldtune.serving.query_text import clean_query
from fieldtune.serving.routes import Served
from fieldtune.serving.search import find, is_found
from fieldtune.serving.service import Service
from fieldtune.serving.sessions import cookie
from fieldtune.serving.shapes import AnswerAnswer, AnswerBody, Mode
from fieldtune.serving.tested import Tested, figures_of

log = logging.getLogger(__name__)

_FIRST = 10
_AROUND = 50
"""Passages of the document shown before and after one, at most."""
_REPORT = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'; sandbox"
)
"""The report brings its style along, and needs nothing else: no script, no form, no request, no origin of ours."""

main = APIRouter(include_in_schema=False)


def routers_of(service: Service) -> list[APIRouter]:
    """The page's routes; those of label mode where it is on."""
    return [main, files.router, entrance.router, *([labelling.router] if service.labels is not None else [])]


def addresses(routers: Sequence[APIRouter]) -> frozenset[str]:
    """The pages' own addresses."""
    paths = {route.path for router in routers for route in router.routes if isinstance(route, APIRoute)}
    return frozenset(path for path in paths if "{" not in path)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a form asks for."""

    query: str
    """Cleaned; empty where there is nothing to search for."""
    mode: Mode
    modes: tuple[str, ...]
    """What may be chosen."""
    usual: Mode
    """What is meant where the form says no mode."""
    k: int
    rerank: bool
    where: dict[str, Any]
    fields: Sequence[Field]


@main.get("/")
async def search(request: Request, service: Served) -> Response:
    """Results for what has been typed so far."""
    wanted = await _wanted(request, service, "auto")
    if not wanted.query:
        return render(request, "search", wanted=wanted, results=None, **await _start(service))
    began = time.perf_counter()
    hits = await find(service, wanted.query, wanted.k, wanted.mode, wanted.where, rerank=wanted.rerank)
    took = 1000 * (time.perf_counter() - began)
    results = await asyncio.to_thread(shown, hits, wanted.query)
    more = min(service.settings.max_results, wanted.k + _FIRST)
    return render(
        request, "search", wanted=wanted, results=results, took=took, weak=is_found(service, hits) is False,
        more=more if len(hits) == wanted.k < more else None, **await _labelled(request, service, wanted.query),
    )  # fmt: skip


@main.get("/ask")
async def ask(request: Request, service: Served) -> Response:
    """An answer with citations, or the passages that come closest."""
    wanted = await _wanted(request, service, "auto")
    if not wanted.query:
        return render(request, "ask", wanted=wanted, answer=None, **await _start(service))
    body = AnswerBody(question=wanted.query, mode=wanted.mode, rerank=wanted.rerank, where=cast(Any, wanted.where))
    asked = await retrieve(service, body)
    try:
        answer = await whole_answer(service, asked)
    except ApiError as error:  # the LLM is busy or fails: what it would have read is there all the same
        answer = AnswerAnswer(answer="", found=asked.found, by="passages", note=error.message, sentences=[],
                              passages=asked.passages, supported=True)  # fmt: skip
    passages = await asyncio.to_thread(cited, asked.hits, wanted.query)
    said = answer_html(answer, words_for(request).unsupported)
    return render(request, "ask", wanted=wanted, answer=answer, answer_html=said, results=passages,
                  **await _labelled(request, service, wanted.query))  # fmt: skip


@main.get("/compare")
async def compared(request: Request, service: Served) -> Response:
    """Base against tuned."""
    wanted = await _wanted(request, service, "dense", compares=True)
    figures = await asyncio.to_thread(figures_of, service.library.run)
    if not wanted.query:
        return render(request, "compare", wanted=wanted, compared=None, figures=figures, **await _start(service))
    deep = min(DEPTH, service.settings.max_results)
    tuned, base = await asyncio.gather(
        find(service, wanted.query, deep, wanted.mode, wanted.where, rerank=False),
        service.search_base(wanted.query, deep, wanted.mode, wanted.where),
    )
    known = (await asyncio.to_thread(Tested.of, service.library.run / "data")).known(wanted.query)
    right = known.right if known else frozenset()
    both = await asyncio.to_thread(compare, base, tuned, wanted.query, right)
    return render(request, "compare", wanted=wanted, compared=both, figures=figures, deep=deep)


@main.get("/passage")
async def passage(request: Request, service: Served) -> Response:
    """A passage with what stands around it in its document."""
    form = request.query_params
    query = clean_query(form["q"], service.settings.max_query) if form.get("q", "").strip() else ""
    try:
        around = int(form.get("n", "2"))
    except ValueError:
        around = 2
    around = max(0, min(_AROUND, around))
    index = service.volume.index
    try:
        (found,) = index.passages([form.get("id", "")])
        near = await asyncio.to_thread(index.around, found.id, around)
    except InputError:
        raise ApiError(404, "this passage is not in the index any more", param="id", code="gone") from None
    pieces = await asyncio.to_thread(in_context, near, found.id, query)
    before = next(place for place, one in enumerate(near) if one.id == found.id)
    more = around < _AROUND
    return render(request, "passage", passage=found, pieces=pieces, query=query, around=around, most=_AROUND,
                  earlier=more and before == around, later=more and len(near) - before - 1 == around,
                  **await _labelled(request, service, query))  # fmt: skip


@main.get("/report")
async def report(service: Served) -> Response:
    """The run's report, shut in: it can neither run nor fetch anything."""
    path = service.library.run / "report.html"
    if not path.is_file():
        raise ApiError(404, "this run has no report; make one with: fieldtune run CONFIG --from evaluation")
    response = FileResponse(path, media_type="text/html; charset=utf-8")
    secure(response, _REPORT)
    return response


async def _wanted(request: Request, service: Service, usual: Mode, *, compares: bool = False) -> Wanted:
    form = form_of(request)
    index = service.volume.index
    mode = form.get("mode", usual)
    # The base model, which /compare sets beside it, has dense vectors alone.
    modes = ("auto", *(one for one in index.modes if not compares or one not in MODES))
    if mode not in modes:
        raise ApiError(400, f"mode: {', '.join(modes)}", param="mode", code="invalid_request")
    given = form.get("k", "")
    k = int(given) if given.isascii() and given.isdecimal() and len(given) < 5 else _FIRST
    try:  # what can be chosen is read from the index's files when it is first wanted
        fields = await asyncio.to_thread(fields_of, index)
        where = await asyncio.to_thread(where_from, form, fields, index)
    except (OSError, FieldtuneError) as error:
        log.error("the index's columns cannot be read: %s", type(error).__name__)
        raise unavailable(LOST) from None
    query = ""
    if any(mark.isalnum() or mark == "§" for mark in form.get("q", "")):  # what is typed first may be a quotation mark
        query = clean_query(form["q"], service.settings.max_query)
    k = max(1, min(k, service.settings.max_results))
    rerank = "rerank" in form and service.reranker is not None
    return Wanted(query, cast(Mode, mode), modes, usual, k, rerank, where, fields)


async def _start(service: Service) -> Mapping[str, Any]:
    """What an empty page shows."""
    tested = await asyncio.to_thread(Tested.of, service.library.run / "data")
    return {"examples": tested.examples(service.since)}


async def _labelled(request: Request, service: Service, query: str) -> Mapping[str, Any]:
    """What was said of this query's results, and who is saying it; nothing where labels are not asked for."""
    if service.labels is None or not query:
        return {"labelled": None, "by": "", "named": False}
    name = html.unescape(cookie(request.headers.get("cookie", ""), NAME))
    owner = str(getattr(request.state, "owner", ""))
    return {"labelled": await asyncio.to_thread(service.labels.of, query), "by": owner or name, "named": bool(owner)}
