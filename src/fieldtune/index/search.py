"""Search an index with the model that made it, and with no other."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding import Encoder, SingleEncoder
from fieldtune.errors import InputError, ModelError
from fieldtune.index.build import FORMAT
from fieldtune.index.table import nearest, passage_of
from fieldtune.models import resolve_model
from fieldtune.types import Hit, Passage
from fieldtune.workspace import read_json

log = logging.getLogger(__name__)

_LONGEST = 50_000
"""Characters of a query that are looked at; no model reads nearly as much."""
Where = Mapping[str, Any]
"""Column -> a value, a list of values, or {"from": x, "to": y} with either end left out."""
_REBUILD = "build it again: fieldtune index RUN"


class Index:
    """An open index; make one with `Index.open`. Searching from several threads is safe."""

    def __init__(
        self,
        path: Path,
        meta: dict[str, Any],
        model: str,
        encoder: Encoder | SingleEncoder | None,
        *,
        once: bool = False,
    ) -> None:
        self.path = path
        self.meta = meta
        self.model = model
        self._encoder = encoder
        self._once = once
        self._table = _open_table(path, meta)

    @classmethod
    def open(cls, path: str | Path, *, encoder: Encoder | None = None, once: bool = False) -> Index:
        """Open a run's folder or an index folder; the model is loaded with the first query, or is `encoder`.

        `once` is for a process that asks once and ends: where the index says that it gives the same vectors, the model
        runs without the library, whose import takes longer than the search.

        Raises InputError when there is no whole index, ModelError when the model is gone or not the one indexed.
        """
        folder = Path(path).expanduser()
        if not (folder / "meta.json").exists() and (folder / "index").is_dir():
            folder /= "index"
        if not (folder / "meta.json").exists():
            raise InputError("no index in it", "give a finished run's folder, or " + _REBUILD, path=Path(path))
        meta = _read_meta(folder)
        stored = meta["model"]
        model = str((folder / stored).resolve()) if stored.startswith(".") else stored
        found = resolve_model(model)
        if found.fingerprint != meta["model_fingerprint"]:
            raise ModelError(
                f"the model {model} is not the one that the index {folder} was made with",
                "vectors of two models cannot be compared; " + _REBUILD,
            )
        return cls(folder, meta, model, encoder, once=once)

    def __len__(self) -> int:
        return int(self.meta["count"])

    @property
    def encoder(self) -> Encoder | SingleEncoder:
        if self._encoder is None and self._once and self.meta.get("single"):
            try:
                self._encoder = SingleEncoder(Path(self.model))
            except Exception as error:  # a GPU came, a library changed: the usual way is there
                log.info("%s is loaded with the library (%s)", self.model, error)
        if self._encoder is None:
            self._encoder = Encoder.load(self.model)
        return self._encoder

    @property
    def modes(self) -> tuple[str, ...]:
        """What `mode` may be besides "auto"."""
        return ("dense",)

    @property
    def columns(self) -> Mapping[str, str]:
        """Columns that `where` may name, with their types: text, texts, number, date, yes/no."""
        return {"source": "text", "group": "text", "page": "number", "title": "text"}

    @property
    def base(self) -> Index | None:
        """The same passages searched with the base model; None where its vectors are not in the index."""
        return None

    def refresh(self) -> bool:
        """Take up a newer table if there is one, and say whether there was."""
        return False

    def search(
        self, query: str, k: int = 10, *, mode: str = "auto", where: Where | None = None, rerank: bool = False
    ) -> list[Hit]:
        """The k best passages, best first.

        Raises InputError for a query without text, k below 1, a mode or column that is not there.
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
        texts = [_clean(query) for query in queries]
        if not texts:
            return []
        return self.search_vectors(self.encoder.encode(texts, "query"), k, queries=texts, mode=mode, where=where)

    def search_vectors(
        self,
        vectors: NDArray[np.float32],
        k: int = 10,
        *,
        queries: Sequence[str] | None = None,
        mode: str = "auto",
        where: Where | None = None,
    ) -> list[list[Hit]]:
        """As `search_many`, from unit vectors (m, dim) of the index's own model; `queries` are their texts."""
        if k < 1:
            raise InputError(f"{k} results cannot be searched for", "ask for at least 1")
        if vectors.ndim != 2 or vectors.shape[1] != self.meta["dimension"]:
            raise ModelError(
                f"query vectors of shape {vectors.shape} do not fit an index of {self.meta['dimension']} dimensions",
                _REBUILD,
            )
        unknown = set(where or ()) - set(self.columns)
        if unknown:
            raise InputError(f"no column {sorted(unknown)[0]!r}", f"there are: {', '.join(self.columns)}")
        found = []
        for vector in vectors:
            rows = self._nearest(vector, len(self) if where else k)
            rows = [row for row in rows if all(_meets(row[name], wanted) for name, wanted in (where or {}).items())]
            found.append(
                [
                    Hit(passage_of(row), row["score"], rank, {"dense": row["score"], "dense_rank": rank})
                    for rank, row in enumerate(rows[:k], 1)
                ]
            )
        return found

    def passages(self, ids: Sequence[str]) -> list[Passage]:
        """The passages of these ids, in their order. Raises InputError for an id that is not there."""
        known = {row["id"]: row for row in self._table.search().limit(len(self)).to_list()}
        if missing := [key for key in ids if key not in known]:
            raise InputError(f"there is no passage {missing[0]!r}", "take an id from a search")
        return [passage_of(known[key]) for key in ids]

    def around(self, passage_id: str, n: int = 2) -> list[Passage]:
        """The passage with up to n before and n after it in its document, in the document's order."""
        (one,) = self.passages([passage_id])
        every = [passage_of(row) for row in self._table.search().limit(len(self)).to_list()]
        inside = [other for other in every if (other.source, other.group) == (one.source, one.group)]
        place = inside.index(one)
        return inside[max(0, place - n) : place + n + 1]

    def _nearest(self, vector: NDArray[np.float32], k: int) -> list[dict[str, Any]]:
        try:
            return nearest(self._table, vector, min(k, len(self)), nprobes=self.meta["nprobes"])
        except Exception as error:  # LanceDB raises what it likes; what matters is whether the table is still ours
            meta = _read_meta(self.path)
            if meta["table"] == self.meta["table"]:
                raise InputError(f"the index cannot be read ({error})", _REBUILD, path=self.path) from error
            if meta["model_fingerprint"] != self.meta["model_fingerprint"]:
                raise ModelError("the index was rebuilt with another model meanwhile", "open it again") from None
            log.info("index %s was rebuilt, reading the new one", self.path)
            self.meta, self._table = meta, _open_table(self.path, meta)
            return nearest(self._table, vector, min(k, len(self)), nprobes=meta["nprobes"])


def _read_meta(folder: Path) -> dict[str, Any]:
    meta = read_json(folder / "meta.json")
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise InputError("not an index that this version reads", _REBUILD, path=folder / "meta.json")
    return meta


def _open_table(path: Path, meta: dict[str, Any]) -> Any:
    import lancedb

    try:
        return lancedb.connect(str(path)).open_table(meta["table"])
    except Exception as error:  # see Index._nearest
        raise InputError(f"its table {meta['table']} is gone or damaged", _REBUILD, path=path) from error


def _clean(query: str) -> str:
    """The query without control characters and broken Unicode, on one line."""
    kept = "".join(" " if unicodedata.category(mark) in ("Cc", "Cs") else mark for mark in query[:_LONGEST])
    text = " ".join(kept.split())
    if not text:
        raise InputError("the query is empty", "ask with at least one word")
    return text


def _meets(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return value is not None and wanted.get("from", value) <= value <= wanted.get("to", value)
    return value in wanted if isinstance(wanted, list) else bool(value == wanted)
