"""fieldtune: a field's documents in, an embedding model that finds the right passage out, with proof."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fieldtune.index import Index

__version__ = "0.1.0"

__all__ = ["Index", "__version__"]


def __getattr__(name: str) -> Any:
    """`fieldtune.Index`, imported only where somebody asks for it: `import fieldtune` stays free of cost."""
    if name == "Index":
        from fieldtune.index import Index

        return Index
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
