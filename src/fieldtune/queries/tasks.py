"""What an LLM is going to be asked, in order: a prompt per chosen passage, and one per pair between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fieldtune.config import Llm, Queries
from fieldtune.llm import Prompt
from fieldtune.llm.local import gguf_file
from fieldtune.queries.choosing import Choice, choose_passages
from fieldtune.queries.clusters import Vectors
from fieldtune.queries.comparisons import find_pairs
from fieldtune.queries.prompts import Brief, is_cut, language_of_passages, pair_prompt, query_prompt
from fieldtune.queries.styles import PER_PAIR, deal, pairs_wanted
from fieldtune.queries.users import UserQueries
from fieldtune.queries.wording import Language
from fieldtune.types import Passage

_SMALL = 1e9
"""Bytes of a GGUF file up to which a model (of some two billion weights) is shown what to do instead of told."""


@dataclass(frozen=True, slots=True)
class Task:
    """One request: queries of these styles, each answered by all of these passages together."""

    passages: tuple[str, ...]
    styles: tuple[str, ...]
    language: Language
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class Tasks:
    """All requests of a run; any number of them from the front on is as well mixed as the whole."""

    tasks: tuple[Task, ...]
    choice: Choice
    pairs: int
    cut: int = 0
    """Requests that show the beginning of a passage alone."""
    notes: tuple[str, ...] = ()
    small: bool = False
    """Whether the model is shown what to do instead of told; see `Brief`."""


def plan_tasks(
    settings: Queries,
    llm: Llm,
    passages: Mapping[str, Passage],
    seed: int,
    users: UserQueries,
    vectors: Callable[[], Vectors] | None,
) -> Tasks:
    """Choose passages and pairs, and write their prompts."""
    choice = choose_passages(passages, settings.max_passages, seed, vectors)
    brief = brief_of(settings, llm)
    notes: list[str] = []
    wanted = pairs_wanted(settings.styles, len(choice.keys), settings.per_passage)
    pairs: list[tuple[str, str]] = []
    if wanted and brief.small:
        notes.append("No comparisons were asked for: the model is too small to hold two passages against each other.")
    elif wanted and vectors is not None:
        pairs = find_pairs(passages, vectors(), choice.keys, choice.eligible, wanted)
        if len(pairs) < wanted:
            notes.append(
                f"{len(pairs):,} pairs of passages could be compared where {wanted:,} were wanted: the others have no"
                " neighbour in topic, or only one that says the same."
            )
    untold = {"queries.persona": settings.persona, "queries.domain": settings.domain, "queries.examples": users.texts}
    if brief.small and (names := [name for name, given in untold.items() if given]):
        notes.append(
            f"The model is too small to be told more than what to write: {', '.join(names)} had no effect on it."
        )
    dealt = deal(settings.styles, len(choice.keys), settings.per_passage)
    single = [
        single_task(passages, key, styles, brief, users, seed)
        for key, styles in zip(choice.keys, dealt, strict=True)
        if styles
    ]
    double = [pair_task(passages, pair, brief, users, seed) for pair in pairs]
    tasks = tuple(_mixed(single, double))
    cut = sum(any(is_cut(passages[key], brief) for key in task.passages) for task in tasks)
    if cut:
        notes.append(
            f"{cut:,} of {len(tasks):,} requests show the first {brief.longest:,} characters of a longer passage:"
            " nothing is asked about the rest of it. A lower corpus.max_tokens makes shorter passages."
        )
    return Tasks(tasks, choice, len(pairs), cut, tuple(notes), brief.small)


def brief_of(settings: Queries, llm: Llm) -> Brief:
    small = bool(llm.local) and gguf_file(llm.local).stat().st_size < _SMALL
    return Brief(settings.persona, settings.domain, bool(llm.local), small)


def single_task(
    passages: Mapping[str, Passage], key: str, styles: tuple[str, ...], brief: Brief, users: UserQueries, seed: int
) -> Task:
    language = language_of_passages([passages[key]])
    shots = users.shots(key, language, seed)
    return Task((key,), styles, language, query_prompt(passages[key], styles, brief, shots))


def pair_task(
    passages: Mapping[str, Passage], pair: tuple[str, str], brief: Brief, users: UserQueries, seed: int
) -> Task:
    both = (passages[pair[0]], passages[pair[1]])
    language = language_of_passages(both)
    prompt = pair_prompt(both, brief, users.shots(" ".join(pair), language, seed))
    return Task(pair, ("comparison",) * PER_PAIR, language, prompt)


def _mixed(single: list[Task], double: list[Task]) -> list[Task]:
    """The rarer kind spread evenly among the other, so that a limit reached early cuts both alike."""
    placed: list[tuple[Any, Task]] = [((place + 0.5) / len(single), task) for place, task in enumerate(single)]
    placed += [((place + 0.5) / len(double), task) for place, task in enumerate(double)]
    return [task for _, task in sorted(placed, key=lambda item: item[0])]
