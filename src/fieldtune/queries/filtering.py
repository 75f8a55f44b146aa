"""Made queries through all filters, the cheap ones first, with an account of what each one kept and dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from fieldtune.config import Config
from fieldtune.errors import InputError
from fieldtune.queries.filters import copied, looping, pointing, wrong_language, wrong_length
from fieldtune.queries.generate import CACHE
from fieldtune.queries.judge import RUBRIC, judge
from fieldtune.queries.made import DOUBTED, Made, doubted_of, sample_prompt
from fieldtune.queries.repeats import join_repeats
from fieldtune.queries.sampling import stable_order
from fieldtune.queries.styles import needs_all
from fieldtune.queries.users import UserQueries, read_user_queries
from fieldtune.types import Passage, Qrels, Query

_SHOWN = 5
Check = Callable[[Query, Sequence[Passage]], str]


@dataclass(slots=True)
class _Filtered:
    """What is left so far."""

    passages: Mapping[str, Passage]
    queries: dict[str, Query]
    qrels: Qrels
    steps: list[dict[str, Any]] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    """Filter -> labels of kept queries that it took away."""
    notes: list[str] = field(default_factory=list)
    prompts: list[dict[str, Any]] = field(default_factory=list)
    """What a judge was asked, word for word."""

    def drop(self, name: str, reasons: Mapping[str, str], seed: int) -> None:
        """Take queries out and write down how many, and some of both kinds."""
        order = sorted(self.queries, key=lambda key: stable_order(seed, key))
        out = [key for key in order if key in reasons][:_SHOWN]
        stay = [key for key in order if key not in reasons][:_SHOWN]
        self.steps.append(
            {
                "filter": name,
                "in": len(self.queries),
                "dropped": len(reasons),
                "kept examples": [self._shown(key) for key in stay],
                "dropped examples": [self._shown(key) | {"why": reasons[key]} for key in out],
            }
        )
        self.queries = {key: query for key, query in self.queries.items() if key not in reasons}
        self.qrels = {key: self.qrels[key] for key in self.queries}

    def drop_labels(self, name: str, low: Mapping[str, Mapping[str, str]], seed: int) -> None:
        """Take passages out of the qrels, and with its last passage the query.

        What was once thought an answer is remembered, so that mining never takes it for a wrong one. A query that takes
        all of its passages to be answered keeps them, or goes.
        """
        gone: dict[str, str] = {}
        for key, rows in low.items():
            query = self.queries[key]
            left = {passage: grade for passage, grade in self.qrels[key].items() if passage not in rows}
            if left and needs_all(query.style):
                continue
            if left:
                self.qrels[key] = left
                self.queries[key] = replace(
                    query, metadata={**query.metadata, DOUBTED: [*doubted_of(query), *sorted(rows)]}
                )
                self.labels[name] += len(rows)
            else:
                gone[key] = next(iter(rows.values()))
        self.drop(name, gone, seed)

    def _shown(self, key: str) -> dict[str, str]:
        query, passage = self.queries[key], self.passages[next(iter(self.qrels[key]))]
        return {"query": query.text, "style": query.style, "passage": (passage.title or passage.text)[:80]}


def filter_made(made: Made, config: Config, passages: Mapping[str, Passage], cache: Path, vectors: Path | None) -> Made:
    """What is left of made queries, with each filter's counts and examples in `details["filters"]`.

    The round trip needs the folder of encoded texts `vectors`; without it, or with no more passages than
    `queries.round_trip_k`, that filter is left out. Raises InputError with each filter's count when nothing is left.
    """
    settings, seed = config.queries, config.seed
    state = _Filtered(passages, dict(made.queries), {key: dict(row) for key, row in made.qrels["all"].items()})
    checks: list[tuple[str, Check]] = [
        ("language", wrong_language),
        ("length", wrong_length),
        ("goes in circles", looping),
        ("points at the passage", pointing),
    ]
    if made.made_by != "structure":  # made out of the text's own words: that they copy is their nature
        checks.append(("copied", partial(copied, share=settings.max_copied)))
    if settings.examples:
        checks.append(("close to one of your own", partial(like_a_user, users=read_user_queries(settings.examples))))
    for name, check in checks:
        reasons = {key: check(query, _answers(state, key)) for key, query in state.queries.items()}
        state.drop(name, {key: why for key, why in reasons.items() if why}, seed)
    joined, repeats = join_repeats(state.queries, state.qrels, seed)
    state.qrels |= joined
    state.drop("near-duplicate", repeats, seed)
    if settings.round_trip_k and vectors is not None and state.queries:
        _round_trip(state, config, vectors)
    if settings.judge and state.queries:
        _judge(state, config, cache)
    dropped = {f"filter: {step['filter']}": step["dropped"] for step in state.steps if step["dropped"]}
    if not state.queries:
        said = ", ".join(f"{name.removeprefix('filter: ')} {count:,}" for name, count in dropped.items())
        raise InputError(
            f"none of the {len(made.queries):,} made queries passed the filters ({said})",
            "look at some of them; loosen queries.round_trip_k or queries.max_copied, or give other documents",
        )
    return _told(made, state, dropped)


def like_a_user(query: Query, passages: Sequence[Passage], users: UserQueries) -> str:
    """The users' queries set the tone; handed back, they would stand in a test set as if nobody had seen them."""
    return "nearly the words of a query in queries.examples" if users.is_copy(query.text) else ""


def _answers(state: _Filtered, key: str) -> Sequence[Passage]:
    return [state.passages[passage] for passage in state.qrels[key]]


def _round_trip(state: _Filtered, config: Config, vectors: Path) -> None:
    from fieldtune.encoding import Encoder, settings_for
    from fieldtune.queries.round_trip import unanswered

    k = config.queries.round_trip_k
    if len(state.passages) <= k:
        state.notes.append(f"No round trip: with {len(state.passages)} passages each is among the first {k}.")
        return
    encoder = Encoder.load(config.model.base, settings=config.model)
    missed = unanswered(
        state.queries, state.qrels, state.passages, encoder, vectors, k, settings_for(config, checked=False)
    )
    reasons = {
        key: {passage: f"its passage is at rank {rank or 'none'}" for passage, rank in rows.items()}
        for key, rows in missed.items()
    }
    state.drop_labels(f"round trip (k = {k})", reasons, config.seed)


def _judge(state: _Filtered, config: Config, cache: Path) -> None:
    from fieldtune.llm import open_client
    from fieldtune.llm.grading import grade_prompt

    with open_client(config.llm.model_copy(update={"temperature": 0.0}), cache / CACHE) as client:
        first, row = next(iter(state.qrels.items()))
        sample = grade_prompt(RUBRIC, state.queries[first].text, [state.passages[next(iter(row))].content])
        state.prompts.append(sample_prompt("grades of queries", tuple(row)[:1], sample))
        judged = judge(client, state.queries, state.qrels, state.passages, config.queries.judge_min)
    state.drop_labels(f"judge (below {config.queries.judge_min})", judged.low, config.seed)
    state.notes.append(judged.sentence(client.model))


def _told(made: Made, state: _Filtered, dropped: Mapping[str, int]) -> Made:
    """The result after filtering: its counts are those of what is left."""
    styles = Counter(query.style for query in state.queries.values())
    counts: dict[str, int | float] = {
        name: value for name, value in made.counts.items() if not name.startswith("style ") and name != "queries"
    }
    counts |= {"queries made": len(made.queries), "queries": len(state.queries)}
    counts |= {f"style {style}": count for style, count in sorted(styles.items())}
    before = Counter(query.style for query in made.queries.values())
    kinds = {
        style: {"made": count, "kept": styles[style], "share": round(styles[style] / len(state.queries), 4)}
        for style, count in sorted(before.items())
    }
    given = made.details.get("kinds", {})
    merged = {style: dict(given.get(style, {})) | row for style, row in kinds.items()}
    notes = list(made.notes) + state.notes
    if sum(dropped.values()):
        notes.append(
            f"The filters kept {len(state.queries):,} of {len(made.queries):,} made queries; queries of the same words"
            " were joined, with the passages of each, for both answer them."
        )
    labels = {f"label that fails the {name}": count for name, count in state.labels.items()}
    return replace(
        made,
        queries=state.queries,
        qrels={"all": state.qrels},
        counts=counts,
        dropped=dict(made.dropped) | dict(dropped) | labels,
        notes=tuple(notes),
        details=dict(made.details)
        | {"kinds": merged, "filters": state.steps}
        | ({"prompts": [*made.details.get("prompts", ()), *state.prompts]} if state.prompts else {}),
    )
