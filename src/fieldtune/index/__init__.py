"""The corpus on disk with its vectors, and search over it."""

from fieldtune.index.build import build_index
from fieldtune.index.search import Index

__all__ = ["Index", "build_index"]
