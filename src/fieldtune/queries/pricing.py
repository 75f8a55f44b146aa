"""What a run's questions to an LLM will take: measured on a sample of passages, given as a range."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fieldtune.config import Config, Llm
from fieldtune.llm import LlmClient, Reply, Tokens, estimated_tokens, open_client, prompt_tokens
from fieldtune.queries.choosing import choose_passages
from fieldtune.queries.from_file import is_generated
from fieldtune.queries.generate import CACHE
from fieldtune.queries.styles import PER_PAIR, deal, pairs_wanted
from fieldtune.queries.tasks import Task, brief_of, plan_tasks, single_task
from fieldtune.queries.users import read_user_queries
from fieldtune.queries.vectors import passage_vectors
from fieldtune.types import Passage

SAMPLE = 20
_ANSWER_FRAME = 12
_QUERY_LOW, _QUERY_HIGH = 20, 60
"""Tokens of a query with its style in JSON, from a few keywords to a short case."""
_REPAIRED = 0.1
"""Share of the answers that may have to be asked for once more."""
OF_ESTIMATE = (0.8, 1.2)
"""How far tokens estimated from characters were seen to be off for today's tokenizers."""


@dataclass(frozen=True, slots=True)
class Part:
    """What somebody else than the writer of queries asks an LLM for, from least to most."""

    name: str
    requests: tuple[int, int]
    low: Tokens
    high: Tokens

    @property
    def sentence(self) -> str:
        return (
            f"{self.name}: {self.requests[0]:,} to {self.requests[1]:,} requests, {self.low.total:,} to"
            f" {self.high.total:,} tokens."
        )


@dataclass(frozen=True, slots=True)
class Price:
    """From `low` to `high` is where the whole run's tokens should lie."""

    requests: int
    passages: int
    pairs: int
    low: Tokens
    high: Tokens
    sampled: int
    """Passages that were looked at."""
    answered: int
    """Those of them that the LLM has answered, so that its own count of tokens could be taken."""

    def sentences(self, config: Config, parts: Sequence[Part] = ()) -> list[str]:
        """What there is to say to the user of queries and grades, which share one limit."""
        basis = f"estimated from {self.sampled} passages" + (
            f", {self.answered} of them answered by the LLM" if self.answered else ", none asked yet"
        )
        return [
            f"{self.requests:,} requests: {self.passages:,} passages and {self.pairs:,} pairs of them ({basis}).",
            f"tokens: {self.low.prompt:,} to {self.high.prompt:,} in prompts,"
            f" {self.low.completion:,} to {self.high.completion:,} in answers.",
            *(part.sentence for part in parts),
            *cost_sentences(config.llm, [self, *parts]),
        ]


def cost_sentences(llm: Llm, parts: Sequence[Price | Part]) -> list[str]:
    """What all of it comes to, and whether the limit allows it."""
    low, high = (sum(tokens, Tokens()) for tokens in ([one.low for one in parts], [one.high for one in parts]))
    if llm.local:
        said = ["The model runs on this machine: it costs time, no money."]
    elif llm.price_prompt or llm.price_completion:
        together = " for all of it" if len(parts) > 1 else ""
        said = [f"cost: {low.cost(llm):,.4g} to {high.cost(llm):,.4g} in your prices{together}."]
    else:
        said = ["cost: set llm.price_prompt and llm.price_completion (per million tokens) to see it."]
    for limit, name, need in (
        (llm.max_tokens, "llm.max_tokens", high.total),
        (llm.max_cost, "llm.max_cost", high.cost(llm)),
    ):
        if limit and need > limit:
            said.append(f"The limit {name} = {limit:g} may stop it before the end; what came until then is used.")
    return said


def price_queries(config: Config, passages: Mapping[str, Passage], run: Path, *, ask: bool = False) -> Price:
    """Price the queries of a run whose folder is `run`, from a sample of 20 passages.

    Without `ask` nobody is asked: prompts are counted (see `estimated_tokens`), answers taken to be as long as queries
    are. With `ask` the first 20 requests of the run are made, and paid for; the run finds their answers in its cache.
    Raises what asking raises.
    """
    settings, llm = config.queries, config.llm
    users = read_user_queries(settings.examples)
    if ask:
        vectors = passage_vectors(config, passages, run / "vectors")
        planned = plan_tasks(settings, llm, passages, config.seed, users, vectors)
        singles = sum(len(task.passages) == 1 for task in planned.tasks)
        first = planned.tasks[:SAMPLE]
        with open_client(llm, run / "queries" / "cache" / CACHE) as client:
            replies = dict(client.ask([task.prompt for task in first]))
        return _price(first, [replies.get(place) for place in range(len(first))], singles, planned.pairs)
    choice = choose_passages(passages, settings.max_passages, config.seed)
    brief = brief_of(settings, llm)
    dealt = deal(settings.styles, len(choice.keys), settings.per_passage)
    singles = len(choice.keys) if any(dealt) else 0
    sample = [
        single_task(passages, key, styles or ("comparison",) * PER_PAIR, brief, users, config.seed)
        for key, styles in list(zip(choice.keys, dealt, strict=True))[:SAMPLE]
    ]
    known: list[Reply | None] = [None] * len(sample)
    cache = run / "queries" / "cache" / CACHE
    if cache.exists() and not llm.local and llm.base_url and llm.model:
        client = LlmClient(llm, cache)
        known = [client.known(task.prompt) for task in sample]
    pairs = 0 if brief.small else pairs_wanted(settings.styles, len(choice.keys), settings.per_passage)
    return _price(sample, known, singles, pairs)


def queries_at_most(
    config: Config, passages: Mapping[str, Passage], run: Path, price: Price | None, *, there: bool
) -> tuple[int, bool]:
    """How many queries a run may have, and whether filters and split will still take from them.

    `there` says that the stage is done and its file can be counted; `price` is that of queries an LLM is to write.
    """
    settings, source = config.queries, Path(config.queries.source)
    if there:
        return _lines(run / "queries" / "queries.jsonl"), False
    if price is not None:
        return price.passages * settings.per_passage + price.pairs * PER_PAIR, True
    if settings.source == "structure":
        return min(len(passages), settings.max_passages) * settings.per_passage, True
    return _lines(source / "queries.jsonl" if source.is_dir() else source), is_generated(settings)


def _lines(path: Path) -> int:
    if not path.is_file():
        return 0
    with path.open("rb") as stream:
        return sum(bool(line.strip()) for line in stream)


def _price(sample: Sequence[Task], replies: Sequence[Reply | None], singles: int, pairs: int) -> Price:
    estimates = [_halved(task, prompt_tokens(task.prompt)) for task in sample]
    answered = [(task, reply) for task, reply in zip(sample, replies, strict=True) if reply is not None and reply.paid]
    counted = sum(reply.prompt_tokens for _, reply in answered)
    ratio = counted / (sum(prompt_tokens(task.prompt) for task, _ in answered) or 1) if answered else 0.0
    low_ratio, high_ratio = (ratio, ratio) if ratio else OF_ESTIMATE
    low, high = _interval(estimates)
    # A pair's prompt holds a second passage beside what all prompts hold.
    passage = sum(_passage_tokens(task) for task in sample) / max(1, len(sample))
    prompt_low = (singles * low + pairs * (low + passage)) * low_ratio
    prompt_high = (singles * high + pairs * (high + passage)) * high_ratio * (1 + _REPAIRED)
    if len(answered) >= 3:
        answer_low, answer_high = _interval([reply.completion_tokens for _, reply in answered])
    else:
        each = sum(len(task.styles) for task in sample) / max(1, len(sample))
        answer_low, answer_high = _ANSWER_FRAME + each * _QUERY_LOW, _ANSWER_FRAME + each * _QUERY_HIGH
    requests = singles + pairs
    return Price(
        requests,
        singles,
        pairs,
        Tokens(round(prompt_low), round(requests * answer_low)),
        Tokens(round(prompt_high), round(requests * answer_high * (1 + _REPAIRED))),
        len(sample),
        len(answered),
    )


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, less and plus two standard errors."""
    if not values:
        return 0.0, 0.0
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1))
    error = 2 * spread / math.sqrt(len(values))
    return max(0.0, mean - error), mean + error


def _halved(task: Task, tokens: int) -> float:
    """A request's tokens with one passage in it, also if it has two."""
    return tokens - (_passage_tokens(task) if len(task.passages) > 1 else 0)


def _passage_tokens(task: Task) -> float:
    """Tokens of one passage in a prompt: what stands between the marker lines."""
    parts = task.prompt.messages[-1][1].split("=== PASSAGE ")
    return sum(estimated_tokens(part) for part in parts[1::2]) / max(1, len(parts[1::2]))
