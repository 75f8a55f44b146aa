"""Templates into answers: escaped, in the reader's language, under a policy that lets nothing foreign run or load."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from fastapi import Request, Response

from fieldtune.serving.guard import SIGN_IN
from fieldtune.serving.page.words import CATALOGUE, Language, Words, language_of
from fieldtune.serving.problems import ApiError
from fieldtune.serving.service import Service
from fieldtune.serving.sessions import cookie

if TYPE_CHECKING:
    from jinja2 import Environment

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
LANGUAGE = "fieldtune_lang"
NAME = "fieldtune_name"
_YEAR = 31_536_000
_NOT_FORM = ("lang", "whole")
"""What an address says besides what is looked for."""


def render(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A page, or the part of one that htmx asked for."""
    language = language_for(request)
    html = _filled(
        request, "part.html.j2" if is_part(request) else "page.html.j2", body=f"_{template}.html.j2", view=template,
        **values,
    )  # fmt: skip
    response = Response(html, status, media_type="text/html; charset=utf-8")
    secure(response)
    response.headers["Vary"] = "HX-Request, Accept-Language, Cookie"
    if request.query_params.get("lang") in CATALOGUE:
        keep(request, response, LANGUAGE, language, _YEAR)
    return response


def part_of(request: Request, template: str, **values: Any) -> str:
    """One piece of a page, to be put into one that is shown already."""
    return _filled(request, f"{template}.html.j2", **values)


def _filled(request: Request, template: str, **values: Any) -> str:
    service: Service = request.app.state.service
    language = language_for(request)
    return (
        _environment()
        .get_template(template)
        .render(
            t=CATALOGUE[language],
            language=language,
            other_language=_with(request, lang="en" if language == "zh" else "zh"),
            service=service,
            passages=len(service.volume.index),
            signed_in=service.keys.wanted and bool(service.sessions.owner(request.headers.get("cookie", ""))),
            path=request.url.path,
            form=defaultdict(str, form_of(request)),
            part=is_part(request),
            has_report=(service.library.run / "report.html").is_file(),
            **values,
        )
    )


def secure(response: Response, policy: str = POLICY) -> None:
    response.headers["Content-Security-Policy"] = policy
    # Without a referrer forms are sent with "Origin: null", and could not be told from another site's.
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"


def keep(request: Request, response: Response, name: str, value: str, seconds: int) -> None:
    """A cookie that no script reads and no other site's request carries."""
    https = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
    response.set_cookie(name, value, max_age=seconds, httponly=True, samesite="strict", secure=https, path="/")


def problem_page(request: Request, error: ApiError) -> Response:
    """A refusal as people read it."""
    response = render(request, "problem", error.status, message=error.message)
    response.headers.update(error.headers)
    return response


def is_part(request: Request) -> bool:
    """Whether htmx asks for the results alone; for a page of its history it wants the whole."""
    return "hx-request" in request.headers and "hx-history-restore-request" not in request.headers


def language_for(request: Request) -> Language:
    kept = cookie(request.headers.get("cookie", ""), LANGUAGE)
    return language_of(request.query_params.get("lang", ""), kept, request.headers.get("accept-language", ""))


def words_for(request: Request) -> Words:
    return CATALOGUE[language_for(request)]


def form_of(request: Request) -> Mapping[str, str]:
    """What the address asks for, what is empty left out."""
    return {name: value for name, value in request.query_params.items() if value.strip() and name not in _NOT_FORM}


def require_same_origin(request: Request) -> None:
    """Raises ApiError 403 for a request that changes something and was not made by a page of this server."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin", "")
    same = site == "same-origin" if site else urlsplit(origin).netloc == request.headers.get("host") and bool(origin)
    if not same:
        raise ApiError(403, "this came from another site's page, and was not done", code="cross_site")


def local_path(given: str, pages: frozenset[str]) -> str:
    """An address of a page of ours to go on to; / for anything else."""
    parts = urlsplit(given)
    ours = not parts.scheme and not parts.netloc and parts.path in pages and parts.path != SIGN_IN
    return f"{parts.path}?{parts.query}" if ours and parts.query else parts.path if ours else "/"


def _with(request: Request, **more: str) -> str:
    """This address with other parameters."""
    return "?" + urlencode({**form_of(request), **more})


def link(path: str, form: Mapping[str, str], **more: Any) -> str:
    """An address with the form's fields and these; None leaves one out."""
    fields = {name: value for name, value in {**form, **more}.items() if value not in (None, "")}
    return f"{path}?{urlencode(fields)}" if fields else path


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fieldtune.serving.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["link"] = link
    environment.filters["count"] = lambda number: f"{number:,}"
    return environment
