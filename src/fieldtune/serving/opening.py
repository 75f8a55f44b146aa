"""From a run's folder to a service: index, model, keys, and what the settings add."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from fieldtune.config import Config
from fieldtune.serving.adapters import open_adapters
from fieldtune.serving.keys import KeyRing, keys_file
from fieldtune.serving.labels import Labels
from fieldtune.serving.library import Library
from fieldtune.serving.service import Service
from fieldtune.training.losses.matryoshka import matryoshka_dimensions


@contextlib.contextmanager
def open_service(run: Path, config: Config) -> Iterator[Service]:
    """A service for a finished run; a local LLM of the settings runs until the block ends.

    Raises FieldtuneError for what is missing or does not fit: index, model, adapters, keys, reranker, LLM.
    """
    settings = config.serving
    keys = KeyRing(keys_file(run, settings))
    with contextlib.ExitStack() as stack:
        llm = None
        if config.llm.base_url or config.llm.local:
            from fieldtune.llm.local import local_endpoint
            from fieldtune.llm.streaming import ChatStream

            endpoint = stack.enter_context(local_endpoint(config.llm)) if config.llm.local else None
            llm = ChatStream(config.llm, endpoint, seconds=settings.answer_seconds, stall=settings.stall_seconds)
        library = Library(run, seed=config.seed, encoding=config.encoding)
        if config.encoding.export:
            library.volume.engine.whole()  # so that a warning about it comes now, not with the first request
        reranker = None
        name = settings.rerank or str(library.volume.index.meta.get("reranker") or "")
        if name:
            from fieldtune.serving.rerank import CrossEncoder

            reranker = CrossEncoder.load(name)
        called, engine = settings.name or run.resolve().name, library.volume.engine
        yield Service(
            name=called,
            settings=settings,
            library=library,
            keys=keys,
            matryoshka=_matryoshka(config, engine.dimension),
            adapters=open_adapters(settings.adapters, engine, config.model, called),
            llm=llm,
            reranker=reranker,
            labels=Labels(run) if settings.labels else None,
        )


def _matryoshka(config: Config, full: int) -> tuple[int, ...]:
    """The shorter sizes that training gave its attention to."""
    given = config.training.matryoshka
    return tuple(size for size in (matryoshka_dimensions(full) if given == "auto" else given) if size < full)
