"""A thread of its own for the passes of a model on a processor, and with it a heap that nothing else cuts up.

The C library gives every thread a heap. The one that a training has run in is left in pieces of a great many sizes, and
glibc before 2.38 looks through them for each new array: encoding after some hours of training was seen to spend half of
its time in that search, at a third of its rate.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

T = TypeVar("T")


def aside(work: Callable[[], T]) -> T:
    """What `work` returns or raises, called in the thread that is kept for it; calls from several threads queue up."""
    return _lane().submit(work).result()


@cache
def _lane() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="fieldtune-encoding")


if hasattr(os, "register_at_fork"):  # a child made by fork has none of its parent's threads
    os.register_at_fork(after_in_child=_lane.cache_clear)
