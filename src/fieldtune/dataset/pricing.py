"""What the grades of an LLM will take: of the judge of made queries, the check of negatives, and the teacher."""

from __future__ import annotations

from collections.abc import Mapping

from fieldtune.config import Config
from fieldtune.dataset import scorers
from fieldtune.llm import Tokens, estimated_tokens, prompt_tokens
from fieldtune.llm.grading import LONGEST, Rubric, grade_prompt
from fieldtune.queries import is_generated, judge
from fieldtune.queries.pricing import OF_ESTIMATE, Part
from fieldtune.types import Passage

_SAMPLE = 200
_ANSWER = (10, 60)
"""Tokens of a grade with its reason."""
_QUERY = (5, 60)
_KEPT = 0.3
"""Share of made queries that filters and split may leave at least."""


def price_grades(
    config: Config, passages: Mapping[str, Passage], queries: int, *, made: bool, judged: bool = False
) -> list[Part]:
    """What is still to be paid for grades, a part for each who asks for them.

    `queries` is how many there may be at most: `made` before filters and split, else as they are; `judged` says that
    the judge has had its turn. How many candidates the check sees depends on mining, hence the wide range.
    """
    negatives, teacher = config.negatives, config.teacher
    least = round(queries * (_KEPT if made else 1))
    parts = []
    if config.queries.judge and made and not judged:
        parts.append(_part("the judge", judge.RUBRIC, passages, (least, queries)))
    train = round(least * (1 - config.split.dev - config.split.test)), queries
    # Mined are twice as many as wanted, to have some left, and looked at as many that were too near the positive.
    for name, wanted, each in (
        (
            "the check",
            negatives.per_query and negatives.check == "llm",
            (2, 1 + min(negatives.depth, 4 * negatives.per_query)),
        ),
        ("the teacher", teacher.model == "llm", _scored(config)),
    ):
        if wanted:
            requests = train[0] * each[0], train[1] * each[1] * negatives.rounds
            parts.append(_part(name, scorers.RUBRIC, passages, requests))
    return parts


def asks_for_queries(config: Config) -> bool:
    """Whether an LLM has to do with the queries: writes them, or judges those that were made."""
    source = config.queries.source
    made = source in ("structure", "llm") or is_generated(config.queries)
    return source == "llm" or (made and config.queries.judge)


def asks_for_grades(config: Config) -> bool:
    """Whether an LLM is to check negatives or to teach."""
    return config.teacher.model == "llm" or bool(config.negatives.per_query and config.negatives.check == "llm")


def _scored(config: Config) -> tuple[int, int]:
    most = 1 + config.negatives.per_query + config.teacher.per_band * (len(config.teacher.ranks) + 1)
    return max(2, most // 2), most


def _part(name: str, rubric: Rubric, passages: Mapping[str, Passage], requests: tuple[int, int]) -> Part:
    texts = list(passages.values())
    some = texts[:: max(1, len(texts) // _SAMPLE)]
    shown = sum(estimated_tokens(one.content[:LONGEST]) for one in some) / max(1, len(some))
    frame = prompt_tokens(grade_prompt(rubric, "", [""]))
    low, high = (
        Tokens(round(count * (frame + query + shown) * off), count * answer)
        for count, query, off, answer in zip(requests, _QUERY, OF_ESTIMATE, _ANSWER, strict=True)
    )
    return Part(name, requests, low, high)
