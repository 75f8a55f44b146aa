"""Label mode: results marked right or wrong, and what has been marked so far."""

from __future__ import annotations

import asyncio
import logging

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from fieldtune.errors import FieldtuneError, InputError
from fieldtune.serving.labels import Labels
from fieldtune.serving.page.entrance import posted
from fieldtune.serving.page.rendering import NAME, is_part, keep, link, render, require_same_origin
from fieldtune.serving.problems import ApiError
from fieldtune.serving.query_text import clean_query
from fieldtune.serving.routes import Served
from fieldtune.serving.service import Service

log = logging.getLogger(__name__)
router = APIRouter(include_in_schema=False)
_RIGHT = {"right": True, "wrong": False, "neither": None}
_NAME = 80
_YEAR = 31_536_000


@router.post("/label")
async def label(request: Request, service: Served) -> Response:
    """Keep a judgement, on the disk before the answer goes out."""
    labels = _required(service)
    require_same_origin(request)
    fields = await posted(request)
    query = clean_query(fields.get("q", ""), service.settings.max_query)
    said = fields.get("said", "")
    if said not in _RIGHT:
        raise ApiError(400, "said: right, wrong or neither", param="said", code="invalid_request")
    name = " ".join(fields.get("by", "").split())[:_NAME]
    by = getattr(request.state, "owner", "") or name
    try:
        (passage,) = service.volume.index.passages([fields.get("id", "")])
    except InputError:
        raise ApiError(404, "this passage is not in the index any more", param="id", code="gone") from None
    try:
        await asyncio.to_thread(labels.add, query, passage, _RIGHT[said], by)
    except OSError as error:  # a disk that is full or read-only, another process that keeps the lock
        log.error("a label was not kept: %s", type(error).__name__)
        raise ApiError(503, "this was not saved: the folder for labels cannot be written", code="not_saved") from None
    service.metrics.labels.labels(said).inc()
    if is_part(request):
        response = render(request, "verdict", id=passage.id, query=query, labelled={passage.id: _RIGHT[said]},
                          rank=fields.get("rank", "")[:6], saved=True)  # fmt: skip
    else:
        response = RedirectResponse(link("/", {"q": query}), 303)
    if name:
        keep(request, response, NAME, name.encode("ascii", "xmlcharrefreplace").decode("ascii"), _YEAR)
    return response


@router.get("/labels")
async def labels(request: Request, service: Served) -> Response:
    """What has been marked, and how the next run takes it up."""
    kept = _required(service)
    try:
        await asyncio.to_thread(kept.write_out)
    except (OSError, FieldtuneError) as error:
        log.error("the files for the next run were not written: %s", type(error).__name__)
    latest = await asyncio.to_thread(kept.latest)
    queries, right, wrong = kept.counts()
    splits = [path.stem.removeprefix("judgements-") for path in sorted(kept.folder.glob("judgements-*.csv"))]
    return render(request, "labels", latest=latest, queries=queries, right=right, wrong=wrong, splits=splits,
                  run=service.library.run.name)  # fmt: skip


def _required(service: Service) -> Labels:
    if service.labels is None:
        raise ApiError(404, "labels are not asked for here; start the server with --labels", code="no_labels")
    return service.labels
