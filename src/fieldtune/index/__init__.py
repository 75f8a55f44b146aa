"""The corpus on disk with its vectors and words, and search over it."""

from fieldtune.index.asking import Asked, Asker
from fieldtune.index.build import Base, build_index
from fieldtune.index.choose import Choice
from fieldtune.index.dev import Dev
from fieldtune.index.search import Index
from fieldtune.index.signals import Given
from fieldtune.index.three import MODES
from fieldtune.index.where import parse_where

__all__ = ["MODES", "Asked", "Asker", "Base", "Choice", "Dev", "Given", "Index", "build_index", "parse_where"]
