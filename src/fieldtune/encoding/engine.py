"""What computes vectors from token ids, and which of its kinds a machine has: torch, ONNX Runtime or OpenVINO."""

from __future__ import annotations

import importlib.util
import os
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.precision import has_bf16
from fieldtune.errors import ConfigError, MissingExtraError

Backend = Literal["torch", "onnx", "openvino"]
Format = Literal["fp32", "bf16", "int8"]
FormatSetting = Literal["auto", "fp32", "bf16", "int8"]

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]

FORMATS: dict[Backend, tuple[Format, ...]] = {
    "torch": ("fp32", "bf16"),
    "onnx": ("fp32", "int8"),  # ONNX Runtime has no bf16 products on a processor
    "openvino": ("fp32", "bf16", "int8"),
}
_PACKAGES: dict[Backend, tuple[str, ...]] = {"torch": (), "onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",)}


class Engine(Protocol):
    """A model with its pooling, ready to run; `forward` is called from `workers` threads at once."""

    backend: Backend
    precision: Format
    workers: int
    budget: int
    """Padded tokens per call."""

    def threads(self) -> AbstractContextManager[Executor]:
        """The pool of `workers` threads that forward passes run in."""

    def forward(self, ids: Ids, mask: Ids) -> Floats:
        """Unit vectors (n, dimension) of n texts padded on the right, (n, tokens) each."""


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def installed(backend: Backend) -> bool:
    return all(importlib.util.find_spec(package) for package in _PACKAGES[backend])


def require(backend: Backend, precision: FormatSetting) -> Format:
    """The format that a backend computes in here.

    Raises MissingExtraError where its packages are not installed, ConfigError for a format that it does not have.
    """
    for package in _PACKAGES[backend]:
        if not importlib.util.find_spec(package):
            raise MissingExtraError(package, "fast")
    if precision == "int8" and not importlib.util.find_spec("nncf"):
        raise MissingExtraError("nncf", "fast")
    if precision == "auto":
        return "bf16" if "bf16" in FORMATS[backend] and has_bf16("cpu") else "fp32"
    if precision not in FORMATS[backend]:
        with_it = " or ".join(name for name, formats in FORMATS.items() if precision in formats)
        raise ConfigError(f"the backend {backend} has no {precision}", f"take {with_it}, or another precision")
    return precision
