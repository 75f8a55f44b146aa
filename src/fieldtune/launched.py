"""A command that torchrun or the like starts in several processes: the first runs it, the others help to train."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

from fieldtune.console import note
from fieldtune.exits import DONE, INTERRUPTED, TERMINATED, status_of
from fieldtune.stopping import ending_gently

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def run_command(command: Callable[[], object], *, debug: bool) -> int:
    """Run a command and return its exit status, the same in all processes.

    A process that fails in the middle of a step ends at once, without waiting for others that wait for it.
    """
    if not all(os.environ.get(name) for name in _VARIABLES):
        with ending_gently() as heard:  # of several processes the launcher ends all at once
            status = status_of(command, debug=debug)
        return TERMINATED if heard and status == INTERRUPTED else status
    from fieldtune.training.devices.world import current, join

    status = status_of(lambda: _joined(join), debug=debug)
    world = current()
    if status != DONE or world is None:
        return _ended(status)
    if world.rank == 0:
        from fieldtune.training.devices.orders import End

        status = status_of(command, debug=debug)
        if world.broken:
            return _ended(status)
        world.tell(End(status))
        world.gathered(None)  # all have heard it
    else:
        from fieldtune.training.devices.follow import follow

        logging.disable(logging.WARNING)  # the first process says the same
        told: list[int] = []
        status = status_of(lambda: told.append(follow(world)), debug=debug)
        if status != DONE:
            note(f"  (process {world.rank + 1} of {world.size})")
            return _ended(status)
        status = told[0]
        world.gathered(None)
    return _ended(status)


def _joined(join: Callable[[], object]) -> None:
    join()


def _ended(status: int) -> int:
    """End now: taking the connections down would wait for processes that wait for this one."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
