"""Made queries of the same wording become one."""

from __future__ import annotations

from collections.abc import Iterable

from fieldtune.queries.draft import Draft
from fieldtune.queries.made import query_id
from fieldtune.queries.match import fold
from fieldtune.types import Qrels, Query

MOST_PASSAGES = 3
"""A query that more passages were made to answer is too general to be one."""


def join_drafts(drafts: Iterable[Draft]) -> tuple[dict[str, Query], Qrels, int]:
    """Queries with all passages that the same wording was made for, and how many were too general to keep."""
    by_text: dict[str, list[Draft]] = {}
    for draft in drafts:
        by_text.setdefault(fold(draft.text), []).append(draft)
    queries: dict[str, Query] = {}
    qrels: Qrels = {}
    general = 0
    for same in by_text.values():
        answers = dict.fromkeys(passage for draft in same for passage in draft.passages)
        if len(answers) > MOST_PASSAGES:
            general += len(same)
            continue
        first = same[0]
        key = query_id(first.text)
        metadata = {"crop": {"passage": first.passages[-1], "span": list(first.crop)}} if first.crop else {}
        queries[key] = Query(key, first.text, first.style, metadata)
        qrels[key] = dict.fromkeys(answers, 1)
    return queries, qrels, general
