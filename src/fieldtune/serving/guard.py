"""What every request passes before it is worked on: host, key, rate, room, size and time; and how it ends."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
import traceback
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from pydantic_core import to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fieldtune.config import Serving
from fieldtune.serving.keys import KeyRing
from fieldtune.serving.metrics import Metrics
from fieldtune.serving.problems import ApiError, late, overloaded
from fieldtune.serving.rate import RateLimit
from fieldtune.serving.sessions import Sessions

log = logging.getLogger("fieldtune.serving")

_OPEN = frozenset({"/health", "/ready"})
"""Asked by whoever watches over the process; they need no key and always have room."""
ASK_STREAM = "/ask/answer"
"""Where the page reads an answer as it is written."""
_OWN_TIME = frozenset({"/v1/answer", "/ask", ASK_STREAM})
"""These keep to limits of their own: their search to that of all requests, what the LLM writes to the LLM's."""
SIGN_IN = "/signin"
STATIC = "/static/"
"""The page's own files, which hold nothing of the documents."""
_BODIES = 64
"""Largest bodies that fit into memory at once; more bytes under way are refused."""


class Guard:
    """The outermost layer of the application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Serving,
        keys: KeyRing,
        sessions: Sessions,
        metrics: Metrics,
        routes: frozenset[str],
        pages: frozenset[str],
    ) -> None:
        """`routes` are counted by name; `pages` are the addresses where a signed-in browser's cookie is as good as a
        key: nothing else takes it, so that no other site's page can use it on the API."""
        self._app, self._settings, self._keys, self._metrics, self._routes = app, settings, keys, metrics, routes
        self._sessions, self._pages = sessions, pages
        self._rate = RateLimit(settings.rate_per_minute)
        self._under_way = 0
        self._bytes = 0
        self._hosts = frozenset(host.lower() for host in settings.hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        ending = _Ending(send)
        body = _Body()
        counted = False
        try:
            self._require_host(scope)
            if scope["path"] not in _OPEN and not (self._pages and scope["path"].startswith(STATIC)):
                self._admit(scope)
                self._under_way += 1
                counted = True
                self._metrics.under_way.inc()
            await self._read(body, scope, receive)
            async with asyncio.timeout(None if scope["path"] in _OWN_TIME else self._settings.request_seconds):
                await self._app(scope, _replayed(body.whole(), receive), ending.send)
        except ApiError as error:
            await self._refuse(scope, error, ending)
        except TimeoutError:
            await self._refuse(scope, late(), ending)
        except _GoneError:
            ending.status = ending.status or 499
        except Exception as error:
            # Without its message, which may quote what was asked.
            where = "".join(traceback.format_tb(error.__traceback__)[-4:])
            told = f": {error}" if self._settings.log_queries else ""
            log.error("%s %s failed: %s%s\n%s", scope["method"], scope["path"], type(error).__name__, told, where)
            await self._refuse(scope, ApiError(500, "something went wrong in the server", code="internal"), ending)
        finally:
            self._bytes -= body.size
            if counted:
                self._under_way -= 1
                self._metrics.under_way.dec()
            route = scope["path"] if scope["path"] in self._routes else "other"
            self._metrics.requests.labels(route, str(ending.status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - began)
            log.debug("%s %s %s %.1f ms", scope["method"], route, ending.status, 1000 * (time.perf_counter() - began))

    def _require_host(self, scope: Scope) -> None:
        """Against pages elsewhere that point a name of theirs at this machine (DNS rebinding)."""
        if "*" in self._hosts or self._keys.wanted:
            return
        host = _header(scope, b"host").lower()
        name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
        if name == "localhost" or name in self._hosts or _is_address(name):
            return
        raise ApiError(403, "this host name is not served; see serving.hosts", code="unknown_host")

    def _admit(self, scope: Scope) -> None:
        client = scope["client"][0] if scope.get("client") else ""
        page = scope["path"] in self._pages
        if self._keys.wanted and not (page and scope["path"] == SIGN_IN):
            scheme, _, given = _header(scope, b"authorization").partition(" ")
            key = given.strip() if scheme.lower() == "bearer" else _header(scope, b"x-api-key")
            owner = self._keys.owner(key) if key else None
            if page and not key:
                owner = self._sessions.owner(_header(scope, b"cookie"))
                if owner is None:
                    raise _to_sign_in(scope)
            if owner is None:
                self._metrics.refused.labels("key").inc()
                why = "the API key is not valid" if key else "an API key is wanted: Authorization: Bearer KEY"
                raise ApiError(401, why, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
            client = "key " + owner
            scope.setdefault("state", {})["owner"] = owner
        wait = self._rate.wait(client)
        if wait:
            self._metrics.refused.labels("rate").inc()
            raise ApiError(
                429, f"more than {self._settings.rate_per_minute} requests a minute; wait {wait} s",
                code="rate_limit_exceeded", headers={"Retry-After": str(wait)},
            )  # fmt: skip
        if self._under_way >= self._settings.max_requests:
            self._metrics.refused.labels("room").inc()
            raise overloaded(f"{self._under_way} requests are under way")

    async def _read(self, body: _Body, scope: Scope, receive: Receive) -> None:
        """Read the whole body, or raise ApiError 413, 408 or 503; what is too large is not read.

        What has come of a body counts at once, also while its client takes its time with the rest.
        """
        if scope["method"] in ("GET", "HEAD"):
            return
        most = self._settings.max_body_bytes
        length = _header(scope, b"content-length")
        if length.isdecimal() and int(length) > most:
            raise _too_large(most)
        try:
            async with asyncio.timeout(self._settings.read_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _GoneError
                    part = message.get("body", b"")
                    if body.size + len(part) > most:
                        raise _too_large(most)
                    if self._bytes + len(part) > _BODIES * most:
                        raise overloaded("too much is being sent to it")
                    body.parts.append(part)
                    body.size += len(part)
                    self._bytes += len(part)
                    if not message.get("more_body"):
                        return
        except TimeoutError:
            raise ApiError(
                408, f"the request did not come in within {self._settings.read_seconds:g} s", code="slow",
                headers={"Connection": "close"},
            ) from None  # fmt: skip

    async def _refuse(self, scope: Scope, error: ApiError, ending: _Ending) -> None:
        if ending.status:  # too late to say anything: the answer had begun, and must not end as if it were whole
            raise _BrokenOffError from None
        headers = {"content-type": "application/json", **{name.lower(): text for name, text in error.headers.items()}}
        body = to_json(error.body)
        raw = [(name.encode(), text.encode("latin-1", "replace")) for name, text in headers.items()]
        await ending.send({
            "type": "http.response.start", "status": error.status,
            "headers": [*raw, (b"content-length", str(len(body)).encode())],
        })  # fmt: skip
        await ending.send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _to_sign_in(scope: Scope) -> ApiError:
    """Where a browser finds the form; what its script asked for cannot be sent there, so the whole page is."""
    back = scope["path"] + ("?" + scope["query_string"].decode("latin-1") if scope["query_string"] else "")
    there = f"{SIGN_IN}?next={quote(back if scope['method'] == 'GET' else '/', safe='')}"
    if _header(scope, b"hx-request"):
        return ApiError(401, "sign in first", code="signed_out", headers={"HX-Redirect": SIGN_IN})
    return ApiError(303, "sign in first", code="signed_out", headers={"Location": there})


@dataclass(slots=True)
class _Body:
    """What a client has sent so far."""

    parts: list[bytes] = field(default_factory=list)
    size: int = 0

    def whole(self) -> bytes:
        if len(self.parts) > 1:
            self.parts = [b"".join(self.parts)]
        return self.parts[0] if self.parts else b""


class _GoneError(Exception):
    """The client has gone."""


class _BrokenOffError(Exception):
    """An answer failed after it had begun; the server closes the connection."""


class _Ending:
    """Remembers how the answer began."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            names = {name.lower() for name, _ in headers}
            headers += [(name, text) for name, text in _SAFE if name not in names]
            message = {**message, "headers": headers}
        await self._send(message)


_SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""For every answer that does not say otherwise; a page sets a policy of its own."""


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _too_large(most: int) -> ApiError:
    why = f"the body is larger than {most:,} bytes (serving.max_body_bytes)"
    return ApiError(413, why, code="too_large", headers={"Connection": "close"})


def _header(scope: Scope, name: bytes) -> str:
    return next((text.decode("latin-1") for key, text in scope["headers"] if key == name), "")


def _is_address(name: str) -> bool:
    """A number is no name that someone else could point here."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
