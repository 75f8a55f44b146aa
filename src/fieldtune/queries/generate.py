"""Queries written by an LLM, one passage at a time; answers are kept, so that a killed run pays for none twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fieldtune.config import Llm, Queries
from fieldtune.console import Progress
from fieldtune.errors import EndpointError
from fieldtune.llm import LlmClient, Prompt
from fieldtune.queries.draft import Draft
from fieldtune.queries.joining import join_drafts
from fieldtune.queries.made import Made
from fieldtune.queries.prompts import query_prompt, read_answer, repair_prompt
from fieldtune.queries.sampling import draw_passages
from fieldtune.types import Passage

_LISTED = 500


@dataclass(slots=True)
class _Answers:
    drafts: dict[str, list[Draft]] = field(default_factory=dict)
    """By passage, so that the order in which answers came plays no part."""
    dropped: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def generate_queries(settings: Queries, llm: Llm, passages: Mapping[str, Passage], seed: int, cache: Path) -> Made:
    """Ask for `per_passage` queries on each drawn passage; answers are kept in `cache/llm.jsonl`.

    An answer that cannot be read is asked for once more with what is wrong with it, then dropped. Raises EndpointError
    when the endpoint cannot be used or no answer was usable.
    """
    client = LlmClient(llm, cache / "llm.jsonl")
    drawn = draw_passages(passages, settings.max_passages, seed)
    answers = _Answers()
    prompts = {key: query_prompt(passages[key], settings.per_passage) for key in drawn}
    repairs = _ask(client, prompts, settings.per_passage, answers, "asking the LLM")
    if repairs:
        _ask(client, repairs, settings.per_passage, answers, "asking again")
    queries, qrels, general = join_drafts([draft for key in drawn for draft in answers.drafts.get(key, [])])
    if not queries:
        first = f"; the first: {answers.failures[0]['reason']}" if answers.failures else ""
        raise EndpointError(
            f"none of {len(drawn)} answers of {llm.model!r} held a usable query{first}",
            "try a model that follows a JSON schema, or look into the answers in the queries' cache",
        )
    if general:
        answers.dropped["query that fits too many passages"] += general
    styles = Counter(query.style for query in queries.values())
    counts: dict[str, int | float] = {
        "passages asked about": len(drawn),
        "queries": len(queries),
        **{f"style {style}": count for style, count in sorted(styles.items())},
        "requests sent": client.calls,
        **dict(sorted(answers.counts.items())),
    }
    return Made(
        "llm",
        queries,
        {"all": qrels},
        counts,
        dict(sorted(answers.dropped.items())),
        (
            f"Queries were written by {llm.model!r}, each from the passage that answers it.",
            "The test set is made the same way: it says how well models find the passages that an LLM asked about.",
        ),
        {"failures": answers.failures[:_LISTED]},
    )


def _ask(
    client: LlmClient, prompts: Mapping[str, Prompt], count: int, answers: _Answers, label: str
) -> dict[str, Prompt]:
    """Collect the queries of all answers; returns the prompts that repair what could not be read."""
    keys = list(prompts)
    is_repair = any(len(prompt.messages) > 2 for prompt in prompts.values())
    repairs: dict[str, Prompt] = {}
    with Progress(label, len(keys), unit="passages") as progress:
        for index, reply in client.ask(list(prompts.values())):
            key = keys[index]
            progress.advance()
            answers.counts["answers kept from an earlier run"] += reply.cached
            answers.counts["prompt tokens"] += reply.prompt_tokens
            answers.counts["completion tokens"] += reply.completion_tokens
            if reply.error:
                _fail(answers, key, "no answer", reply.error)
                continue
            try:
                drafts, refused = read_answer(reply.text, key, count)
            except ValueError as error:
                if is_repair:
                    _fail(answers, key, "answer that cannot be read", str(error))
                else:
                    repairs[key] = repair_prompt(prompts[key], reply.text, str(error))
                continue
            answers.drafts[key] = drafts
            answers.dropped.update(f"query {reason}" for reason in refused)
            if not drafts and not refused:
                answers.dropped["passage nobody would ask about"] += 1
    return {key: repairs[key] for key in keys if key in repairs}


def _fail(answers: _Answers, key: str, kind: str, reason: str) -> None:
    answers.dropped[kind] += 1
    entry: dict[str, Any] = {"passage": key, "reason": reason}
    answers.failures.append(entry)
