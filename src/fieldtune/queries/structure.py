"""Queries made from the documents' own structure, without an LLM: seeded and the same every time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from fieldtune.config import Queries, QueryKind
from fieldtune.console import Progress
from fieldtune.errors import InputError
from fieldtune.queries.asked import asked_questions
from fieldtune.queries.aspects import Aspects
from fieldtune.queries.crops import Frames, key_sentence
from fieldtune.queries.definitions import defined_terms, definition_query
from fieldtune.queries.draft import Draft
from fieldtune.queries.facts import fact_questions
from fieldtune.queries.han_asks import legality_questions, limit_questions, list_questions, purpose_questions
from fieldtune.queries.joining import MOST_PASSAGES, join_drafts
from fieldtune.queries.keywords import Keywords
from fieldtune.queries.made import Made
from fieldtune.queries.plain import plainly
from fieldtune.queries.reasons import reason_questions
from fieldtune.queries.references import Targets, reference_drafts, reference_targets
from fieldtune.queries.rules import condition_questions, permission_questions
from fieldtune.queries.sampling import draw_passages, stable_order
from fieldtune.queries.tables import table_captions, table_questions
from fieldtune.queries.topics import Topics
from fieldtune.queries.wording import Language, language_of, naming, read_title, sentences
from fieldtune.types import Passage

# How likely a kind is to be taken where a passage gives several: questions as people ask them before pieces of the
# text, and what few passages give before what all give.
_WEIGHTS: Mapping[QueryKind, float] = {
    "question": 8,
    "definition": 8,
    "condition": 8,
    "reason": 6,
    "aspect": 6,
    "table": 5,
    "permission": 4,
    "caption": 4,
    "reference": 4,
    "title": 2,
    "crop": 1.5,
    "keywords": 1,
}

_ASKED: Mapping[Language, frozenset[str]] = {
    "zh": frozenset({"condition", "permission", "aspect", "reason"}),
    # An aspect names the thing as its title does, and so do those who ask.
    "en": frozenset({"condition", "permission", "reason"}),
    "other": frozenset(),
}
"""Kinds that are questions of our wording, by language."""


@dataclass(frozen=True, slots=True)
class _Field:
    """What is known of the whole corpus."""

    words: Keywords
    topics: Topics
    aspects: Aspects
    targets: Targets
    frames: Frames


def structure_queries(settings: Queries, passages: Mapping[str, Passage], seed: int) -> Made:
    """Up to `per_passage` queries for each of up to `max_passages` passages.

    Raises InputError when the documents give none.
    """
    words = Keywords([passage.content for passage in passages.values()])
    frames = Frames(passage.text for passage in passages.values())
    field = _Field(words, Topics(passages, words), Aspects(passages), reference_targets(passages), frames)
    kinds = settings.kinds or tuple(_WEIGHTS)
    drawn = draw_passages(passages, settings.max_passages, seed)
    drafts: list[Draft] = []
    barren = 0
    giving: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    with Progress("making queries", len(drawn), unit="passages") as progress:
        for key in drawn:
            made = [draft for draft in _of_passage(key, passages[key], field, seed) if draft.style in kinds]
            giving.update({draft.style for draft in made})
            full = _full(taken, max(settings.max_kind_share, 1 / len(kinds)))
            chosen = _choose(made, settings.per_passage, stable_order(seed, key), full)
            taken.update(draft.style for draft in chosen)
            drafts += chosen
            barren += not chosen
            progress.advance()
    queries, qrels, general = join_drafts(drafts)
    if not queries and general:
        raise InputError(
            f"no query tells the {len(passages):,} passages apart: each of the {general:,} that could be made fits more"
            f" than {MOST_PASSAGES} of them, for they are the same text or nearly so",
            "give documents that say different things; copies of one text teach and prove nothing",
        )
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
        {"kinds": _account(kinds, giving, drafts, styles, len(drawn))},
    )


def _account(
    kinds: Iterable[str], giving: Mapping[str, int], drafts: list[Draft], styles: Mapping[str, int], drawn: int
) -> dict[str, dict[str, float]]:
    """Of each kind: how many passages give it, how often it was taken, and its share in the queries."""
    taken = Counter(draft.style for draft in drafts)
    total = sum(styles.values())
    return {
        kind: {
            "passages that give it": giving.get(kind, 0),
            "yield": round(giving.get(kind, 0) / max(1, drawn), 4),
            "taken": taken[kind],
            "queries": styles.get(kind, 0),
            "share": round(styles.get(kind, 0) / max(1, total), 4),
        }
        for kind in kinds
    }


def _of_passage(key: str, passage: Passage, field: _Field, seed: int) -> Iterator[Draft]:
    """All that can be made of one passage; what it says of itself names the document instead of "this Act"."""
    title = read_title(passage.title)
    language = language_of(passage.text)
    for draft in _drafts(key, passage, field, seed):
        text = naming(" ".join(draft.text.split()), title, language)
        # Half of the questions in the words of the text, half in those of somebody who has not read it.
        if draft.style in _ASKED[language] and int(stable_order(seed, key + text)[0], 16) % 2:
            text = plainly(text, language)
        yield replace(draft, text=text)


def _drafts(key: str, passage: Passage, field: _Field, seed: int) -> Iterator[Draft]:
    language = language_of(passage.text)
    parts = list(sentences(passage.text))
    turn = int(stable_order(seed, key)[:8], 16)
    title = read_title(passage.title)
    for question, span in list(asked_questions(parts, title, language))[:2]:
        yield Draft(question, (key,), "question", span)
    for term in list(dict.fromkeys(defined_terms(parts, language)))[:2]:
        yield Draft(definition_query(term, language, turn), (key,), "definition")
    for question in list(condition_questions(parts, language, turn))[:2]:
        yield Draft(question, (key,), "condition")
    for question in list(reason_questions(parts, language))[:2]:
        yield Draft(question, (key,), "reason")
    for question in list(permission_questions(parts, language, turn, rules=bool(title.number)))[:2]:
        yield Draft(question, (key,), "permission")
    if language == "zh":
        for question in list(list_questions(parts, turn))[:2] + list(limit_questions(parts, turn))[:2]:
            yield Draft(question, (key,), "aspect")
        for question in list(legality_questions(parts, turn))[:2]:
            yield Draft(question, (key,), "permission")
        for question in list(purpose_questions(parts, title.document if title.number else "", turn))[:1]:
            yield Draft(question, (key,), "reason")
    elif language == "en":
        for question in list(fact_questions(parts, title.document, turn))[:2]:
            yield Draft(question, (key,), "aspect")
    yield from field.aspects.queries(key, passage, turn)
    yield from list(reference_drafts(key, passage, parts, field.targets, language))[:2]
    for caption in list(dict.fromkeys(table_captions(passage.text, language)))[:2]:
        yield Draft(caption, (key,), "caption")
    # The label that the fewest passages have tells most.
    asked = table_questions(passage.text, title.document, language, turn)
    for question in sorted(asked, key=field.words.rarity, reverse=True)[:3]:
        yield Draft(question, (key,), "table")
    topic = field.topics.query(key)
    if topic is not None:
        yield topic
    crop = key_sentence(parts, passage.text, field.words, language, field.frames)
    if crop is not None:
        yield Draft(crop.text, (key,), "crop", (crop.start, crop.end))
    phrases = field.words.phrases(passage.text, 3)
    if len(phrases) > 1:
        yield Draft(" ".join(phrases), (key,), "keywords")


def _full(taken: Mapping[str, int], share: float) -> frozenset[str]:
    """The kinds that have their share of what was taken so far."""
    most = share * max(20, sum(taken.values()))
    return frozenset(kind for kind, count in taken.items() if count >= most)


def _choose(drafts: Iterable[Draft], count: int, order: str, full: frozenset[str] = frozenset()) -> list[Draft]:
    """Draw without replacement by weight (Efraimidis and Spirakis, 2006); a kind's second one weighs a third.

    A kind that is `full` comes last, and only for a passage that would have no query otherwise.
    """
    number: Counter[str] = Counter()
    ranked: list[tuple[float, int, Draft]] = []
    weights = {str(kind): weight for kind, weight in _WEIGHTS.items()}
    for draft in drafts:
        weight = weights[draft.style] / 3 ** number[draft.style]
        number[draft.style] += 1
        chance = (int(stable_order(number[draft.style], order + draft.style)[:12], 16) + 1) / (16**12 + 1)
        ranked.append((-math.log(chance) / weight, len(ranked), draft))
    drawn = [draft for *_, draft in sorted(ranked, key=lambda item: (item[2].style in full, *item[:2]))]
    return [draft for place, draft in enumerate(drawn[:count]) if place == 0 or draft.style not in full]
