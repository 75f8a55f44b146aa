"""The corpus on disk with its vectors and words, and search over it."""

from fieldtune.index.build import Base, build_index
from fieldtune.index.choose import Choice, Dev
from fieldtune.index.search import Index
from fieldtune.index.where import parse_where

__all__ = ["Base", "Choice", "Dev", "Index", "build_index", "parse_where"]
