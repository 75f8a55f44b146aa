"""The exceptions fieldtune raises on purpose: every one carries a message and the cure."""

from __future__ import annotations

import errno
from pathlib import Path

_FULL_DISK = ("No space left on device", "(os error 28)", "Disk quota exceeded")


class FieldtuneError(Exception):
    """Something the user must change; the command line prints it without a traceback and exits with 2.

    `message` says what is wrong and where, `hint` says what to do about it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(FieldtuneError):
    """A setting is unknown, malformed or contradicts another."""


class InputError(FieldtuneError):
    """A file of the user's cannot be used; the message starts with `file:line` where a line is known."""

    def __init__(
        self, message: str, hint: str = "", *, path: Path | str | None = None, line: int | None = None
    ) -> None:
        # repr() keeps a file name with newlines or control characters on one line.
        where = "" if path is None else repr(str(path))[1:-1] + ("" if line is None else f":{line}") + ": "
        super().__init__(where + message, hint)
        self.path = path
        self.line = line


class ModelError(FieldtuneError):
    """A model cannot be found, loaded, trusted or trained."""


class EndpointError(FieldtuneError):
    """A remote service (an LLM endpoint) cannot be reached or answers uselessly."""


class MissingExtraError(FieldtuneError):
    """An optional package is not installed; the hint holds the exact install command."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed", f"pip install 'fieldtune[{extra}]'")


class BusyError(FieldtuneError):
    """Another process works in the same run folder."""


def disk_is_full(error: BaseException) -> bool:
    """Whether a full disk, or a quota used up, stands behind an error.

    Libraries wrap what the system says (torch's streams), or pass its words on without the number: safetensors and
    tokenizers raise plain exceptions.
    """
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(cause) for words in _FULL_DISK):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
