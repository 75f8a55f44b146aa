"""What leaks between two sides of a split: shared passages, near-duplicate passages, near-duplicate queries."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from fieldtune.config import SplitConfig
from fieldtune.corpus.near import near_duplicate_groups
from fieldtune.lexical import tokenize
from fieldtune.types import SPLITS, Passage, Qrels, Query, Result

_LISTED = 200
"""Leaks named one by one in the result; the counts are always whole."""


def query_terms(text: str) -> frozenset[str]:
    """The set two queries are compared by: words, and for Chinese (written without spaces) character pairs.

    Never empty: a query of nothing but signs is its own single term.
    """
    return frozenset(tokenize(text)) or frozenset([text.strip()])


def similar_sets(sets: Sequence[frozenset[str]], threshold: float) -> list[tuple[int, int]]:
    """Index pairs (i < j) that link every set to those with a Jaccard similarity of at least `threshold`.

    Exact, by prefix filtering (Bayardo et al. 2007, "Scaling up all pairs similarity search"): two similar sets must
    share one of their few rarest members. Equal sets are chained rather than paired all with all, so the pairs are
    enough to form groups and never quadratic in the repetitions.
    """
    pairs: list[tuple[int, int]] = []
    first: dict[frozenset[str], int] = {}
    for index, members in enumerate(sets):
        if members in first:
            pairs.append((first[members], index))
        else:
            first[members] = index
    frequency = Counter(member for members in first for member in members)
    # Short sets first, so that a set is only compared with those that are at most as long.
    order = sorted(first.values(), key=lambda index: (len(sets[index]), index))
    postings: dict[str, list[int]] = {}
    for index in order:
        members = sets[index]
        size = len(members)
        ranked = sorted(members, key=lambda member: (frequency[member], member))
        # The small term keeps 0.9 * 10 from rounding up to 10.
        prefix = ranked[: size - math.ceil(threshold * size - 1e-9) + 1]
        candidates: dict[int, None] = {}
        for member in prefix:
            for other in postings.setdefault(member, []):
                if len(sets[other]) >= threshold * size - 1e-9:
                    candidates[other] = None
        for other in candidates:
            shared = len(members & sets[other])
            if shared >= threshold * (size + len(sets[other]) - shared) - 1e-9:
                pairs.append((min(index, other), max(index, other)))
        for member in prefix:
            postings[member].append(index)
    return sorted(pairs)


def query_links(queries: Mapping[str, Query], ids: Iterable[str], threshold: float) -> list[tuple[str, str]]:
    """Pairs of query ids that are near-duplicates of each other."""
    names = list(ids)
    pairs = similar_sets([query_terms(queries[name].text) for name in names], threshold)
    return [(names[a], names[b]) for a, b in pairs]


def passage_links(
    passages: Mapping[str, Passage],
    ids: Iterable[str],
    threshold: float,
    seed: int,
    duplicates: Mapping[str, Sequence[str]] | None = None,
) -> list[tuple[str, str]]:
    """Pairs of labelled passages that are near-duplicates; `duplicates` (kept id -> its copies) adds known ones."""
    names = list(ids)
    found = near_duplicate_groups([passages[name].text for name in names], threshold, seed)
    links = [(names[group[0]], names[other]) for group in found for other in group[1:]]
    labelled = set(names)
    for kept, copies in (duplicates or {}).items():
        family = [name for name in (kept, *copies) if name in labelled]
        links += [(family[0], other) for other in family[1:]]
    return links


def positives_of(qrels: Qrels, threshold: int) -> dict[str, list[str]]:
    """Query id -> its relevant passages; queries without one are left out."""
    found = {query: [p for p, grade in row.items() if grade >= threshold] for query, row in qrels.items()}
    return {query: relevant for query, relevant in found.items() if relevant}


def audit_split(
    passages: Mapping[str, Passage],
    queries: Mapping[str, Query],
    qrels: Mapping[str, Qrels],
    config: SplitConfig,
    seed: int,
    duplicates: Mapping[str, Sequence[str]] | None = None,
    *,
    near_duplicate_passage: float = 0.9,
    relevance_threshold: int = 1,
) -> Result:
    """Count the leaks in a split that is kept as given.

    Counts are of passages resp. queries that lie on two sides or have a near-duplicate on another side; each leak is
    named in the details (the first 200 of a kind).
    """
    sides = [side for side in SPLITS if side in qrels]
    relevant = {side: positives_of(qrels[side], relevance_threshold) for side in sides}
    passage_sides: dict[str, set[str]] = {}
    query_sides: dict[str, set[str]] = {}
    for side in sides:
        for query, found in relevant[side].items():
            query_sides.setdefault(query, set()).add(side)
            for passage in found:
                passage_sides.setdefault(passage, set()).add(side)
    shared = sorted(passage for passage, where in passage_sides.items() if len(where) > 1)
    near_passages = _crossing(
        passage_links(passages, passage_sides, near_duplicate_passage, seed, duplicates), passage_sides
    )
    near_queries = _crossing(query_links(queries, query_sides, config.near_duplicate_query), query_sides)
    near_queries = sorted({*near_queries, *((q, q) for q, where in query_sides.items() if len(where) > 1)})
    counts: dict[str, int] = {
        "shared positives": len(shared),
        "near-duplicate positives": len({name for pair in near_passages for name in pair}),
        "near-duplicate queries": len({name for pair in near_queries for name in pair}),
    }
    notes = []
    if any(counts.values()):
        found_text = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        notes.append(f"The split was kept as given although it leaks: {found_text} lie on more than one side.")
    return Result(
        stage="audit",
        counts={**{side: len(relevant[side]) for side in sides}, **counts},
        notes=tuple(notes),
        details={
            "shared_positives": shared[:_LISTED],
            "near_duplicate_positives": [list(pair) for pair in near_passages[:_LISTED]],
            "near_duplicate_queries": [list(pair) for pair in near_queries[:_LISTED]],
        },
    )


def _crossing(links: Iterable[tuple[str, str]], sides: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """Pairs within one family of near-duplicates that lie on different sides.

    Links name a family by a chain; its members are compared as a family, since a chain's ends may cross where its
    links do not. One pair stands for each member that is not on its family's first side.
    """
    root: dict[str, str] = {}

    def find(name: str) -> str:
        while root.setdefault(name, name) != name:
            root[name] = root[root[name]]
            name = root[name]
        return name

    for a, b in links:
        root[find(b)] = find(a)
    families: dict[str, list[str]] = {}
    for name in sorted(root):
        families.setdefault(find(name), []).append(name)
    pairs = []
    for members in families.values():
        for side in SPLITS:
            inside = [name for name in members if side in sides[name]]
            outside = [name for name in members if sides[name] - {side}]
            if inside and outside:
                pairs += [(inside[0], name) for name in outside if name != inside[0]]
                break
    return sorted(pairs)
