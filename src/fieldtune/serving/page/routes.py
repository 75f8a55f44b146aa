"""The page's addresses: search, passage in its context, answer, base against tuned, report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from fastapi.routing import APIRoute

from fieldtune.errors import InputError
from fieldtune.serving.page import asking, entrance, files, labelling
from fieldtune.serving.page.comparing import DEPTH, compare
from fieldtune.serving.page.passages import in_context
from fieldtune.serving.page.rendering import render, secure
from fieldtune.serving.page.shown import shown
from fieldtune.serving.page.wanted import FIRST, labelled_by, start_of, wanted_by
from fieldtune.serving.problems import ApiError
from fieldtune.serving.query_text import clean_query
from fieldtune.serving.routes import Served
from fieldtune.serving.search import find, is_found
from fieldtune.serving.service import Service
from fieldtune.serving.tested import Tested, figures_of

_AROUND = 50
"""Passages of the document shown before and after one, at most."""
_REPORT = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'; sandbox"
)
"""The report brings its style along, and needs nothing else: no script, no form, no request, no origin of ours."""

main = APIRouter(include_in_schema=False)


def routers_of(service: Service) -> list[APIRouter]:
    """The page's routes; those of label mode where it is on."""
    return [
        main,
        asking.router,
        files.router,
        entrance.router,
        *([labelling.router] if service.labels is not None else []),
    ]


def addresses(routers: Sequence[APIRouter]) -> frozenset[str]:
    """The pages' own addresses."""
    paths = {route.path for router in routers for route in router.routes if isinstance(route, APIRoute)}
    return frozenset(path for path in paths if "{" not in path)


@main.get("/")
async def search(request: Request, service: Served) -> Response:
    """Results for what has been typed so far."""
    wanted = await wanted_by(request, service, "auto")
    if not wanted.query:
        return render(request, "search", wanted=wanted, results=None, **await start_of(service))
    began = time.perf_counter()
    hits = await find(service, wanted.query, wanted.k, wanted.mode, wanted.where, rerank=wanted.rerank)
    took = 1000 * (time.perf_counter() - began)
    results = await asyncio.to_thread(shown, hits, wanted.query)
    more = min(service.settings.max_results, wanted.k + FIRST)
    return render(
        request, "search", wanted=wanted, results=results, took=took, weak=is_found(service, hits) is False,
        more=more if len(hits) == wanted.k < more else None, **await labelled_by(request, service, wanted.query),
    )  # fmt: skip


@main.get("/compare")
async def compared(request: Request, service: Served) -> Response:
    """Base against tuned."""
    wanted = await wanted_by(request, service, "dense", compares=True)
    figures = await asyncio.to_thread(figures_of, service.library.run)
    if not wanted.query:
        return render(request, "compare", wanted=wanted, compared=None, figures=figures, **await start_of(service))
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
                  **await labelled_by(request, service, query))  # fmt: skip


@main.get("/report")
async def report(service: Served) -> Response:
    """The run's report, shut in: it can neither run nor fetch anything."""
    path = service.library.run / "report.html"
    if not path.is_file():
        raise ApiError(404, "this run has no report; make one with: fieldtune run CONFIG --from evaluation")
    response = FileResponse(path, media_type="text/html; charset=utf-8")
    secure(response, _REPORT)
    return response
