"""Examples from start to report on real data that a package index ships: no hub, no download, no account."""

from fieldtune.demo.law import prepare_law
from fieldtune.demo.medicine import prepare_medicine

__all__ = ["prepare_law", "prepare_medicine"]
