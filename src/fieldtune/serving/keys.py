"""API keys: shown once, kept as hashes, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fieldtune.config import Serving
from fieldtune.errors import ConfigError
from fieldtune.workspace import read_jsonl, write_jsonl

VARIABLE = "FIELDTUNE_SERVING_KEYS"
"""SHA-256 hashes of keys, with commas, beside those of the file."""
_LOOK_EVERY = 1.0
_LONGEST = 512


@dataclass(frozen=True, slots=True)
class Key:
    name: str
    sha256: str
    """64 hex digits. A plain hash is enough: the keys are 256 random bits, which nobody can guess."""
    created: str = ""


def new_key(path: Path, name: str) -> str:
    """Make a key, append its hash to the file, and return it: it cannot be read again.

    Raises ConfigError where the file has a key of that name, InputError for a damaged file.
    """
    if not name.strip() or len(name) > 100 or not name.isprintable():
        raise ConfigError("a key needs a name of up to 100 printable characters", "such as the team that will use it")
    known = read_keys(path) if path.exists() else []
    if any(key.name == name for key in known):
        raise ConfigError(f"there is a key named {name!r} in {path}", "choose another name, or remove its line")
    key = "ft-" + secrets.token_urlsafe(32)
    made = Key(name, hash_of(key), datetime.now(UTC).isoformat(timespec="seconds"))
    write_jsonl(path, [*known, made])
    path.chmod(0o600)
    return key


def keys_file(run: Path, settings: Serving) -> Path:
    """Where a run's keys are kept."""
    return Path(settings.keys).expanduser() if settings.keys else run / "serving" / "keys.jsonl"


def hash_of(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def read_keys(path: Path) -> list[Key]:
    """Raises ConfigError naming file and line for what is no key's hash, InputError for a line that is no JSON."""
    keys = []
    for number, row in read_jsonl(path):
        digits = str(row.get("sha256", "")).lower()
        _require_hash(digits, f"{path}:{number}")
        keys.append(Key(str(row.get("name", f"key {number}")), digits, str(row.get("created", ""))))
    return keys


def _require_hash(digits: str, where: str) -> None:
    if len(digits) != 64 or set(digits) - set("0123456789abcdef"):
        raise ConfigError(f"{where} is not a SHA-256 hash of a key", "make keys with: fieldtune serve RUN --new-key")


class KeyRing:
    """The keys of a file and of the environment; the file is read again when it changes, so a key can be withdrawn."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError or InputError for a damaged file."""
        self._path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._next_look = 0.0
        given = [part.strip().lower() for part in os.environ.get(VARIABLE, "").split(",") if part.strip()]
        for digits in given:
            _require_hash(digits, VARIABLE)
        self._given = [Key(f"environment {number}", digits) for number, digits in enumerate(given, 1)]
        self._filed: list[Key] = []
        # From here on a file that vanishes or breaks must not open the doors.
        self._wanted = bool(given) or path.exists()
        if path.exists():
            self._filed = read_keys(path)
            self._stamp = self._stat()

    def __len__(self) -> int:
        return len(self._given) + len(self._filed)

    @property
    def wanted(self) -> bool:
        """Whether requests need a key: from the first key on, also one made while the server runs."""
        self._look()
        return self._wanted

    def owner(self, key: str) -> str | None:
        """The name of a valid key, else None; all hashes are compared, so the time says nothing."""
        return self.owner_of_hash(hash_of(key[:_LONGEST]))

    def owner_of_hash(self, asked: str) -> str | None:
        """The same for a key's hash."""
        self._look()
        found = None
        for one in (*self._given, *self._filed):
            if hmac.compare_digest(one.sha256, asked):
                found = one.name
        return found

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        with self._lock:
            self._next_look = now + _LOOK_EVERY
            stamp = self._stat()
            if stamp == self._stamp:
                return
            self._stamp = stamp
            try:
                self._filed = read_keys(self._path) if stamp else []
            except Exception:  # someone is writing it by hand: nobody new gets in, and nobody without a valid line
                self._filed = []
            self._wanted = self._wanted or stamp is not None

    def _stat(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size
