"""Who is signed in to the page: a random cookie for each, known here only by its hash, gone with the process."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie

from fieldtune.serving.keys import KeyRing, hash_of

COOKIE = "fieldtune_session"
SECONDS = 12 * 3600
_MOST = 10_000


class Sessions:
    """Sessions of people who gave an API key; withdrawing the key ends them. For one thread."""

    def __init__(self, keys: KeyRing, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys, self._clock = keys, clock
        self._open: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def begin(self, key: str) -> str | None:
        """The cookie of a new session; None for a key that is not valid."""
        if self._keys.owner(key) is None:
            return None
        token = secrets.token_urlsafe(32)
        self._open[hash_of(token)] = hash_of(key), self._clock() + SECONDS
        while len(self._open) > _MOST:
            self._open.popitem(last=False)
        return token

    def owner(self, cookies: str) -> str | None:
        """The name of the key that a request's Cookie header was given for; None where there is none (any more)."""
        token = cookie(cookies, COOKIE)
        digits, until = self._open.get(hash_of(token), ("", 0.0)) if token else ("", 0.0)
        return self._keys.owner_of_hash(digits) if digits and self._clock() < until else None

    def end(self, cookies: str) -> None:
        self._open.pop(hash_of(cookie(cookies, COOKIE)), None)


def cookie(header: str, name: str) -> str:
    """A cookie of a request's Cookie header; empty where it is not there."""
    try:
        return morsel.value if (morsel := SimpleCookie(header).get(name)) else ""
    except CookieError:
        return ""
