"""Questions that people asked as the test set of queries that were made: what training must not see."""

from __future__ import annotations

from collections.abc import Mapping

from fieldtune.errors import InputError
from fieldtune.queries.made import Made
from fieldtune.types import SPLITS, Qrels, Query


def with_test(made: Made, asked: Made) -> Made:
    """`made` for train (and dev, where it has one), all of `asked` for test, whatever split that came with.

    What leaks from one to the other is cleared when the dataset is divided, which knows near-duplicates. Raises
    InputError when one query id belongs to two texts or the grades of the two do not mean the same.
    """
    if made.relevance_threshold != asked.relevance_threshold or made.evaluation != asked.evaluation:
        raise InputError(
            "the training queries and queries.test do not count the same grades as relevant",
            "give both the same relevance_threshold and evaluation in meta.json",
        )
    test = _together(asked.qrels)
    given = set(made.qrels) <= set(SPLITS) and "train" in made.qrels
    sides = (
        {split: rows for split, rows in made.qrels.items() if split != "test"}
        if given
        else {"train": _together(made.qrels)}
    )
    passed_over = len(made.qrels["test"]) if given and "test" in made.qrels else 0
    repeated = 0
    kept: dict[str, Qrels] = {}
    for split, rows in sides.items():
        kept[split] = {}
        for query, grades in rows.items():
            if query not in test:
                kept[split][query] = grades
            elif made.queries[query].text == asked.queries[query].text:
                repeated += 1
            else:
                raise InputError(f"the query id {query!r} belongs to two texts, one of them in queries.test")
    used = {query for rows in kept.values() for query in rows}
    queries: dict[str, Query] = {key: query for key, query in made.queries.items() if key in used} | dict(asked.queries)
    dropped = {
        "query that queries.test asks too": repeated,
        "test query that queries.test takes the place of": passed_over,
    }
    return Made(
        made.made_by,
        queries,
        {**kept, "test": test},
        {**made.counts, "test": len(test)},
        {**made.dropped, **{reason: count for reason, count in dropped.items() if count}, **_of_test(asked)},
        (*made.notes, "queries.test is the test set; it is for measuring alone.", *asked.notes),
        {**made.details, "test": dict(asked.details)},
        (*made.not_found, *asked.not_found),
        made.relevance_threshold,
        made.evaluation,
    )


def _of_test(asked: Made) -> dict[str, int]:
    return {f"queries.test: {reason}": count for reason, count in asked.dropped.items()}


def _together(qrels: Mapping[str, Qrels]) -> Qrels:
    merged: Qrels = {}
    for rows in qrels.values():
        for query, grades in rows.items():
            merged.setdefault(query, {}).update(grades)
    return merged
