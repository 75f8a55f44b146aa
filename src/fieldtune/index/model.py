"""The model of an index, loaded when the first query wants it, by the lightest way that gives its vectors."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fieldtune.encoding import Encoder, NumpyEncoder, SingleEncoder
from fieldtune.encoding.m3 import M3Vectors
from fieldtune.encoding.threads import one_thread
from fieldtune.errors import ModelError
from fieldtune.index.asking import Asker
from fieldtune.index.meta import REBUILD
from fieldtune.models import resolve_model

Light = TypeVar("Light", SingleEncoder, NumpyEncoder)
log = logging.getLogger(__name__)
_WORTH = 60_000_000_000
"""Multiplications that take NumPy on one core about as long as the import of torch and what that saves."""


class IndexModel:
    """What makes vectors of an index's queries. Safe from several threads."""

    def __init__(self, name: str, encoder: Encoder | None, *, once: bool = False) -> None:
        """`once` allows ways without the library, whose import takes longer than a search."""
        self.name = name
        self._encoder: Encoder | SingleEncoder | NumpyEncoder | None = encoder
        self._once = once
        self._asker: Asker | None = None
        self._lock = threading.RLock()

    def encoder(self, meta: Mapping[str, Any], queries: Sequence[str] = ()) -> Encoder | SingleEncoder | NumpyEncoder:
        """By `NumpyEncoder` or `SingleEncoder` where meta.json says that they give the same vectors, the first where
        these queries are not too much for it."""
        with self._lock:
            if self._encoder is None and self._once and meta.get("numpy"):
                self._encoder = self._light(NumpyEncoder)
            if isinstance(self._encoder, NumpyEncoder) and self._encoder.work(queries, "query") > _WORTH:
                self._encoder = None
            if self._encoder is None and self._once and meta.get("single"):
                with one_thread():
                    self._encoder = self._light(SingleEncoder)
            if self._encoder is None:
                self._encoder = Encoder.load(self.name)
            return self._encoder

    def three(self, queries: Sequence[str], meta: Mapping[str, Any]) -> M3Vectors:
        """All three kinds of queries.

        Raises ModelError when the model's layers are gone or not those that the index was made with.
        """
        about = meta["m3"]
        with self._lock:
            if self._asker is None or self._asker.digest != about["heads"]:
                encoder: Encoder | SingleEncoder | None = None
                if self._once and meta.get("single") and about.get("single"):
                    with one_thread():
                        encoder = self._light(SingleEncoder)
                if encoder is None:
                    encoder = self._encoder if isinstance(self._encoder, Encoder) else Encoder.load(self.name)
                    self._encoder = self._encoder or encoder
                self._asker = Asker.of(encoder, resolve_model(self.name).folder)
            asker = self._asker
        return asker.ask(queries, str(about["heads"]))

    def _light(self, way: type[Light]) -> Light | None:
        try:
            return way(Path(self.name))
        except Exception as error:  # a GPU came, a library changed: the usual way is there
            log.warning(
                "%s cannot be loaded the quick way that its index was made for (%s): a larger library loads it, some "
                "seconds more for each cold search, with the same results; fieldtune index looks anew for the way",
                self.name,
                (str(error).strip().splitlines() or [type(error).__name__])[0][:300],
            )
            return None


def required(folder: Path, stored: str, fingerprint: str) -> str:
    """The name or folder of the model that meta.json names. Raises ModelError when it is not the one that made the
    vectors."""
    model = str((folder / stored).resolve()) if stored.startswith(".") else stored
    if resolve_model(model).fingerprint != fingerprint:
        raise ModelError(
            f"the model {model} is not the one that the index {folder} was made with",
            "vectors of two models cannot be compared; " + REBUILD,
        )
    return model
