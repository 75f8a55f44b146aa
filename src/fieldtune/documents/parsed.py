"""What a reader of one format hands back, and the error it raises for a file it cannot use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fieldtune.types import Block


class UnreadableError(Exception):
    """One file cannot be read: `cause` says why, `cure` what the user can do; recorded, never fatal to the run."""

    def __init__(self, cause: str, cure: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.cure = cure


@dataclass(frozen=True, slots=True)
class Parsed:
    """One document out of a file: a whole file, one part of a very long one, or one row of ready passages."""

    title: str
    blocks: tuple[Block, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Report:
    """What reading one file had to say besides its documents; every field is JSON-able."""

    pages: int = 0
    rows_dropped: dict[str, int] = field(default_factory=dict)
    """Rows of a table of ready passages that were left out: reason -> how many."""
    empty_pages: list[int] = field(default_factory=list)
    """1-based pages without any text: blank or scanned."""
    lossy_pages: list[dict[str, Any]] = field(default_factory=list)
    """Pages that lost more words than allowed: page, words, lost (share), recovered."""
    running_lines: dict[str, int] = field(default_factory=dict)
    """Running headers and footers that were taken out: text -> on how many pages."""
    notes: list[str] = field(default_factory=list)
