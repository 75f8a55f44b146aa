"""The corpus on disk with its vectors and words, and search over it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fieldtune.index.asking import Asked, Asker
from fieldtune.index.search import Index
from fieldtune.index.three import MODES
from fieldtune.index.where import parse_where

if TYPE_CHECKING:
    from fieldtune.index.build import Base, build_index
    from fieldtune.index.choose import Choice
    from fieldtune.index.dev import Dev
    from fieldtune.index.signals import Given

__all__ = ["MODES", "Asked", "Asker", "Base", "Choice", "Dev", "Given", "Index", "build_index", "parse_where"]

_LATER = {"Base": "build", "build_index": "build", "Choice": "choose", "Dev": "dev", "Given": "signals"}


def __getattr__(name: str) -> Any:
    """What builds an index is imported where it is asked for: a search from the command line needs none of it."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"fieldtune.index.{_LATER[name]}"), name)
