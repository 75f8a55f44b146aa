"""What is installed here that results depend on."""

from __future__ import annotations

import importlib.metadata
import platform

from fieldtune import __version__

PACKAGES = (
    "torch",
    "sentence-transformers",
    "transformers",
    "tokenizers",
    "numpy",
    "scipy",
    "lancedb",
    "liteparse",
    "openvino",
    "onnxruntime",
    "nncf",
    "datasets",
)


def versions() -> dict[str, str]:
    """Python, fieldtune, and the packages that the numbers depend on; one that is not installed is left out."""
    found = {"python": platform.python_version(), "fieldtune": __version__}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
