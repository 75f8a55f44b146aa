"""The corpus on disk with its vectors and words, and search over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fieldtune.index.search import Index
from fieldtune.index.where import parse_where

if TYPE_CHECKING:
    from fieldtune.index.build import Base, build_index
    from fieldtune.index.choose import Choice, Dev

__all__ = ["Base", "Choice", "Dev", "Index", "build_index", "parse_where"]


def __getattr__(name: str) -> Any:
    """What builds an index is imported where it is asked for: a search from the command line needs none of it."""
    if name in ("Base", "build_index"):
        from fieldtune.index import build

        return getattr(build, name)
    if name in ("Choice", "Dev"):
        from fieldtune.index import choose

        return getattr(choose, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
