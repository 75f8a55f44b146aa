"""What a service does besides requests: warm up, take up a rebuilt index, find its threshold anew."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.engine import processors
from fieldtune.serving.batching import Batcher
from fieldtune.serving.library import Search, highest
from fieldtune.serving.service import Service

log = logging.getLogger(__name__)
Result = TypeVar("Result")

_UNKNOWN = "too few dev questions have a passage in the index, so it is not known what is not found"
_AT_ONCE = 8
"""Questions of a calibration between two batches of requests: some 20 ms."""


async def watch_index(service: Service) -> None:
    """Look for a rebuilt index now and then, in the thread that searches, until cancelled.

    The model of an index that was built with another one takes seconds to load: that is done beside the searches.
    """
    seen = service.volume.version
    while True:
        await asyncio.sleep(service.settings.refresh_seconds)
        before = service.volume
        try:
            if not await service.searcher.aside(service.library.refresh):
                fresh = await asyncio.to_thread(service.library.reopened)
                if fresh is not None:
                    await service.searcher.aside(partial(service.library.take, fresh))
        except Exception as error:
            log.error("looking for a new index failed: %s", type(error).__name__)
            continue
        if service.volume.version != seen:
            seen = service.volume.version
            service.metrics.refreshes.inc()
            log.info("serving the rebuilt index: %d passages", len(service.volume.index))
        if before.engine is not service.volume.engine:
            service.cache.clear()
        if service.volume.calibrated != service.volume.version and not service.library.fault:
            await _calibrate(service)


async def warm(service: Service) -> None:
    """Do once in each thread what the first client would wait for: code and memory are made ready with it."""
    volume = service.volume
    mode = str(volume.index.meta["mode"])
    try:
        for text in ("warm", "to warm up before the first question comes"):
            kind = volume.three if volume.index.is_three(mode) else volume.model
            vector = await service.encoder.submit(text, kind=kind)
            await service.searcher.submit((vector, text), kind=Search(10, mode, "", volume.model))
        for adapter in (None, *service.adapters.values()):
            await service.vectors(["to warm up"] * 2 * processors(), "passage", adapter=adapter)
    except Exception as error:  # what is wrong will be said to those who ask
        log.warning("the first search failed: %s", type(error).__name__)


async def _calibrate(service: Service) -> None:
    """Find the threshold for the index as it is now: a few questions at a time, between those of clients."""
    loop = asyncio.get_running_loop()
    volume = service.volume

    def between(queue: Batcher[Any, Any], call: Callable[[], Result]) -> Result:
        done: Future[Result] = asyncio.run_coroutine_threadsafe(queue.aside(call), loop)
        return done.result()

    def best(queries: Sequence[str]) -> NDArray[np.float32]:
        found = []
        for begin in range(0, len(queries), _AT_ONCE):
            some = queries[begin : begin + _AT_ONCE]
            vectors = between(service.encoder, partial(volume.engine.encode, "query", some))
            found.append(between(service.searcher, partial(highest, volume.index, vectors)))
        return np.concatenate(found) if found else np.zeros(0, np.float32)

    try:
        await asyncio.to_thread(service.library.calibrate, best)
    except Exception as error:  # the index changed again, or the server stops: the next look tries anew
        log.warning("the limit for what counts as not found was not calibrated: %s", type(error).__name__)
        return
    threshold = service.volume.threshold
    log.info("calibrated anew: %s", threshold.sentence if threshold else _UNKNOWN)
