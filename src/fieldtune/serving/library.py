"""The index, the model that made it and the threshold, held together: they change as one when a run is built anew."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.m3 import M3Vectors, together
from fieldtune.errors import FieldtuneError, InputError
from fieldtune.index import Asked, Index
from fieldtune.serving.engine import PROBES, Engine, Vectors
from fieldtune.serving.problems import LOST, ApiError, unavailable
from fieldtune.serving.threshold import Threshold, TopScores, threshold_of
from fieldtune.types import Hit

if TYPE_CHECKING:
    from fieldtune.config import Encoding

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Volume:
    """What belongs together: vectors of one model, and the model that makes them."""

    index: Index
    engine: Engine
    threshold: Threshold | None
    calibrated: str
    """The version of the index that the threshold was found on."""

    @property
    def model(self) -> str:
        """Fingerprint of the model."""
        return str(self.index.meta["model_fingerprint"])

    @property
    def three(self) -> str:
        """Of the model with its layers for sparse and token vectors; empty where the index has none of these."""
        about = self.index.meta.get("m3")
        return f"{self.model} {about['heads']}" if about else ""

    @property
    def version(self) -> str:
        """Of the index that is searched at this moment."""
        meta = self.index.meta
        return f"{meta['model_fingerprint']} {meta.get('table')} {meta.get('count')}"


@dataclass(frozen=True, slots=True)
class Search:
    """How to search; equal ones share a pass."""

    k: int
    mode: str
    where: str
    """JSON with sorted keys, or empty."""
    model: str
    """Fingerprint of the model that made the query's vector."""


class Library:
    """The volume in use. `search`, `refresh` and `take` are for one thread.

    It stays as it is between two calls of `refresh`: searches with the old model find in the old index while another
    thread loads the model of a new one.
    """

    def __init__(self, run: Path, *, seed: int, encoding: Encoding | None = None) -> None:
        """`encoding` may name an export of the model. Raises FieldtuneError when there is no index, or no model for
        it."""
        self.run, self._seed, self._encoding = run, seed, encoding
        self.volume = self._open(None)
        self.calibrate(self._best)
        self.fault = ""
        """Why searching does not work at the moment; empty where it does."""
        self._lock = threading.Lock()

    def search(self, kind: Hashable, items: Sequence[tuple[Asked, str]]) -> Sequence[list[Hit]]:
        """Hits for (vector (1, dim) or all three kinds, text) each.

        Raises ApiError: 400 for what was asked, 503 for the index.
        """
        if not isinstance(kind, Search):
            raise TypeError(f"{kind!r} is no search")
        index = self.volume.index
        if kind.model != index.meta["model_fingerprint"]:
            raise unavailable("the index was rebuilt with another model this moment; try again")
        where: Mapping[str, Any] | None = json.loads(kind.where) if kind.where else None
        try:
            return index.search_vectors(
                _beside([vector for vector, _ in items]),
                min(kind.k, max(1, len(index))),
                queries=[text for _, text in items],
                mode=kind.mode,
                where=where,
            )
        except InputError as error:
            if error.path is None and self._is_there():
                field = "mode" if "mode" in error.message else "where"
                hint = f" ({error.hint})" if error.hint else ""
                raise ApiError(400, f"{field}: {error.message}{hint}", param=field, code="invalid_request") from None
            raise self._lost(error.message) from None
        except FieldtuneError as error:
            raise self._lost(error.message) from None
        except Exception as error:  # a file is gone, a disk is full; or a filter that nobody thought of
            if not self._works():
                raise self._lost(type(error).__name__) from error
            if where:
                raise ApiError(
                    400, "where: this filter cannot be used", param="where", code="invalid_request"
                ) from None
            raise

    def search_base(self, kind: Hashable, queries: Sequence[str]) -> Sequence[list[Hit]]:
        """Hits of the base model. Raises ApiError: 501 where the index has no vectors of it. For one thread."""
        if not isinstance(kind, Search):
            raise TypeError(f"{kind!r} is no search")
        index = self.volume.index
        try:
            base = index.base
        except FieldtuneError as error:
            log.warning("the base model cannot be used: %s", error.message)
            base = None
        if base is None:
            raise ApiError(
                501, "this index holds no vectors of the base model; build it with index.base = true", code="no_base"
            )
        where = json.loads(kind.where) if kind.where else None
        try:
            return base.search_many(queries, min(kind.k, max(1, len(index))), mode=kind.mode, where=where)
        except (FieldtuneError, OSError) as error:
            if isinstance(error, InputError) and error.path is None:
                raise ApiError(400, error.message, code="invalid_request") from None
            if not self._is_there():
                raise self._lost(type(error).__name__) from error
            log.warning("the base model cannot be used: %s", getattr(error, "message", type(error).__name__))
            raise unavailable("the base model cannot be used at the moment") from None

    def refresh(self) -> bool:
        """Take up what was built meanwhile with the same model.

        False where all has to be opened anew, by `reopened` and `take`: for another model, or a folder that was away.
        """
        try:
            if not self._is_there():
                return False
            self.volume.index.refresh()
            if self.fault:  # what failed may work again, though nothing was rebuilt
                self._probe()
        except Exception as error:
            log.debug("the index is opened anew: %s", type(error).__name__)
            return False
        self._works_again()
        return True

    def reopened(self) -> Volume | None:
        """What the run's folder holds now, its model loaded and ready; for any thread. None, and `fault` says why,
        where that cannot be used."""
        try:
            volume = self._open(self.volume)
            if volume.engine is not self.volume.engine:
                volume.engine.whole()  # now, since a model that is trained anew replaces these files
                volume.engine.encode("query", ["to warm up before the first question comes"])
        except Exception as error:
            self._blame(error)
            return None
        return volume

    def take(self, volume: Volume) -> None:
        """Search this from now on."""
        self.volume = volume
        self._works_again()

    def _works_again(self) -> None:
        if self.fault:
            log.warning("the index works again")
        self.fault = ""

    def calibrate(self, best: TopScores) -> None:
        """Find the threshold of the index that is searched now, or read the one that was found for it; for any thread.

        `best` gives the highest similarity of each query, (len(queries),). Raises what it raises.
        """
        volume, version = self.volume, self.volume.version
        kept = volume.index.path.parent / "serving" / "threshold.json"
        data, holds = volume.index.path.parent / "data", partial(_holds, volume.index)
        found = threshold_of(data, kept, version, best, self._seed, holds=holds)
        if self.volume is volume:  # else it was opened anew meanwhile, and this is not its threshold
            self.volume = replace(volume, threshold=found, calibrated=version)

    def _best(self, queries: Sequence[str]) -> NDArray[np.float32]:
        return highest(self.volume.index, self.volume.engine.encode("query", queries))

    def _works(self) -> bool:
        try:
            self._probe()
        except Exception:
            return False
        return self._is_there()

    def _probe(self) -> None:
        vector = np.zeros((1, self.volume.engine.dimension), np.float32)
        vector[0, 0] = 1
        self.volume.index.search_vectors(vector, 1, mode="dense")

    def _lost(self, why: str) -> ApiError:
        self.fault = self.fault or why
        log.error("the index cannot be searched: %s", why)
        return unavailable(LOST)

    def _blame(self, error: Exception) -> None:
        why = error.message if isinstance(error, FieldtuneError) else type(error).__name__
        if not self.fault:
            log.error("the index cannot be used: %s", why)
        self.fault = why

    def _is_there(self) -> bool:
        return (self.volume.index.path / "meta.json").exists()

    def _open(self, before: Volume | None) -> Volume:
        index = Index.open(self.run, follow=False)
        if before is not None and before.index.meta["model_fingerprint"] == index.meta["model_fingerprint"]:
            engine = before.engine  # the model need not be loaded again
        else:
            single = bool(index.meta.get("single"))
            engine = Engine(index.model, single=single, probes=_probes(index), encoding=self._encoding)

        # Another model's threshold has another scale; that of an older index is close until it is found anew.
        threshold = before.threshold if before is not None and engine is before.engine else None
        return Volume(index, engine, threshold, "")


def highest(index: Index, vectors: Vectors) -> NDArray[np.float32]:
    """The highest similarity that each query's vector has with a passage, (len(vectors),)."""
    found = index.search_vectors(vectors, 1, mode="dense")
    return np.array([hits[0].score if hits else -1.0 for hits in found], np.float32)


def _holds(index: Index, passage: str) -> bool:
    try:
        index.passages([passage])
    except InputError:
        return False
    return True


def _beside(vectors: Sequence[Asked]) -> Asked:
    """Queries in one: in all three kinds where each is. A mode that is chosen anew meanwhile mixes them."""
    three = [one for one in vectors if isinstance(one, M3Vectors)]
    if len(three) == len(vectors):
        return together(three)
    return np.concatenate([one.dense if isinstance(one, M3Vectors) else one for one in vectors])


def _probes(index: Index) -> list[str]:
    return [one.content for one in islice(index.iterate(), PROBES)]


def similarity(hits: Sequence[Hit]) -> float | None:
    """The highest cosine of query and passage among the hits; None where they were found by words alone."""
    return max((float(hit.parts["dense"]) for hit in hits if "dense" in hit.parts), default=None)
