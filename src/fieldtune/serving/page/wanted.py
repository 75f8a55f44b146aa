"""What a form asks for, and what the pages of a search have in common."""

from __future__ import annotations

import asyncio
import html
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from fastapi import Request

from fieldtune.errors import FieldtuneError
from fieldtune.index import MODES
from fieldtune.serving.page.filters import Field, fields_of, where_from, with_named
from fieldtune.serving.page.rendering import NAME, form_of
from fieldtune.serving.problems import LOST, ApiError, unavailable
from fieldtune.serving.query_text import clean_query
from fieldtune.serving.service import Service
from fieldtune.serving.sessions import cookie
from fieldtune.serving.shapes import Mode
from fieldtune.serving.tested import Tested

log = logging.getLogger(__name__)

FIRST = 10
"""Results on a page, and how many more each time."""


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


async def wanted_by(request: Request, service: Service, usual: Mode, *, compares: bool = False) -> Wanted:
    """What the form in the address asks for; `usual` is the page's mode. Raises ApiError.

    With `compares` the base model is asked too, which has dense vectors alone.
    """
    form = form_of(request)
    index = service.volume.index
    mode = form.get("mode", usual)
    modes = ("auto", *(one for one in index.modes if not compares or one not in MODES))
    if mode not in modes:
        raise ApiError(400, f"mode: {', '.join(modes)}", param="mode", code="invalid_request")
    given = form.get("k", "")
    k = int(given) if given.isascii() and given.isdecimal() and len(given) < 5 else FIRST
    try:  # what can be chosen is read from the index's files when it is first wanted
        usually = await asyncio.to_thread(fields_of, index)
        fields = await asyncio.to_thread(with_named, usually, form, index)
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


async def start_of(service: Service) -> Mapping[str, Any]:
    """What an empty page shows."""
    tested = await asyncio.to_thread(Tested.of, service.library.run / "data")
    return {"examples": tested.examples(service.since)}


async def labelled_by(request: Request, service: Service, query: str) -> Mapping[str, Any]:
    """What was said of this query's results, and who is saying it; nothing where labels are not asked for."""
    if service.labels is None or not query:
        return {"labelled": None, "by": "", "named": False}
    name = html.unescape(cookie(request.headers.get("cookie", ""), NAME))
    owner = str(getattr(request.state, "owner", ""))
    return {"labelled": await asyncio.to_thread(service.labels.of, query), "by": owner or name, "named": bool(owner)}
