"""The application: routers in, one guard around them, every refusal in one shape."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from fieldtune import __version__
from fieldtune.serving import answer, embeddings, rerank, search, state, uses
from fieldtune.serving.examples import examples_of, show_examples
from fieldtune.serving.guard import Guard
from fieldtune.serving.page import addresses, problem_page, routers_of
from fieldtune.serving.problems import ApiError, explain
from fieldtune.serving.service import Service
from fieldtune.serving.upkeep import warm, watch_index

_ABOUT = """Search, answers with citations and embeddings over a collection of documents, by a model tuned on it.

`/v1/embeddings` and `/v1/models` speak OpenAI's protocol, `/v1/rerank` Cohere's and Jina's. All errors have OpenAI's
shape: `{"error": {"message", "type", "param", "code"}}`. Where the server has API keys, send
`Authorization: Bearer KEY`."""


def make_app(service: Service) -> FastAPI:
    """The ASGI application of a service; it closes the service when it shuts down."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await warm(service)
        watching = asyncio.get_running_loop().create_task(watch_index(service))
        try:
            yield
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            await service.close()

    # Their pages load scripts from elsewhere; /openapi.json is for the reader's own tools.
    app = FastAPI(
        title="fieldtune",
        version=__version__,
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    for part in (search, answer, embeddings, rerank, uses, state):
        # Not include_router: what it includes it looks over anew with each request, a sixth of the time of a search.
        app.router.routes.extend(part.router.routes)
    pages: frozenset[str] = frozenset()
    if service.settings.page:
        routers = routers_of(service)
        for router in routers:
            app.router.routes.extend(router.routes)
        pages = addresses(routers)
    app.state.pages = pages
    app.add_exception_handler(ApiError, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _not_there)
    schema = app.openapi()
    _tidy(schema)
    show_examples(schema, examples_of(service))
    routes = pages | {path for path in schema["paths"] if "{" not in path}
    app.add_middleware(
        Guard, settings=service.settings, keys=service.keys, sessions=service.sessions, metrics=service.metrics,
        routes=routes, pages=pages,
    )  # fmt: skip
    return app


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    return _said(request, error)


async def _malformed(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        return _said(request, _unknown(error))
    if request.method == "POST" and not _says_json(request) and request.url.path not in request.app.state.pages:
        why = "the body is read as JSON where its type says so: send the header Content-Type: application/json"
        return _json(ApiError(400, why, code="not_json"))
    return _said(request, explain(list(error.errors())))


def _says_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


async def _not_there(request: Request, error: Exception) -> Response:
    return _said(request, _unknown(error))


def _said(request: Request, error: ApiError) -> Response:
    """To people as a page, to programs as JSON."""
    return problem_page(request, error) if request.url.path in request.app.state.pages else _json(error)


def _unknown(error: Exception) -> ApiError:
    status = error.status_code if isinstance(error, HTTPException) else 500
    says = {404: "there is nothing at this address; see /openapi.json", 405: "this address takes another method"}
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    said = error.detail if isinstance(error, HTTPException) else ""
    if status == 400:  # FastAPI's words for bytes that are no UTF-8, or lists in lists without end
        return ApiError(status, "body: not valid JSON in UTF-8", code="invalid_request", headers=headers)
    return ApiError(status, says.get(status, str(said) or "the request cannot be read"), headers=headers)


def _json(error: ApiError) -> Response:
    return Response(to_json(error.body), error.status, headers=error.headers, media_type="application/json")


def _tidy(schema: dict[str, Any]) -> None:
    """FastAPI's own form of validation errors is never sent: those are errors like all others, with status 400."""
    parts = schema.get("components", {}).get("schemas", {})
    parts.pop("HTTPValidationError", None)
    parts.pop("ValidationError", None)
    parts_security = schema.setdefault("components", {}).setdefault("securitySchemes", {})
    parts_security["key"] = {"type": "http", "scheme": "bearer", "description": "Where the server has API keys."}
    schema["security"] = [{}, {"key": []}]
