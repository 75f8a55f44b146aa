"""Signing in with an API key, and out."""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from fieldtune.serving.guard import SIGN_IN
from fieldtune.serving.page.rendering import keep, local_path, render, require_same_origin
from fieldtune.serving.routes import Served
from fieldtune.serving.sessions import COOKIE, SECONDS

router = APIRouter(include_in_schema=False)
_FIELDS = 20


async def posted(request: Request) -> dict[str, str]:
    """The fields of a form that was sent."""
    body = (await request.body()).decode("utf-8", "replace")
    try:
        return {name: values[-1] for name, values in parse_qs(body, max_num_fields=_FIELDS).items()}
    except ValueError:
        return {}


@router.get(SIGN_IN)
async def sign_in_form(request: Request, service: Served) -> Response:
    if not service.keys.wanted:
        return RedirectResponse("/", 303)
    return render(request, "signin", wrong=False, next=request.query_params.get("next", "/"))


@router.post(SIGN_IN)
async def sign_in(request: Request, service: Served) -> Response:
    """A session for whoever gives a valid key."""
    require_same_origin(request)
    fields = await posted(request)
    token = service.sessions.begin(fields.get("key", "").strip())
    if token is None:
        return render(request, "signin", 401, wrong=True, next=fields.get("next", "/"))
    response = RedirectResponse(local_path(fields.get("next", "/"), request.app.state.pages), 303)
    keep(request, response, COOKIE, token, SECONDS)
    return response


@router.post("/signout")
async def sign_out(request: Request, service: Served) -> Response:
    require_same_origin(request)
    service.sessions.end(request.headers.get("cookie", ""))
    response = RedirectResponse("/", 303)
    response.delete_cookie(COOKIE, path="/")
    return response
