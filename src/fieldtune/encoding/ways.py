"""The ways to a corpus' vectors: the model as it is, or one of the engines in one of its formats."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.conversions import conversion
from fieldtune.encoding.encoder import Encoder
from fieldtune.encoding.engine import FORMATS, Backend, Format, installed, require
from fieldtune.encoding.exported import load_export, write_export
from fieldtune.encoding.fast import Encodes, with_torch
from fieldtune.errors import ModelError
from fieldtune.types import Side
from fieldtune.workspace import digest

if TYPE_CHECKING:
    from fieldtune.config import Encoding

_MEMORY = 4
"""Times its weights that a model with all its engines may take, being measured."""


@dataclass(frozen=True, slots=True)
class Way:
    backend: Literal["model", "torch", "onnx", "openvino"]
    """model: `Encoder`, one forward pass at a time over all processors."""
    precision: Format

    @property
    def name(self) -> str:
        return f"{self.backend} {self.precision}"


class Passages:
    """Passages by a way, queries by the model as it is; what `cached_vectors` knows their vectors by."""

    def __init__(
        self, encoder: Encoder, way: Way, calibration: Sequence[str] = (), fast: Encodes | None = None
    ) -> None:
        """`calibration` are the texts that int8 is calibrated on; without `fast`, vectors can be read and not made."""
        self._encoder, self._fast = encoder, fast
        self.name, self.dimension, self.fingerprint = (
            f"{encoder.name} ({way.name})",
            encoder.dimension,
            encoder.fingerprint,
        )
        how = [way.name, digest(list(calibration)) if way.precision == "int8" else ""]
        self.passage_fingerprint = digest([encoder.passage_fingerprint, *how])

    def encode(
        self, texts: Sequence[str], side: Side, *, advance: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Unit vectors (len(texts), dimension)."""
        return self._by(side).encode(texts, side, advance=advance)

    def stream(
        self, texts: Iterable[str], side: Side, *, advance: Callable[[int], None] | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """The same, block by block."""
        return self._by(side).stream(texts, side, advance=advance)

    def _by(self, side: Side) -> Encodes:
        return self._encoder if side == "query" or self._fast is None else self._fast


def known_as(encoder: Encoder, way: Way, calibration: Sequence[str] = (), fast: Encodes | None = None) -> Encodes:
    return encoder if way.backend == "model" else Passages(encoder, way, calibration, fast)


def why_plain(encoder: Encoder) -> str:
    """Why only the model itself can encode, in words that follow a colon; empty where engines can too."""
    if not encoder.device.startswith("cpu"):
        return f"it is on {encoder.device}, and the engines are for processors"
    if encoder.tokens is None or encoder.routed:
        return "it does not take token ids alone for all texts"
    if encoder.shares_weights:
        return "it shares its weights with the base that its adapter stands on"
    weights = sum(weight.numel() * weight.element_size() for weight in encoder.model.parameters())
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    if total and weights * _MEMORY > total:
        return "its weights do not fit into memory as often as that takes"
    return ""


def ways_of(settings: Encoding, encoder: Encoder) -> tuple[Way, ...]:
    """What the settings leave to choose from, the simplest way first, which needs nothing to be set up.

    One way where a backend or int8 is asked for by name. Raises MissingExtraError or ConfigError where it is not to be
    had, as `engine.require` does.
    """
    own = cast(Format, encoder.precision)  # on a processor there is no fp16
    wanted = own if settings.precision == "auto" else settings.precision
    if settings.backend != "auto":
        named: Backend = settings.backend
        if settings.precision == "auto" and wanted not in FORMATS[named]:
            wanted = "fp32"
        return (Way(named, require(named, wanted)),)
    if wanted == "int8":
        backend: Backend = "onnx" if installed("onnx") and not installed("openvino") else "openvino"
        return (Way(backend, require(backend, "int8")),)
    exported: tuple[Backend, ...] = ("openvino", "onnx")
    engines = [Way("torch", wanted)]
    engines += [Way(backend, wanted) for backend in exported if wanted in FORMATS[backend] and installed(backend)]
    return (*([Way("model", own)] if wanted == own else []), *engines)


@contextmanager
def opened(encoder: Encoder, way: Way, folder: Path, calibration: Sequence[str] = ()) -> Iterator[Encodes]:
    """The way set up with the model's weights. A converted graph is taken from the user's cache folder, or put there.

    Of a model without a fingerprint it lies in `folder` as long as it is used.

    Raises ModelError for a model that the backend cannot run, MissingExtraError where it is not installed.
    """
    if way.backend == "model":
        yield encoder
    elif way.backend == "torch":
        try:
            made = with_torch(encoder, way.precision)
        except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
            raise ModelError(f"{encoder.name} cannot be cast to {way.precision}: {error}", "take fp32") from error
        yield made
    elif (kept := conversion(encoder, way.backend, way.precision, calibration)) is not None:
        yield kept
    else:
        folder.mkdir(parents=True, exist_ok=True)
        # Named as what a killed run leaves and the next one takes away.
        place = tempfile.TemporaryDirectory(prefix=".engine.", suffix=".tmp", dir=folder, ignore_cleanup_errors=True)
        with place as name:
            write_export(encoder, way.backend, way.precision, Path(name), calibration)
            yield load_export(Path(name))
