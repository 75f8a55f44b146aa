"""Search an index with the model that made it, and with no other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding import Encoder, NumpyEncoder, SingleEncoder
from fieldtune.encoding.m3 import M3Vectors, TokenVectors, has_heads
from fieldtune.encoding.threads import one_thread
from fieldtune.errors import InputError, ModelError
from fieldtune.index.asking import Asked, clean
from fieldtune.index.hits import found
from fieldtune.index.meta import REBUILD, index_folder, stamp
from fieldtune.index.model import IndexModel, required
from fieldtune.index.reranking import reranked
from fieldtune.index.snapshot import Snapshot, open_snapshot
from fieldtune.index.three import MODES
from fieldtune.index.where import Where
from fieldtune.models import resolve_model
from fieldtune.types import Hit, Passage

log = logging.getLogger(__name__)


class Index:
    """An open index; make one with `Index.open`. Searching from several threads is safe."""

    def __init__(
        self, path: Path, snapshot: Snapshot, model: IndexModel, *, of_base: bool = False, follow: bool = True
    ) -> None:
        self.path = path
        self.model = model.name
        self._snapshot = snapshot
        self._model = model
        self._of_base = of_base
        self._follow = follow
        self._base: Index | None = None
        self._reranker: Any = None
        self._lock = threading.RLock()

    @classmethod
    def open(
        cls, path: str | Path, *, encoder: Encoder | None = None, once: bool = False, follow: bool = True
    ) -> Index:
        """Open a run's folder or an index folder; the model is loaded with the first query, or is `encoder`.

        `once` is for a process that asks once and ends: where the index says that it gives the same vectors (to four
        digits), the model runs without torch and the library, whose import takes longer than the search. Without
        `follow` searches take up a newer version of the index only when `refresh` is called.

        Raises InputError when there is no whole index, ModelError when the model is gone or not the one indexed.
        """
        folder = index_folder(path)
        snapshot = open_snapshot(folder)
        name = required(folder, snapshot.meta["model"], snapshot.meta["model_fingerprint"])
        return cls(folder, snapshot, IndexModel(name, encoder, once=once), follow=follow)

    def __len__(self) -> int:
        return len(self._snapshot.store)

    @property
    def meta(self) -> Mapping[str, Any]:
        """What meta.json says of the version that is searched."""
        return self._snapshot.meta

    @property
    def modes(self) -> tuple[str, ...]:
        """What `mode` may be besides "auto"."""
        return ("dense", "words", "hybrid", *(MODES if self.meta.get("m3") and not self._of_base else ()))

    def is_three(self, mode: str) -> bool:
        """Whether a mode, or what auto is, needs a query's sparse and token vectors: those of `three`."""
        return self._meant(self._snapshot, mode) in MODES

    def three(self, queries: Sequence[str]) -> M3Vectors:
        """Dense, sparse and token vectors of queries, from one pass, for `search_vectors`.

        Raises InputError where the index has none of passages, ModelError when the layers are not those indexed.
        """
        meta = self.meta
        if not meta.get("m3") or self._of_base:
            raise InputError("this index has no sparse and token vectors", "train with training.m3 and build it again")
        return self._model.three([clean(query) for query in queries], meta)

    @property
    def columns(self) -> Mapping[str, str]:
        """Columns that `where` may name, with their types: text, texts (several each), number, date, yes/no."""
        return dict(self._snapshot.columns.kinds)

    def values(self, column: str) -> Sequence[str]:
        """The different values of a column, sorted; of a column of numbers the lowest and the highest, if any.

        Raises InputError for a column that is not there.
        """
        if column not in self._snapshot.columns.kinds:
            raise InputError(f"there is no column {column!r}", f"columns: {', '.join(self.columns)}")
        return self._snapshot.columns.values(column)

    @property
    def base(self) -> Index | None:
        """The same passages searched with the base model; None where its vectors are not in the index.

        Raises ModelError when the base model is gone or not the one indexed.
        """
        about = self._snapshot.meta["base"]
        if not about or self._of_base:
            return None
        with self._lock:
            if self._base is None:
                model = IndexModel(required(self.path, about["model"], about["fingerprint"]), None)
                self._base = Index(self.path, self._snapshot, model, of_base=True, follow=self._follow)
        self._base._snapshot = self._snapshot  # always the same passages
        return self._base

    @property
    def encoder(self) -> Encoder | SingleEncoder | NumpyEncoder:
        return self._model.encoder(self.meta)

    def refresh(self) -> bool:
        """Take up a newer table if there is one, and say whether there was; searches do so by themselves
        unless it was opened without `follow`.

        Where the index was deleted, what is open goes on. Raises ModelError when it was rebuilt with another model.
        """
        now = self._snapshot
        mark = stamp(self.path)
        if mark is None or mark == now.stamp:
            return False
        fresh = open_snapshot(self.path)
        if self._of_base and fresh.base is None:
            raise ModelError("the index was rebuilt without the base model", "open it again")
        if _made_by(fresh, self._of_base) != _made_by(now, self._of_base):
            raise ModelError("the index was rebuilt with another model meanwhile", "open it again")
        self._snapshot = fresh
        log.info("index %s was rebuilt, reading the new one", self.path)
        return True

    def search(
        self, query: str, k: int = 10, *, mode: str = "auto", where: Where | None = None, rerank: bool = False
    ) -> list[Hit]:
        """The k best passages, best first.

        `mode` is dense (cosine), words (BM25), hybrid (both), or auto: what found most on the dev queries when the
        index was built. Of a model with training.m3 also sparse (learned word weights), dense-sparse (both scores
        added), multi (what these two find, by token vectors), m3 (by the sum of all three) and m3-words (and BM25).
        `where` limits the search to passages whose columns have these values. With `rerank` the
        cross-encoder of `index.reranker` orders the first ones anew.

        Raises InputError for a query without text, k below 1, a mode or column that is not there, and a value that is
        not of its column's type.
        """
        return self.search_many([query], k, mode=mode, where=where, rerank=rerank)[0]

    def search_many(
        self,
        queries: Sequence[str],
        k: int = 10,
        *,
        mode: str = "auto",
        where: Where | None = None,
        rerank: bool = False,
    ) -> list[list[Hit]]:
        """As `search`, for several queries encoded together."""
        texts = [clean(query) for query in queries]
        snapshot, mode = self._asked(k, mode)
        if not texts:
            return []
        vectors = None if mode == "words" else self._encoded(texts, mode)
        deep = max(k, int(snapshot.meta["rerank_depth"])) if rerank else k
        hits = found(snapshot, vectors, texts, deep, mode, where, base=self._of_base)
        if rerank:
            hits = [one[:k] for one in reranked(self._cross_encoder(snapshot), texts, hits)]
        return hits

    def search_vectors(
        self,
        vectors: Asked,
        k: int = 10,
        *,
        queries: Sequence[str] | None = None,
        mode: str = "auto",
        where: Where | None = None,
    ) -> list[list[Hit]]:
        """As `search_many`, from unit vectors (m, dim) of the index's own model, or all three kinds as `three` gives
        them; `queries` are their texts.

        Without texts, auto is dense. Raises InputError where words are to be searched and there are no texts, or a
        mode wants sparse and token vectors that are not given.
        """
        snapshot, chosen = self._asked(k, mode)
        texts = None if queries is None else [clean(query) for query in queries]
        if chosen in MODES and not isinstance(vectors, M3Vectors):
            if mode != "auto":
                raise InputError(f"mode {chosen} needs the queries' sparse and token vectors", "take Index.three's")
            chosen = str(snapshot.meta["m3"]["plain"])
        if texts is None and chosen != "dense":
            if mode != "auto":
                raise InputError(f"{chosen} search needs the queries' texts", "give queries beside vectors")
            chosen = "dense"
        if texts is not None and len(texts) != len(vectors):
            raise InputError(f"{len(texts)} queries for {len(vectors)} vectors", "give a text for each vector")
        return found(snapshot, vectors, texts, k, chosen, where, base=self._of_base)

    def passages(self, ids: Sequence[str]) -> list[Passage]:
        """The passages of these ids, in their order. Raises InputError for an id that is not there."""
        store = self._snapshot.store
        return [store[_row(store.row(key), key)] for key in ids]

    def around(self, passage_id: str, n: int = 2) -> list[Passage]:
        """The passage with up to n before and n after it in its document, in the document's order.

        Raises InputError for an id that is not there.
        """
        store = self._snapshot.store
        return [store[row] for row in store.around(_row(store.row(passage_id), passage_id), max(0, n))]

    def iterate(self) -> Iterator[Passage]:
        """All passages, in the order of the index."""
        return iter(self._snapshot.store)

    def stored_vectors(self) -> NDArray[np.float32]:
        """The vectors of all passages in that order, mapped into memory: (passages, dimension)."""
        snapshot = self._snapshot
        return (snapshot.base if self._of_base and snapshot.base is not None else snapshot.dense).vectors

    def stored_signals(self) -> tuple[Any, TokenVectors]:
        """Word weights, CSR (passages, vocabulary), and token vectors of all passages in that order.

        Raises InputError where the index has none.
        """
        three = self._snapshot.three
        if three is None:
            raise InputError("this index has no sparse and token vectors", REBUILD)
        return three.signals.by_passage(), three.signals.tokens

    def _encoded(self, texts: Sequence[str], mode: str) -> Asked:
        if mode in MODES:
            return self.three(texts)
        encoder = self._model.encoder(self.meta, texts)
        with one_thread() if isinstance(encoder, SingleEncoder) else nullcontext():
            return encoder.encode(texts, "query")

    def _asked(self, k: int, mode: str) -> tuple[Snapshot, str]:
        if k < 1:
            raise InputError(f"{k} results cannot be searched for", "ask for at least 1")
        if mode != "auto" and mode not in self.modes:
            raise InputError(f"there is no mode {mode!r}{self._why_not(mode)}", f"modes: auto, {', '.join(self.modes)}")
        if self._follow:
            self.refresh()
        snapshot = self._snapshot
        return snapshot, self._meant(snapshot, mode)

    def _why_not(self, mode: str) -> str:
        if mode not in MODES:
            return ""
        if self._of_base:
            return " with the base model: its dense vectors alone are in the index"
        cure = REBUILD if has_heads(resolve_model(self.model).folder) else "train a model with training.m3.train=both"
        return f": the index holds no sparse and token vectors; {cure}"

    def _meant(self, snapshot: Snapshot, mode: str) -> str:
        """What auto is; with the base model, whose vectors are dense alone, the best of what it can do too."""
        if mode != "auto":
            return mode
        chosen = str(snapshot.meta["mode"])
        return str(snapshot.meta["m3"]["plain"]) if self._of_base and chosen in MODES else chosen

    def _cross_encoder(self, snapshot: Snapshot) -> Any:
        name = snapshot.meta["reranker"]
        if not name:
            raise InputError("this index has no reranker", "set index.reranker and build it again: fieldtune index RUN")
        with self._lock:
            if self._reranker is None or self._reranker.name != name:
                from fieldtune.evaluation.rerank import Reranker

                self._reranker = Reranker.load(name)
            return self._reranker


def _row(row: int | None, passage_id: str) -> int:
    if row is None:
        raise InputError(f"there is no passage {passage_id!r}", "take an id from a search")
    return row


def _made_by(snapshot: Snapshot, base: bool) -> Any:
    return snapshot.meta["base"]["fingerprint"] if base else snapshot.meta["model_fingerprint"]
