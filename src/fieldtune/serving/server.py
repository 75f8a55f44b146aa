"""uvicorn around the application: slow clients are cut off, and a stop lets what is under way end."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from fieldtune.config import Serving
from fieldtune.errors import FieldtuneError
from fieldtune.serving.app import make_app
from fieldtune.serving.service import Service

log = logging.getLogger("fieldtune.serving")

_KEEP_ALIVE = 30
_BACKLOG = 512


_OWN_FILES = 128
"""Files and connections of the process that are no client's: index, model, LLM."""


def _protocol(seconds: float, most: int) -> type[H11Protocol]:
    """uvicorn's HTTP/1.1 with patience: it has none of its own for a slow head, or for a client that does not read.

    Of more than `most` connections the one that has asked nothing for longest makes room: uvicorn's own limit answers
    everyone with 503 while they are many, those included who only ask whether the server is well.
    """

    class Patient(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._idle_since = self.loop.time()
            if len(self.connections) > most:
                self._make_room()
            self._silent = False
            self._unread = 0
            self._timer: asyncio.TimerHandle | None = self.loop.call_later(seconds / 2, self._check)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            self._idle_since = self.loop.time()
            super().on_response_complete()

        def _make_room(self) -> None:
            others = [one for one in self.connections if isinstance(one, Patient) and one is not self]
            # Who still reads an answer goes last; where all are being worked for, the new one has to.
            idle = [(one.transport.get_write_buffer_size() > 0, one._idle_since, one) for one in others if one._waits()]
            leaving = min(idle, key=lambda found: found[:2])[2] if idle else self
            self.connections.discard(leaving)
            leaving.transport.abort()

        def _waits(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def _check(self) -> None:
            """Twice in `seconds`: what is as it was at the last look has not moved for half of it."""
            self._timer = self.loop.call_later(seconds / 2, self._check)
            unread = self.transport.get_write_buffer_size()
            if unread and unread >= self._unread > 0:
                self.transport.abort()
                return
            self._unread = unread
            # Between requests uvicorn's own timer runs, which the first byte of the next request stops.
            silent = self._waits() and self.timeout_keep_alive_task is None and self.conn.their_state is h11.IDLE
            if silent and self._silent:
                self.transport.abort()
                return
            self._silent = silent

    return Patient


def _connections(settings: Serving) -> int:
    """How many connections are kept: several for each request, as far as the system lets the process open them."""
    wanted = 4 * settings.max_requests
    try:
        import resource
    except ImportError:  # Windows, which sets no such limit
        return wanted
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return wanted if files == resource.RLIM_INFINITY else max(1, min(wanted, max(files // 2, files - _OWN_FILES)))


class Server(uvicorn.Server):
    """A server that says when it listens, and that its service is told to stop before it does."""

    def __init__(self, service: Service, *, ready: Callable[[str], None] | None = None) -> None:
        settings = service.settings
        super().__init__(
            uvicorn.Config(
                make_app(service),
                host=settings.host,
                port=settings.port,
                http=_protocol(settings.read_seconds, _connections(settings)),
                ws="none",
                lifespan="on",
                access_log=False,  # it would write what is asked with GET
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=round(settings.stop_seconds),
                backlog=_BACKLOG,
                h11_max_incomplete_event_size=32_768,
            )
        )
        self._service, self._ready = service, ready

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started and self._ready is not None:
            self._ready(self.address)

    async def shutdown(self, sockets: Any = None) -> None:
        ending = asyncio.get_running_loop().create_task(self._end_long_work())
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()

    async def _end_long_work(self) -> None:
        """A second before uvicorn cuts off without a word, so that whoever waits for it is told."""
        await asyncio.sleep(max(0.0, self._service.settings.stop_seconds - 1))
        await self._service.uses.close()

    @property
    def address(self) -> str:
        """Where it listens, with the port that it got."""
        sockets = [one for server in self.servers for one in server.sockets]
        host, port = sockets[0].getsockname()[:2] if sockets else (self.config.host, self.config.port)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run_until_stopped(self) -> None:
        """Serve until SIGTERM or SIGINT, let what is under way end, and return. Raises FieldtuneError for a port that
        is taken."""
        # uvicorn raises the signal anew when it is done; the process should end as one that did its work.
        kept = {one: signal.signal(one, lambda *_: None) for one in (signal.SIGTERM, signal.SIGINT)}
        gc.collect()
        gc.freeze()  # model and index stay: to look through them for garbage takes longer than a search
        try:
            self.run()
        except SystemExit:
            log.debug("uvicorn gave up")
        finally:
            for one, handler in kept.items():
                signal.signal(one, handler)
        if not self.started:
            where = f"{self.config.host}:{self.config.port}"
            raise FieldtuneError(f"cannot listen on {where}", "another process may; choose another --port, 0 for any")

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._service.stopping = True
        super().handle_exit(sig, frame)
