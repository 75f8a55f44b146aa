"""A hit as a client gets it, with what to highlight."""

from __future__ import annotations

from collections.abc import Sequence

from fieldtune.evaluation.highlight import sought, spans
from fieldtune.serving.sentences import best_sentence
from fieldtune.serving.shapes import Found
from fieldtune.types import Hit

_READ = 20_000
"""Characters of a passage that are searched for the query's words."""


def found(hit: Hit, query: str = "") -> Found:
    """With a query its words and the sentence that shares most with them are marked."""
    passage = hit.passage
    text = passage.text[:_READ]
    words = spans(text, sought(query)) if query else []
    return Found(
        rank=hit.rank,
        score=round(float(hit.score), 6),
        id=passage.id,
        title=passage.title,
        text=passage.text,
        source=passage.source,
        page=passage.page,
        group=passage.group,
        start=passage.start,
        end=passage.end,
        metadata=dict(passage.metadata),
        parts={name: value if isinstance(value, int) else round(float(value), 6) for name, value in hit.parts.items()},
        words=words,
        sentence=best_sentence(text, words),
    )


def all_found(hits: Sequence[Hit], query: str = "") -> list[Found]:
    return [found(hit, query) for hit in hits]
