"""Queries written by an LLM; answers are kept, so that a killed run pays for none twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fieldtune.config import Llm, Queries
from fieldtune.console import Progress
from fieldtune.errors import ConfigError, EndpointError
from fieldtune.llm import LlmClient, Prompt, open_client, prompt_tokens
from fieldtune.llm.answers import ANSWERS
from fieldtune.queries.clusters import Vectors
from fieldtune.queries.draft import Draft
from fieldtune.queries.joining import join_drafts
from fieldtune.queries.made import Made, sample_prompt
from fieldtune.queries.obeyed import OBEYED, is_obeyed
from fieldtune.queries.prompts import repair_prompt
from fieldtune.queries.reading import read_answer
from fieldtune.queries.tasks import Task, Tasks, plan_tasks
from fieldtune.queries.users import UserQueries, read_user_queries
from fieldtune.types import Passage

_LISTED = 500
_NOBODY = "passage nobody would ask about"
CACHE = ANSWERS
"""The file of answers in the folder that the stage is given."""


@dataclass(slots=True)
class Answers:
    """What came of the requests so far."""

    drafts: dict[int, list[Draft]] = field(default_factory=dict)
    """By place of the task, so that the order in which answers came plays no part."""
    dropped: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)
    kept: int = 0
    """Answers that an earlier run paid for."""
    unasked: int = 0
    """Requests that the spending limit left no room for."""


def generate_queries(
    settings: Queries,
    llm: Llm,
    passages: Mapping[str, Passage],
    seed: int,
    cache: Path,
    vectors: Callable[[], Vectors] | None = None,
) -> Made:
    """Ask for queries on the chosen passages and pairs; answers are kept in `cache/llm.jsonl`.

    `vectors` gives unit vectors of all passages in their order; without it passages are spread over documents alone
    and no comparisons are made. An answer that cannot be read is asked for once more with what is wrong with it, then
    dropped. Raises EndpointError when the endpoint cannot be used or no answer was usable, ConfigError when the
    spending limit allows no request.
    """
    users = read_user_queries(settings.examples)
    with open_client(llm, cache / CACHE) as client:
        tasks = plan_tasks(settings, llm, passages, seed, users, vectors)
        answers = Answers()
        first = {place: task.prompt for place, task in enumerate(tasks.tasks)}
        repairs = ask_all(client, passages, tasks.tasks, first, users, answers, "asking the LLM")
        if repairs:
            ask_all(client, passages, tasks.tasks, repairs, users, answers, "asking again", repaired=True)
    queries, qrels, general = join_drafts([draft for place in first for draft in answers.drafts.get(place, [])])
    if not queries:
        _refuse(client, llm, tasks, answers, general)
    if general:
        answers.dropped["query that fits too many passages"] += general
    styles = Counter(query.style for query in queries.values())
    counts: dict[str, int | float] = {
        "passages asked about": len(tasks.choice.keys),
        "pairs asked about": tasks.pairs,
        "requests with a passage cut short": tasks.cut,
        "queries": len(queries),
        **{f"style {style}": count for style, count in sorted(styles.items())},
        "requests sent": client.calls,
        "answers kept from an earlier run": answers.kept,
        "prompt tokens": client.used.prompt,
        "completion tokens": client.used.completion,
    }
    if client.late:
        counts["requests not answered in time"] = client.late
    if llm.price_prompt or llm.price_completion:
        counts["cost"] = round(client.used.cost(llm), 4)
    return Made(
        "llm",
        queries,
        {"all": qrels},
        counts,
        dict(tasks.choice.dropped) | dict(sorted(answers.dropped.items())),
        tuple(_notes(client, llm, tasks, users, answers, general, len(queries))),
        {
            "failures": answers.failures[:_LISTED],
            "topics": list(tasks.choice.topics),
            "prompts": _samples(tasks.tasks),
        },
    )


def ask_all(
    client: LlmClient,
    passages: Mapping[str, Passage],
    tasks: tuple[Task, ...],
    prompts: Mapping[int, Prompt],
    users: UserQueries,
    answers: Answers,
    label: str,
    *,
    repaired: bool = False,
) -> dict[int, Prompt]:
    """Collect the queries of all answers; returns the prompts that repair what could not be read, by task."""
    places = list(prompts)
    repairs: dict[int, Prompt] = {}
    with Progress(label, len(places), unit="requests") as progress:
        for index, reply in client.ask(list(prompts.values())):
            place = places[index]
            task = tasks[place]
            progress.advance()
            answers.kept += reply.cached
            if not reply.asked:
                answers.unasked += 1
                continue
            if reply.error:
                _fail(answers, task, "no answer", reply.error)
                continue
            try:
                drafts, refused = read_answer(reply.text, task.passages, task.styles, task.language)
            except ValueError as error:
                if repaired:
                    _fail(answers, task, "answer that cannot be read", str(error))
                else:
                    repairs[place] = repair_prompt(prompts[place], reply.text, str(error))
                continue
            shown = [passages[key] for key in task.passages]
            honest = [draft for draft in drafts if not is_obeyed(draft.text, shown)]
            own = [draft for draft in honest if not users.is_copy(draft.text)]
            answers.drafts[place] = own
            if len(honest) < len(drafts):
                answers.dropped[f"query {OBEYED}"] += len(drafts) - len(honest)
            answers.dropped.update(f"query {reason}" for reason in refused)
            if len(own) < len(honest):
                answers.dropped["query close to one of your own"] += len(honest) - len(own)
            if not drafts and not refused:
                answers.dropped[_NOBODY] += 1
    return dict(sorted(repairs.items()))


def _fail(answers: Answers, task: Task, kind: str, reason: str) -> None:
    answers.dropped[kind] += 1
    answers.failures.append({"passage": " + ".join(task.passages), "reason": reason})


def _refuse(client: LlmClient, llm: Llm, tasks: Tasks, answers: Answers, general: int) -> None:
    """Raise what explains best why there is no query at all."""
    if not tasks.tasks:
        raise ConfigError(
            "there is no passage that an LLM could be asked about",
            "the corpus holds boilerplate or repetitions alone, or queries.styles asks for comparisons alone",
        )
    if answers.unasked == len(tasks.tasks):
        needed = prompt_tokens(tasks.tasks[0].prompt) + llm.answer_tokens
        limit = f"llm.max_cost = {llm.max_cost:g}" if llm.max_cost else f"llm.max_tokens = {llm.max_tokens}"
        raise ConfigError(
            f"the limit {limit} does not allow a single request, which may take {needed:,} tokens",
            "raise it, or lower llm.answer_tokens",
        )
    reasons = ", ".join(f"{reason} ({count:,})" for reason, count in answers.dropped.most_common(3))
    if general:
        reasons = f"{general:,} queries of the same few wordings" + (f", {reasons}" if reasons else "")
    first = f"; the first: {answers.failures[0]['reason']}" if answers.failures else ""
    asked = len(tasks.tasks) - answers.unasked
    raise EndpointError(
        f"none of {asked:,} answers of {client.model!r} held a usable query: {reasons}{first}",
        "it answers in the right form that nobody would ask about these passages: look whether they hold what people"
        " search for, tell the field in queries.domain, or try another model"
        if set(answers.dropped) == {_NOBODY} and not general
        else "try a model that follows a JSON schema, or look into the answers in the queries' cache",
    )


def _notes(
    client: LlmClient, llm: Llm, tasks: Tasks, users: UserQueries, answers: Answers, general: int, kept: int
) -> list[str]:
    notes = [f"Queries were written by {client.model!r}, each from the passage that answers it."]
    notes += [*tasks.choice.notes, *tasks.notes]
    if users.texts and not tasks.small:
        said = f"{len(users.texts):,} queries of your users set tone and length; they are not queries of the run."
        notes.append(said + (f" {users.left_out:,} lines of that file were no queries." if users.left_out else ""))
    if answers.unasked:
        spent = client.budget.spent
        cost = f", {spent.cost(llm):.4g} in your prices" if llm.price_prompt or llm.price_completion else ""
        notes.append(
            f"Asking stopped at the spending limit: {answers.unasked:,} of {len(tasks.tasks):,} requests were not made,"
            f" {spent.total:,} tokens were spent{cost}. All answers are kept; raise the limit to go on."
        )
    if general > kept:
        notes.append(f"{general:,} queries were the same few wordings again and again: the model repeats itself.")
    notes.append(
        "The test set is made the same way: it says how well models find the passages that an LLM asked about."
    )
    return notes


def _samples(tasks: tuple[Task, ...]) -> list[dict[str, Any]]:
    """The first prompt of each kind, word for word: what was asked belongs to the data."""
    kinds: dict[int, Task] = {}
    for task in tasks:
        kinds.setdefault(len(task.passages), task)
    return [sample_prompt("queries", task.passages, task.prompt) for task in kinds.values()]
