"""Leaks by passages: relevant ones of the test set that training has seen, as right or wrong, whole or in part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from fieldtune.beir import RetrievalData
from fieldtune.corpus.shingling import words
from fieldtune.dataset.leaks import query_terms
from fieldtune.evaluation.alike import Vocabulary, is_filled_in, rarity
from fieldtune.evaluation.copied import copies
from fieldtune.evaluation.known import Known, plain
from fieldtune.evaluation.leakage import Pair

_WORDS = 20  # a text of fewer words is compared with its title
_SHARED = 3  # so is a text that more passages have in common: a place in an outline, and not what a passage says

Holders = Mapping[str, Sequence[str]]
"""Relevant passage -> the measured queries that it answers."""


def passage_leaks(
    data: RetrievalData, holders: Holders, known: Known, corpus: Vocabulary, threshold: float
) -> dict[str, list[Pair]]:
    """Kind of leak -> the queries it touches, for the relevant passages of the measured queries and one other side."""
    found = {
        "passage": _same(data, holders, {key: (name, content) for key, (name, _, content) in known.passages.items()}),
        "document": _documents(data, holders, known),
        "negative": _same(data, holders, {key: (name, content) for key, (name, _, content) in known.negatives.items()}),
    }
    exact = {kind: {pair.query for pair in found[kind]} for kind in ("passage", "negative")}
    for kind, others in (("passage", known.passages), ("negative", known.negatives)):
        verbatim, near = _copied(data, holders, list(others.values()), corpus, threshold)
        found[kind] += [pair for pair in verbatim if pair.query not in exact[kind]]
        touched = {pair.query for pair in found[kind]}
        found[f"near {kind}"] = [pair for pair in near if pair.query not in touched]
    return found


def shared_group(data: RetrievalData, key: str, known: Known) -> str:
    """The document of a passage where the other side has relevant passages in it too, else ""."""
    group = data.passages[key].group
    return group if group in known.documents else ""


def _same(data: RetrievalData, holders: Holders, others: Mapping[str, tuple[str, str]]) -> list[Pair]:
    """Word for word, with the title or, as some training data have it, without."""
    pairs = []
    for key, queries in holders.items():
        passage = data.passages[key]
        if found := others.get(plain(passage.content)):
            pairs += [Pair(query, passage.content, *found) for query in queries]
    return pairs


def _copied(
    data: RetrievalData,
    holders: Holders,
    others: Sequence[tuple[str, str, str]],
    corpus: Vocabulary,
    threshold: float,
) -> tuple[list[Pair], list[Pair]]:
    """The same text under another title, and near-duplicates, without templates that are filled in otherwise."""
    known = {plain(content) for _, _, content in others}
    rest = [key for key in holders if plain(data.passages[key].content) not in known]
    spread = Counter(plain(passage.text) for passage in data.passages.values())
    own = [_compared(data.passages[key].text, data.passages[key].content, spread) for key in rest]
    found = copies(own, [_compared(text, content, spread) for _, text, content in others], threshold)
    # A template about another thing is no copy: both passages with their titles, by their rarest words.
    here = {row: query_terms(data.passages[rest[row]].content) for row in found}
    there = {column: query_terms(others[column][2]) for links in found.values() for _, column in links}
    wanted = {term for terms in (*here.values(), *there.values()) for term in terms}
    weights = rarity(wanted, corpus)
    verbatim: list[Pair] = []
    near: list[Pair] = []
    for row, links in sorted(found.items()):
        real = next((link for link in links if not is_filled_in(here[row], there[link[1]], weights)), None)
        if real is None:
            continue
        similarity, column = real
        name, text, content = others[column]
        passage = data.passages[rest[row]]
        same = plain(passage.text) in (plain(text), plain(content)) and own[row] == passage.text
        pairs = [Pair(query, passage.content, name, content, similarity) for query in holders[rest[row]]]
        (verbatim if same else near).extend(pairs)
    return verbatim, near


def _compared(text: str, content: str, spread: Mapping[str, int]) -> str:
    """The text alone, where it is the passage's own; else with the title that tells the passage from others."""
    return text if len(words(text)) >= _WORDS and spread[plain(text)] <= _SHARED else content


def _documents(data: RetrievalData, holders: Holders, known: Known) -> list[Pair]:
    pairs = []
    for key, queries in holders.items():
        if group := shared_group(data, key, known):
            pairs += [Pair(query, key, known.documents[group], group) for query in queries]
    return pairs
