"""Everything that requests share, and the few things that they all do with it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.config import Serving
from fieldtune.encoding.engine import processors
from fieldtune.index import Asked
from fieldtune.serving.adapters import Adapter
from fieldtune.serving.batching import Batcher
from fieldtune.serving.beside import Beside
from fieldtune.serving.cache import VectorCache
from fieldtune.serving.engine import Engine, Vectors
from fieldtune.serving.keys import KeyRing
from fieldtune.serving.labels import Labels
from fieldtune.serving.library import Library, Search, Volume
from fieldtune.serving.metrics import Metrics
from fieldtune.serving.pieces import Pieces
from fieldtune.serving.problems import LOST, ApiError, unavailable
from fieldtune.serving.sessions import Sessions
from fieldtune.types import Hit, Side

if TYPE_CHECKING:
    from fieldtune.llm.streaming import ChatStream
    from fieldtune.serving.rerank import CrossEncoder

log = logging.getLogger(__name__)

_USES = 5
"""Requests for classes, duplicates and outliers at work and waiting; each takes seconds."""


@dataclass(slots=True)
class Service:
    """A run being served."""

    name: str
    """Of the model, for clients."""
    settings: Serving
    library: Library
    keys: KeyRing
    matryoshka: tuple[int, ...] = ()
    adapters: Mapping[str, Adapter] = field(default_factory=dict)
    """By name."""
    llm: ChatStream | None = None
    reranker: CrossEncoder | None = None
    labels: Labels | None = None
    """Where people's judgements go; None where the page does not ask for them."""
    metrics: Metrics = field(default_factory=Metrics)
    stopping: bool = False
    encoder: Batcher[str, Asked] = field(init=False)
    """Single queries."""
    texts: Pieces = field(init=False)
    """Many texts of one request."""
    adapted: dict[str, Pieces] = field(init=False)
    """The same for each adapter: a queue of its own, so that one which many ask for does not keep others out."""
    searcher: Batcher[tuple[Asked, str], list[Hit]] = field(init=False)
    before: Batcher[str, list[Hit]] = field(init=False)
    """Searches with the base model."""
    uses: Beside = field(init=False)
    """Classes, duplicates and outliers: long work that must not keep a search waiting."""
    sessions: Sessions = field(init=False)
    cache: VectorCache = field(init=False)
    since: int = field(init=False)
    answering: int = 0
    """Answers that the LLM is working on."""

    def __post_init__(self) -> None:
        limits = self.settings
        self.since = int(time.time())
        self.cache = VectorCache(limits.cached_queries)
        # Half of the cores each: queries are encoded while those before them are searched for, and requests are read.
        half, most = max(1, processors() // 2), limits.waiting_texts
        self.encoder = Batcher("encoder", self._encode, batch=limits.batch, most=most, cores=half)
        self.searcher = Batcher("search", self.library.search, batch=limits.batch, most=most, cores=half)
        self.texts = Pieces("texts", threads=self.volume.engine.threads, most=most)
        self.adapted = {
            name: Pieces(one.model, threads=self.volume.engine.threads, most=most, beside=self.texts)
            for name, one in self.adapters.items()
        }
        self.before = Batcher("base", self.library.search_base, batch=limits.batch, most=most)
        # Half of a request's time, so that one which comes while another is given up still has the other half.
        self.uses = Beside(seconds=limits.request_seconds / 2, most=_USES)
        self.sessions = Sessions(self.keys)
        watch = self.metrics.watch
        watch(
            "fieldtune_encoder_waiting",
            "Texts that wait for the model",
            lambda: self.encoder.waiting + sum(one.waiting for one in (self.texts, *self.adapted.values())),
        )
        for name, queue in self.adapted.items():
            self.metrics.watch_adapter(name, partial(getattr, queue, "waiting"))
        watch("fieldtune_search_waiting", "Searches that wait for the index", lambda: self.searcher.waiting)
        watch("fieldtune_cached_queries", "Query vectors remembered", lambda: len(self.cache))
        watch("fieldtune_cache_hits", "Queries whose vector was remembered", lambda: self.cache.hits)
        watch("fieldtune_passages", "Passages in the index", lambda: len(self.volume.index))
        watch("fieldtune_index_usable", "1 where the index can be searched", lambda: float(not self.library.fault))

    @property
    def volume(self) -> Volume:
        return self.library.volume

    def _encode(self, model: Any, texts: Sequence[str]) -> Sequence[Asked]:
        volume = self.volume
        adapter = next((one for one in self.adapters.values() if one.fingerprint == model), None)
        if adapter is not None:
            rows = adapter.engine.encode("query", texts)
            return [rows[place : place + 1] for place in range(len(texts))]
        if model not in (volume.model, volume.three):
            raise unavailable("the index was rebuilt with another model this moment; try again")
        if model == volume.three:
            about = volume.index.meta["m3"]
            found = volume.engine.three(texts, str(about["heads"]), single=bool(about.get("single")))
            return [found.take(np.array([place])) for place in range(len(texts))]
        rows = volume.engine.encode("query", texts)
        return [rows[place : place + 1] for place in range(len(texts))]

    async def query_vector(self, text: str, model: str, adapter: str = "") -> Asked:
        """The vector of a cleaned query, (1, dim), by the model or adapter of this fingerprint, or with `Volume.three`
        all three kinds; `adapter` is its name. Raises ApiError where the model went."""
        known = self.cache.get(model, text)
        if known is not None:
            return known
        vector = await self.encoder.submit(text, kind=model)
        self.metrics.texts.labels("query", adapter).inc()
        self.cache.put(model, text, vector)
        return vector

    async def vectors(
        self, texts: Sequence[str], side: Side, engine: Engine | None = None, adapter: Adapter | None = None
    ) -> tuple[Vectors, int]:
        """Vectors of many texts, (len(texts), dim), and how many tokens the model read.

        Vectors that will be compared are made by one `engine`: the server's may change from one call to the next. An
        adapter has an engine of its own.
        """
        engine = adapter.engine if adapter is not None else engine or self.volume.engine
        queue, name = (self.texts, "") if adapter is None else (self.adapted[adapter.name], adapter.name)
        out = np.zeros((len(texts), engine.dimension), np.float32)
        with queue.room(len(texts)):
            store = await asyncio.to_thread(engine.tokenized, texts, side)
            counts = await asyncio.to_thread(engine.counts, texts, side) if store is None else store.lengths

            def piece(rows: NDArray[np.int64]) -> None:
                if store is None:
                    out[rows] = engine.encode(side, [texts[row] for row in rows])
                else:
                    out[rows] = engine.forward(store, rows, side)

            await queue.run([partial(piece, rows) for rows in engine.pieces(counts)])
        self.metrics.texts.labels(side, name).inc(len(texts))
        return out, int(counts.sum())

    async def search(
        self, text: str, k: int, mode: str, where: dict[str, Any] | None, adapter: Adapter | None = None
    ) -> list[Hit]:
        """Hits for a cleaned query, asked with an adapter that is for this index. Raises ApiError."""
        self.require_index()
        self.require_where(where)
        modes = ("auto", *self.volume.index.modes)
        if mode not in modes:
            raise ApiError(400, f"mode: this index has {', '.join(modes)}", param="mode", code="invalid_request")
        volume = self.volume
        model = volume.model
        vector: Asked
        if mode == "words":
            vector = np.zeros((1, volume.engine.dimension), np.float32)
        elif adapter is not None:
            if not adapter.leaves_passages(volume.engine):  # it did when it was asked for
                raise unavailable("the index was rebuilt with another model this moment; try again")
            vector = await self.query_vector(text, adapter.fingerprint, adapter.name)
        else:
            kind = volume.three if volume.index.is_three(mode) else model
            vector = await self.query_vector(text, kind)
        asked = json.dumps(where, sort_keys=True) if where else ""
        return await self.searcher.submit((vector, text), kind=Search(k, mode, asked, model))

    async def search_base(self, text: str, k: int, mode: str, where: dict[str, Any] | None) -> list[Hit]:
        """The same with the base model, where the index holds its vectors. Raises ApiError, 501 where it does not."""
        self.require_index()
        self.require_where(where)
        asked = json.dumps(where, sort_keys=True) if where else ""
        return await self.before.submit(text, kind=Search(k, mode, asked, ""))

    def require_index(self) -> None:
        """Raises ApiError 503 where the index was found to be gone or damaged."""
        if self.library.fault:
            raise unavailable(LOST)

    def require_where(self, where: dict[str, Any] | None) -> None:
        """Raises ApiError 400 for a column that the index does not have."""
        columns = self.volume.index.columns
        for name in where or ():
            if name not in columns:
                there = ", ".join(columns) or "none"
                raise ApiError(
                    400, f"where.{name[:80]}: there is no such column; there are: {there}", param="where",
                    code="unknown_column",
                )  # fmt: skip

    def require_reranker(self, field: str) -> CrossEncoder:
        """Raises ApiError 501 where the server has none."""
        if self.reranker is None:
            raise ApiError(
                501, "this server has no reranker; start it with --set serving.rerank=MODEL", param=field,
                code="no_reranker",
            )  # fmt: skip
        return self.reranker

    async def close(self) -> None:
        await self.uses.close()
        await self.encoder.close()
        await self.searcher.close()
        await self.before.close()
        self.texts.close()
        if self.labels is not None:
            await asyncio.to_thread(self.labels.close)
        if self.reranker is not None:
            await self.reranker.close()
        if self.llm is not None:
            await self.llm.close()
