"""A passage in its document: the texts around it, without what two neighbours share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from markupsafe import Markup, escape

from fieldtune.evaluation.highlight import script
from fieldtune.serving.page.shown import with_sentence
from fieldtune.types import Passage


@dataclass(frozen=True, slots=True)
class Piece:
    id: str
    title: str
    """Empty where it is that of the piece before."""
    text: Markup
    language: str
    page: int | None
    """None where it is that of the piece before."""
    own: bool
    """Whether it is the passage that was asked for."""


def in_context(passages: Sequence[Passage], wanted: str, query: str) -> list[Piece]:
    """The passages of `Index.around` as they read on from one another, the wanted one with the query's words marked."""
    pieces: list[Piece] = []
    following = {one.id: other for one, other in pairwise(passages) if other.id == wanted}
    before: Passage | None = None
    for one in passages:
        own = one.id == wanted
        text = one.text if own else _without(one, before, following.get(one.id))
        title = one.title if before is None or before.title != one.title else ""
        page = one.page if before is None or before.page != one.page else None
        before = one
        if not text.strip() and not own:
            continue
        shown = with_sentence(text, query) if own and query else escape(text)
        pieces.append(Piece(one.id, title, shown, script(text[:1_000]), page, own))
    return pieces


def _without(one: Passage, before: Passage | None, wanted: Passage | None) -> str:
    """The text without what the passage before ends in, or what the one that was asked for begins with."""
    if wanted is not None and one.end is not None and wanted.start is not None:
        shared = one.end - wanted.start
        if 0 < shared < len(one.text) and wanted.text.startswith(one.text[-shared:]):
            return _without(replace(one, text=one.text[:-shared], end=wanted.start), before, None)
    if before is None or one.start is None or before.end is None:
        return one.text
    shared = before.end - one.start
    return one.text[shared:].lstrip() if shared > 0 and before.text.endswith(one.text[:shared]) else one.text
