"""One query made from a passage, before it is checked against the others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Draft:
    text: str
    passages: tuple[str, ...]
    """Ids of the passages that answer it."""
    style: str
    crop: tuple[int, int] | None = None
    """Where the text stands word for word in its last passage, so that training can cut it out there."""
