"""A hit as the page shows it: every text escaped, the query's words marked, and why it was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import regex
from markupsafe import Markup, escape

from fieldtune.evaluation.highlight import excerpt, highlighted, script, sought, spans
from fieldtune.lexical import tokenize
from fieldtune.serving.grounding import CITED
from fieldtune.serving.sentences import best_sentence
from fieldtune.serving.shapes import AnswerAnswer
from fieldtune.types import Hit, Passage

_READ = 20_000
_SHARED = 8


@dataclass(frozen=True, slots=True)
class Why:
    """What a score is made of; None for what the search did not look at."""

    dense: float | None
    dense_rank: int | None
    words: float | None
    words_share: float
    """Of the highest among the results, 0 to 1."""
    words_rank: int | None
    sparse: float | None
    """Learned word weights."""
    sparse_rank: int | None
    multi: float | None
    """Token vectors."""
    rerank: float | None
    shared: tuple[str, ...]
    """Words of the query as they stand in the passage."""


@dataclass(frozen=True, slots=True)
class Shown:
    rank: int
    id: str
    path: str
    """What the title's last part stands under."""
    name: Markup
    text: Markup
    language: str
    """Of the text, for the browser; empty where it is the page's."""
    source: str
    page: int | None
    score: float
    why: Why


def shown(hits: Sequence[Hit], query: str) -> list[Shown]:
    """Results with the part of each passage that has most of the query's words."""
    return [_shown(hit, excerpts(hit.passage.text, query), query, hits) for hit in hits]


def cited(hits: Sequence[Hit], query: str) -> list[Shown]:
    """Passages whole, each with the sentence that comes closest to the question marked."""
    return [_shown(hit, with_sentence(hit.passage.text, query), query, hits) for hit in hits]


def excerpts(text: str, query: str) -> Markup:
    wanted = sought(query)
    return highlighted(excerpt(text[:_READ], wanted), wanted)


def in_title(title: str, query: str) -> Markup:
    return highlighted(title, sought(query))


def with_sentence(text: str, query: str) -> Markup:
    """The text as HTML: words in <mark>, the sentence with most of them in <b class="sentence">."""
    head = text[:_READ]
    words = spans(head, sought(query))
    sentence = best_sentence(head, words)
    if sentence is None or sentence == (0, len(text.strip())):
        return marked(text, words)
    start, end = sentence
    return (
        marked(text[:start], [(a, b) for a, b in words if b <= start])
        + Markup('<b class="sentence">')
        + marked(text[start:end], [(a - start, b - start) for a, b in words if start <= a and b <= end])
        + Markup("</b>")
        + marked(text[end:], [(a - end, b - end) for a, b in words if a >= end])
    )


def marked(text: str, words: Sequence[tuple[int, int]]) -> Markup:
    out, at = Markup(""), 0
    for start, end in words:
        out += escape(text[at:start]) + Markup("<mark>") + escape(text[start:end]) + Markup("</mark>")
        at = end
    return out + escape(text[at:])


def answer_html(answer: AnswerAnswer, unsupported: str) -> Markup:
    """An LLM's text with each [n] as a link to the n-th passage, and sentences that nothing supports marked."""
    out, at = Markup(""), 0
    for one in answer.sentences:
        out += _links(answer.answer[at : one.start], len(answer.passages))
        said = _links(answer.answer[one.start : one.end], len(answer.passages))
        if one.supported:
            out += said
        else:
            why = unsupported.format(why=one.reason)
            out += Markup('<span class="unsupported" title="{}">{}<small>{}</small></span>').format(why, said, why)
        at = one.end
    return out + _links(answer.answer[at:], len(answer.passages))


def _links(text: str, passages: int) -> Markup:
    out, at = Markup(""), 0
    for match in CITED.finditer(text):
        out += escape(text[at : match.start()]) + Markup("[")
        place = match.start(1)
        for number in regex.finditer(r"\d+", match[1]):
            out += escape(text[place : match.start(1) + number.start()])
            known = 1 <= int(number[0]) <= passages
            out += Markup('<a class="cite" href="#p{0}">{0}</a>').format(number[0]) if known else escape(number[0])
            place = match.start(1) + number.end()
        out += escape(text[place : match.end()])
        at = match.end()
    return out + escape(text[at:])


def split_title(passage: Passage) -> tuple[str, str]:
    """What a title's last part stands under, and the last part."""
    above, _, last = passage.title.rpartition(" > ")
    return above.replace(" > ", " › "), last or passage.id


def _shown(hit: Hit, text: Markup, query: str, hits: Sequence[Hit]) -> Shown:
    passage = hit.passage
    path, name = split_title(passage)
    return Shown(
        hit.rank, passage.id, path, in_title(name, query), text, script(passage.text[:1_000]), passage.source,
        passage.page, hit.score,
        _why(hit, query, max((one.parts.get("words", 0.0) for one in hits), default=0.0)),
    )  # fmt: skip


def _why(hit: Hit, query: str, most: float) -> Why:
    parts = hit.parts
    ranks = {name: int(parts[name]) for name in ("dense_rank", "words_rank", "sparse_rank") if name in parts}
    words = parts.get("words")
    return Why(
        parts.get("dense"), ranks.get("dense_rank"), words, (words or 0.0) / most if most else 0.0,
        ranks.get("words_rank"), parts.get("sparse"), ranks.get("sparse_rank"), parts.get("multi"),
        parts.get("rerank"), _shared(hit.passage.content[:_READ], query),
    )  # fmt: skip


def _shared(text: str, query: str) -> tuple[str, ...]:
    """Words of the query that stand in the text, as they are written there, each once."""
    found: dict[frozenset[str], str] = {}
    for start, end in spans(text, sought(query)):
        word = text[start:end]
        found.setdefault(frozenset(tokenize(word)), word)
    return tuple(list(found.values())[:_SHARED])
