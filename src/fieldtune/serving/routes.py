"""What the routers share: the service behind a request, errors in the OpenAPI, answers written fast."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import Depends, Request, Response
from pydantic_core import to_json

from fieldtune.serving.service import Service
from fieldtune.serving.shapes import ErrorAnswer


async def _service_of(request: Request) -> Service:
    return cast(Service, request.app.state.service)


Served = Annotated[Service, Depends(_service_of)]

_MEANS = {
    400: "The request is wrong; `error.param` names the field.",
    401: "An API key is wanted, or this one is not valid.",
    403: "The request came under a host name that is not served.",
    404: "There is no such model or address.",
    408: "The request did not come in in time.",
    413: "The body is too large.",
    422: "The body is of a type that is not read.",
    429: "Too many requests of this key; `Retry-After` says how long to wait.",
    500: "A fault of the server.",
    501: "The server was not started with what this needs.",
    502: "The LLM failed.",
    503: "Busy, or the index is not there; `Retry-After` says how long to wait.",
    504: "It took too long.",
}


def problems(*more: int) -> dict[int | str, dict[str, Any]]:
    """The refusals that any request can meet, and these, for the OpenAPI."""
    always = (400, 401, 403, 408, 413, 422, 429, 500, 503, 504)
    return {status: {"model": ErrorAnswer, "description": _MEANS[status]} for status in sorted({*always, *more})}


def as_json(value: Any) -> Response:
    """The value as it is: what we made ourselves is not checked again on the way out."""
    return Response(to_json(value), media_type="application/json")
