"""GET /health, /ready and /metrics, for whoever watches over the process."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic_core import to_json

from fieldtune.serving.routes import Served, as_json, problems
from fieldtune.serving.shapes import Health

router = APIRouter(tags=["state"])


@router.head("/health", include_in_schema=False)
@router.get("/health", response_model=Health)
async def health() -> Response:
    """Whether the process answers."""
    return as_json(Health(status="ok"))


@router.head("/ready", include_in_schema=False)
@router.get("/ready", response_model=Health, responses={503: {"model": Health, "description": "Not ready."}})
async def ready(service: Served) -> Response:
    """Whether requests should be sent here: the index can be searched, and the server is not stopping."""
    fault = "the server is stopping" if service.stopping else service.library.fault and "the index cannot be used"
    if fault:
        return Response(to_json(Health(status="not ready", reason=fault)), 503, media_type="application/json")
    return as_json(Health(status="ready", passages=len(service.volume.index)))


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **problems()})
async def metrics(service: Served) -> Response:
    """Counts and times in Prometheus' text format; with API keys set it wants one."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
