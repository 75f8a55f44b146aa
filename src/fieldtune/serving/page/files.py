"""The page's own files, by name from a list: no path of a request is looked up on the disk."""

from __future__ import annotations

from importlib import resources

from fastapi import APIRouter, Request, Response

from fieldtune import __version__
from fieldtune.serving.page.rendering import secure
from fieldtune.serving.problems import ApiError

router = APIRouter(include_in_schema=False)
TYPES = {
    "htmx.min.js": "text/javascript; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_HELD: dict[str, bytes] = {}


@router.get("/static/{name}")
async def static(name: str, request: Request) -> Response:
    """One of the page's files."""
    if name not in TYPES:
        raise ApiError(404, "there is no such file")
    mark = f'"{__version__}-{name}-{len(_content(name))}"'
    known = request.headers.get("if-none-match") == mark
    response = Response(b"" if known else _content(name), 304 if known else 200, media_type=TYPES[name])
    secure(response, "default-src 'none'")
    response.headers.update({"ETag": mark, "Cache-Control": "no-cache"})
    return response


def _content(name: str) -> bytes:
    if name not in _HELD:
        _HELD[name] = resources.files("fieldtune.serving.page").joinpath("static", name).read_bytes()
    return _HELD[name]
