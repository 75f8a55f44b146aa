"""How a command ends: its exit status, and what is said where something went wrong."""

from __future__ import annotations

import errno
from collections.abc import Callable

from fieldtune.console import note
from fieldtune.errors import FieldtuneError, disk_is_full

DONE, BUG, YOURS, NOT_GOOD_ENOUGH, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143
"""NOT_GOOD_ENOUGH: what was asked for as a condition does not hold; nothing went wrong."""
# What the machine refuses and the user can mend.
_CURABLE = {
    errno.ENOSPC: "the disk is full; free some space and start the same command again",
    errno.EDQUOT: "your share of the disk is used up; free some space and start the same command again",
    errno.EACCES: "check the permissions, or write to another folder",
    errno.EPERM: "check the permissions, or write to another folder",
    errno.EROFS: "this disk cannot be written to; choose another folder",
    errno.ENOTDIR: "a part of that path is a file; choose another",
    errno.EISDIR: "that is a folder; give the name of a file",
}


def status_of(command: Callable[[], object], *, debug: bool) -> int:
    """Run a command and say on standard error what went wrong; with `debug` errors are raised.

    Returns what the command returned where that is a status.
    """
    try:
        outcome = command()
        if outcome == INTERRUPTED:  # typer makes an exit status of Ctrl-C
            raise KeyboardInterrupt
        return outcome if isinstance(outcome, int) else DONE
    except KeyboardInterrupt:
        note("stopped; what is finished is kept, and the same command goes on from there")
        return INTERRUPTED
    except Exception as error:
        if debug and not _is_of_the_parser(error):
            raise
        return _explained(error)


def _explained(error: Exception) -> int:
    if isinstance(error, FieldtuneError):
        note(f"error: {error.message}", style="bold red")
        if error.hint:
            note(f"  {error.hint}")
        return YOURS
    if isinstance(error, OSError):
        note(f"error: {error}", style="bold red")
        if error.errno in _CURABLE:
            note(f"  {_CURABLE[error.errno]}")
            return YOURS
        note("  if nothing is wrong with that file, please report it with what --debug prints")
        return BUG
    if _is_of_the_parser(error):
        note(f"error: {error.format_message()}", style="bold red")  # type: ignore[attr-defined]
        note("  fieldtune --help, or fieldtune COMMAND --help")
        return YOURS
    if disk_is_full(error):
        note(f"error: {error}", style="bold red")
        note(f"  {_CURABLE[errno.ENOSPC]}")
        return YOURS
    note(f"bug: {type(error).__name__}: {error}", style="bold red")
    note("  please report it with what --debug prints")
    return BUG


def _is_of_the_parser(error: Exception) -> bool:
    """Whether the words of the command line are wrong."""
    return type(error).__module__.startswith(("click", "typer")) and hasattr(error, "format_message")
