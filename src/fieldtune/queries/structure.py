"""Queries made from the documents' own structure, without an LLM: seeded and the same every time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from fieldtune.config import Queries
from fieldtune.console import Progress
from fieldtune.errors import InputError
from fieldtune.queries.crops import key_sentence
from fieldtune.queries.definitions import defined_terms, definition_query
from fieldtune.queries.draft import Draft
from fieldtune.queries.joining import join_drafts
from fieldtune.queries.keywords import Keywords
from fieldtune.queries.made import Made
from fieldtune.queries.references import Targets, reference_drafts, reference_targets
from fieldtune.queries.sampling import draw_passages, stable_order
from fieldtune.queries.tables import table_questions
from fieldtune.queries.topics import Topics
from fieldtune.queries.wording import language_of, read_title, sentences
from fieldtune.types import Passage

_RARE = ("definition", "reference")
"""Styles that few passages have and that are worth most; the others take turns."""


def structure_queries(settings: Queries, passages: Mapping[str, Passage], seed: int) -> Made:
    """Up to `per_passage` queries for each of up to `max_passages` passages.

    Raises InputError when the documents give none.
    """
    words = Keywords(passage.content for passage in passages.values())
    topics = Topics(passages, words)
    targets = reference_targets(passages)
    drawn = draw_passages(passages, settings.max_passages, seed)
    drafts: list[Draft] = []
    barren = 0
    with Progress("making queries", len(drawn), unit="passages") as progress:
        for key in drawn:
            made = _of_passage(key, passages[key], words, topics, targets, seed)
            chosen = _choose(made, settings.per_passage, stable_order(seed, key))
            drafts += chosen
            barren += not chosen
            progress.advance()
    queries, qrels, general = join_drafts(drafts)
    if not queries:
        raise InputError(
            "no query could be made from the documents",
            'give labels (queries.from = "labels.csv"), an LLM (queries.from = "llm"), or more text',
        )
    styles = Counter(query.style for query in queries.values())
    dropped = {"passage that gives no query": barren, "query that fits too many passages": general}
    return Made(
        "structure",
        queries,
        {"all": qrels},
        {"passages asked about": len(drawn) - barren, "queries": len(queries)}
        | {f"style {style}": count for style, count in sorted(styles.items())},
        {reason: count for reason, count in dropped.items() if count},
        ("Queries were made from the documents' own structure, without an LLM and without labels.",)
        if settings.test
        else (
            "Queries were made from the documents' own structure, without an LLM and without labels.",
            "The test set is made the same way: it compares models on these documents and does not say how well they"
            " answer the questions of people.",
        ),
        {"styles": dict(sorted(styles.items()))},
    )


def _of_passage(
    key: str, passage: Passage, words: Keywords, topics: Topics, targets: Targets, seed: int
) -> Iterator[Draft]:
    """All that can be made of one passage, each style at most twice."""
    language = language_of(passage.text)
    parts = list(sentences(passage.text))
    turn = int(stable_order(seed, key)[:8], 16)
    title = read_title(passage.title)
    for term in list(dict.fromkeys(defined_terms(parts, language)))[:2]:
        yield Draft(definition_query(term, language, turn), (key,), "definition")
    yield from list(reference_drafts(key, passage, parts, targets, language))[:2]
    topic = topics.query(key)
    if topic is not None:
        yield topic
    crop = key_sentence(parts, passage.text, words, language)
    if crop is not None:
        yield Draft(crop.text, (key,), "crop", (crop.start, crop.end))
    # The label that the fewest passages have tells most.
    asked = sorted(table_questions(passage.text, title.document, language), key=words.rarity, reverse=True)
    for question in asked[:2]:
        yield Draft(question, (key,), "table")
    phrases = words.phrases(passage.text, 3)
    if len(phrases) > 1:
        yield Draft(" ".join(phrases), (key,), "keywords")


def _choose(made: Iterator[Draft], count: int, order: str) -> list[Draft]:
    """The rare styles first, then the others in an order of the passage's own, a style twice only at the end."""
    drafts = list(made)
    number: Counter[str] = Counter()
    ranked = []
    for draft in drafts:
        number[draft.style] += 1
        rare = draft.style in _RARE
        ranked.append((number[draft.style], not rare, stable_order(0, order + draft.style), draft))
    return [draft for *_, draft in sorted(ranked, key=lambda item: item[:3])][:count]
