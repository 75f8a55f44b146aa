"""Divide labelled queries into train, dev and test so that nothing of one side is known on another."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fieldtune.config import SplitConfig
from fieldtune.dataset.leaks import audit_split, passage_links, positives_of, query_links
from fieldtune.dataset.parts import Sets, deal
from fieldtune.errors import InputError
from fieldtune.types import SPLITS, Passage, Qrels, Query, Result, Split

__all__ = ["audit_split", "split_queries"]

_LISTED = 500
"""Dropped queries named one by one in the result; the counts are always whole."""
_CLOSE = 0.6
"""A side is close to its wanted size from this share of it on."""
_MAX_LOSS = 0.15
"""A way to split that drops more than this share of the queries gives way to the next, finer one."""
_PRIORITY: tuple[Split, ...] = ("test", "dev", "train")
"""Where two sides cannot both keep a query, the earlier one does: a query is missed least in training."""

_ABOVE = re.compile(r"[（(]([^（(]+)[)）]$")


@dataclass(frozen=True, slots=True)
class _Links:
    positives: Mapping[str, Sequence[str]]
    """Query id -> its relevant passages."""
    passages: Sequence[tuple[str, str]]
    queries: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to form the parts that are dealt to the sides whole."""

    said: str
    part: Callable[[str], str]
    """Passage id -> the part it belongs to."""
    join_queries: bool = True
    """Join the parts that a query has positives in; else the query is dropped where they land on two sides."""
    join_duplicates: bool = True
    """Join the parts that near-duplicates lie in; else the queries in conflict are dropped."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    way: _Way
    sides: Mapping[str, Split]
    """Query id -> side, of the queries that are kept."""
    dropped: Mapping[str, str]
    """Query id -> reason."""
    parts: Mapping[Split, int]
    joined: int
    """Parts that had to move together with another."""


def split_queries(
    passages: Mapping[str, Passage],
    queries: Mapping[str, Query],
    qrels: Qrels,
    config: SplitConfig,
    seed: int,
    duplicates: Mapping[str, Sequence[str]] | None = None,
    *,
    near_duplicate_passage: float = 0.9,
    relevance_threshold: int = 1,
) -> tuple[dict[str, Qrels], Result]:
    """Divide by document group: no labelled passage, near-duplicate of one or near-duplicate query on two sides.

    Parts (document groups, or without groups the passages that share a query) tied to each other move together. Where
    ties would leave a side without its share, ever finer parts are tried: near-duplicate queries dropped instead of
    tying documents, then headings inside big documents, then passages. `duplicates` maps a passage to its known
    copies. The same input and seed give the same split whatever the order of the mappings.

    Returns the qrels by side (a side with a wanted share of 0 is left out), grades below the threshold included.
    Raises InputError when the labels do not suffice for the wanted sides.
    """
    shares = _shares(config)
    known = {
        query: {passage: grade for passage, grade in row.items() if passage in passages}
        for query, row in qrels.items()
        if query in queries
    }
    positives = {query: sorted(found) for query, found in sorted(positives_of(known, relevance_threshold).items())}
    labelled = sorted({passage for found in positives.values() for passage in found})
    links = _Links(
        positives,
        passage_links(passages, labelled, near_duplicate_passage, seed, duplicates),
        query_links(queries, positives, config.near_duplicate_query),
    )
    outcome = _first_good(_ways(passages, positives), links, shares, seed)
    if outcome is None:
        raise InputError(
            f"{len(positives)} labelled queries on {len(labelled)} passages do not divide into {', '.join(shares)}"
            " without a leak",
            "label more passages, or set split.dev = 0 or split.test = 0 and evaluate on other data",
        )
    split: dict[str, Qrels] = {side: {} for side in shares}
    for query in known:  # the order of the given qrels
        if query in outcome.sides:
            split[outcome.sides[query]][query] = known[query]
    unlabelled = len(qrels) - len(positives)
    return split, _result(outcome, split, shares, unlabelled)


def clear_of_test(
    passages: Mapping[str, Passage],
    queries: Mapping[str, Query],
    sides: Mapping[str, Qrels],
    config: SplitConfig,
    seed: int,
    duplicates: Mapping[str, Sequence[str]] | None = None,
    *,
    near_duplicate_passage: float = 0.9,
    relevance_threshold: int = 1,
) -> tuple[dict[str, Qrels], dict[str, int]]:
    """Given sides without the train and dev queries that know a passage or the words of a side before theirs.

    A query goes when one of its passages is, or nearly repeats, a passage labelled in test (for train: or in dev), or
    when it nearly repeats such a query. Test itself stays whole. Returns the sides and reason -> how many went.
    """
    positives: dict[str, list[str]] = {}
    kept: dict[str, Split] = {}
    for side in SPLITS:
        for query, found in positives_of(sides.get(side, {}), relevance_threshold).items():
            positives[query], kept[query] = sorted(found), side
    labelled = sorted({passage for found in positives.values() for passage in found})
    links = _Links(
        positives,
        passage_links(passages, labelled, near_duplicate_passage, seed, duplicates),
        query_links(queries, sorted(positives), config.near_duplicate_query),
    )
    dropped = _drop_leaks(kept, links)
    cleared = {side: {q: row for q, row in rows.items() if q not in dropped} for side, rows in sides.items()}
    return cleared, dict(sorted(Counter(dropped.values()).items()))


def _shares(config: SplitConfig) -> dict[Split, float]:
    train = 1 - config.dev - config.test
    wanted: dict[Split, float] = {"train": train, "dev": config.dev, "test": config.test}
    return {side: wanted[side] for side in SPLITS if wanted[side] > 0}


def _ways(passages: Mapping[str, Passage], positives: Mapping[str, Sequence[str]]) -> list[_Way]:
    """The ways to split, coarse to fine."""
    load = Counter(group for found in positives.values() for group in {passages[p].group or p for p in found})
    big = {group for group, count in load.items() if count > 0.05 * len(positives)}

    def document(passage: str) -> str:
        return passages[passage].group or passage

    def heading(passage: str) -> str:
        group = document(passage)
        return f"{group}\n{_top_heading(passages[passage].title)}" if group in big else group

    def itself(passage: str) -> str:
        return passage if document(passage) in big else document(passage)

    return [
        _Way("by document group", document),
        _Way("by document group, dropping near-duplicates instead of tying documents", document, True, False),
        _Way("by top heading inside big documents", heading),
        _Way("by top heading inside big documents, dropping near-duplicates", heading, True, False),
        _Way("by passage inside big documents", itself),
        _Way("by passage inside big documents, dropping near-duplicates", itself, True, False),
        _Way("by passage", lambda passage: passage),
        _Way("by passage, dropping near-duplicates", lambda passage: passage, True, False),
        _Way("by passage, dropping queries whose passages fell on two sides", lambda passage: passage, False, False),
    ]


def _top_heading(title: str) -> str:
    """The first step below the document: of "Document > Part > Section", or of "Law Article 5 (Part > Chapter)"."""
    cited = _ABOVE.search(title)
    if cited:
        return cited[1].split(" > ")[0].strip()
    steps = title.split(" > ")
    return (steps[1] if len(steps) > 1 else steps[0]).strip()


def _first_good(ways: Iterable[_Way], links: _Links, shares: Mapping[Split, float], seed: int) -> _Outcome | None:
    """The first way whose sides all come close to their shares; else the best that fills every side."""
    best: tuple[float, _Outcome] | None = None
    for way in ways:
        outcome = _attempt(way, links, shares, seed)
        held = Counter(outcome.sides.values())
        # Of ten queries a share of 0.1 is one query: rounding is no failure.
        fit = min(held[side] / max(1.0, share * len(links.positives)) for side, share in shares.items())
        if fit >= _CLOSE and len(outcome.dropped) <= _MAX_LOSS * len(links.positives):
            return outcome
        if fit > 0 and (best is None or fit > best[0] + 0.05):
            best = (fit, outcome)
    return best[1] if best else None


def _attempt(way: _Way, links: _Links, shares: Mapping[Split, float], seed: int) -> _Outcome:
    parts = Sets()
    for found in links.positives.values():
        for passage in found:
            parts.add(way.part(passage))
            if way.join_queries:
                parts.join(way.part(found[0]), way.part(passage))
    before = len(parts)
    if way.join_duplicates:
        for a, b in links.passages:
            parts.join(way.part(a), way.part(b))
        for a, b in links.queries:
            parts.join(way.part(links.positives[a][0]), way.part(links.positives[b][0]))
    # A query counts where its first positive is; only where queries do not join parts may the others lie elsewhere.
    load = Counter(parts.find(way.part(found[0])) for found in links.positives.values())
    dealt = deal({part: load[part] for part in parts.roots()}, shares, seed)
    sides = {p: dealt[parts.find(way.part(p))] for found in links.positives.values() for p in found}
    kept, dropped = _without_leaks(links, sides)
    return _Outcome(way, kept, dropped, Counter(dealt.values()), before - len(dealt))


def _without_leaks(links: _Links, sides: Mapping[str, Split]) -> tuple[dict[str, Split], dict[str, str]]:
    """Queries by side, and those dropped because another side knows their passages or their words."""
    kept: dict[str, Split] = {}
    dropped: dict[str, str] = {}
    for query, found in links.positives.items():
        where = {sides[passage] for passage in found}
        if len(where) > 1:
            dropped[query] = "its passages fell on two sides"
        else:
            kept[query] = where.pop()
    return kept, dropped | _drop_leaks(kept, links)


def _drop_leaks(kept: dict[str, Split], links: _Links) -> dict[str, str]:
    """Take out of `kept` the queries that a side of higher priority knows the passages or the words of; the reasons."""
    dropped: dict[str, str] = {}
    families = Sets()
    for a, b in links.passages:
        families.join(a, b)
    _keep_one_side(kept, dropped, links.positives, families, "near-duplicate of a passage labelled on another side")
    families = Sets()
    for a, b in links.queries:
        families.join(a, b)
    own = {query: (query,) for query in kept}
    _keep_one_side(kept, dropped, own, families, "near-duplicate of a query on another side")
    return dropped


def _keep_one_side(
    kept: dict[str, Split],
    dropped: dict[str, str],
    members: Mapping[str, Sequence[str]],
    families: Sets,
    reason: str,
) -> None:
    """Drop the queries whose family has a member on a side of higher priority (test, dev, train)."""
    taken: dict[str, Split] = {}
    for side in _PRIORITY:
        for query in [query for query, its in kept.items() if its == side]:
            roots = {families.find(name) for name in members[query]}
            if any(taken.get(root, side) != side for root in roots):
                dropped[query] = reason
                del kept[query]
            else:
                taken.update(dict.fromkeys(roots, side))


def _result(outcome: _Outcome, split: Mapping[str, Qrels], shares: Mapping[Split, float], unlabelled: int) -> Result:
    counts = {side: len(split[side]) for side in shares} | {
        f"{side} parts": outcome.parts.get(side, 0) for side in shares
    }
    dropped = dict(sorted(Counter(outcome.dropped.values()).items()))
    if unlabelled:
        dropped["no relevant passage in the corpus"] = unlabelled
    notes = [f"Queries were divided {outcome.way.said}."]
    if outcome.joined:
        notes.append(
            f"{outcome.joined:,} parts moved together with another that shares a near-duplicate passage or query."
        )
    if outcome.dropped:
        notes.append(f"{len(outcome.dropped):,} queries were dropped so that nothing of one side is known on another.")
    total = sum(len(split[side]) for side in shares)
    for side, share in shares.items():
        if len(split[side]) < _CLOSE * share * total:
            notes.append(f"{side} holds {len(split[side])} of {total} queries, less than the wanted {share:.0%}.")
        elif outcome.parts.get(side, 0) < 3:
            notes.append(f"{side} rests on {outcome.parts.get(side, 0)} part(s) of the documents: read it with care.")
    listed = [{"query": query, "reason": reason} for query, reason in sorted(outcome.dropped.items())[:_LISTED]]
    return Result(
        stage="split",
        counts=counts,
        dropped=dropped,
        notes=tuple(notes),
        details={"way": outcome.way.said, "joined": outcome.joined, "dropped_queries": listed},
    )
