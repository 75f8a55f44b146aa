"""What is known before mining: training queries and the corpus as rows, and which rows may not be negatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fieldtune.beir import RetrievalData
from fieldtune.queries.made import doubted_of
from fieldtune.types import Query

HUMAN = "human"
"""What settings and counts call the style of queries that people wrote (Query.style is empty there)."""


@dataclass(frozen=True, slots=True)
class Known:
    """Training queries and passages by position; all lists of rows are of the corpus."""

    query_ids: Sequence[str]
    queries: Sequence[str]
    styles: Sequence[str]
    passage_ids: Sequence[str]
    texts: Sequence[str]
    groups: Sequence[str]
    """Per passage: its document, or "" where that is not known."""
    positives: Sequence[Sequence[int]]
    """Per query, at least one."""
    irrelevant: Sequence[Sequence[int]]
    """Per query: judged with grade 0."""
    partly: Sequence[Sequence[int]]
    """Per query: judged between irrelevant and relevant, or once made for it and then doubted by a filter."""
    twins: Mapping[int, frozenset[int]]
    """Row -> rows known to be near-duplicates of it."""
    held: frozenset[int]
    """Positives of dev and test queries and their near-duplicates."""


def known_rows(data: RetrievalData, duplicates: Mapping[str, Sequence[str]]) -> Known:
    """Everything mining asks of the data's train side; `duplicates` maps a passage to its known copies."""
    place = {key: row for row, key in enumerate(data.passages)}
    positives = data.positives("train")
    judged = [data.qrels["train"][query] for query in positives]
    twins = _twins(duplicates, place)
    held = {
        place[p] for side in data.qrels if side != "train" for found in data.positives(side).values() for p in found
    }
    return Known(
        query_ids=list(positives),
        queries=[data.queries[query].text for query in positives],
        styles=[data.queries[query].style or HUMAN for query in positives],
        passage_ids=list(data.passages),
        texts=[passage.content for passage in data.passages.values()],
        groups=[passage.group for passage in data.passages.values()],
        positives=[[place[passage] for passage in found] for found in positives.values()],
        irrelevant=[[place[p] for p, grade in row.items() if grade == 0] for row in judged],
        partly=[
            [place[p] for p in _undecided(data.queries[query], row, data.relevance_threshold) if p in place]
            for query, row in zip(positives, judged, strict=True)
        ],
        twins=twins,
        held=frozenset(held.union(*(twins.get(row, frozenset()) for row in held))),
    )


def _undecided(query: Query, judged: Mapping[str, int], threshold: int) -> list[str]:
    partly = [passage for passage, grade in judged.items() if 0 < grade < threshold]
    return [*partly, *(passage for passage in doubted_of(query) if passage not in judged)]


def _twins(duplicates: Mapping[str, Sequence[str]], place: Mapping[str, int]) -> dict[int, frozenset[int]]:
    """Corpus row -> rows of its near-duplicates that stayed in the corpus."""
    out: dict[int, frozenset[int]] = {}
    for kept, others in duplicates.items():
        family = [place[key] for key in (kept, *others) if key in place]
        for row in family:
            out[row] = out.get(row, frozenset()) | frozenset(family) - {row}
    return out
