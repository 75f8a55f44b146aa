"""The dataset card: what is in the data, where it comes from and how it was made, for people and for the hub."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fieldtune.config import Config
from fieldtune.dataset.funnel import filter_steps, kind_rows
from fieldtune.types import Example, Result

_GONE = 2
"""Dropped queries that are shown of each filter."""
_QUOTED = 300
"""Characters of a passage that an example shows."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One training row as the card shows it."""

    style: str
    example: Example


@dataclass(frozen=True, slots=True)
class CardFacts:
    title: str
    funnel: Sequence[Result]
    """What the stages before said, oldest first."""
    dataset: Result
    prompts: Mapping[str, str]
    """What is put before each text ("query", "passage") and what generators were told."""
    scores: Mapping[str, Any]
    """The record in teacher.json."""
    examples: Sequence[Shown]


def dataset_card(facts: CardFacts, config: Config) -> str:
    """Markdown with YAML front matter as the Hugging Face hub reads it; the same facts give the same text."""
    return "\n".join([*_front_matter(config), *_body(facts, config)]) + "\n"


def _front_matter(config: Config) -> Iterator[str]:
    yield "---"
    if config.card.data_license:
        yield f"license: {_yaml(config.card.data_license)}"
    yield from ("task_categories:", "- text-retrieval", "tags:", "- sentence-transformers", "- information-retrieval")
    yield "configs:"
    for name, file in (("train", "train.jsonl"), ("corpus", "corpus.jsonl"), ("queries", "queries.jsonl")):
        yield from (f"- config_name: {name}", f"  data_files: {file}")
    yield "---"


def _body(facts: CardFacts, config: Config) -> Iterator[str]:
    yield f"# {_line(facts.title)}"
    yield ""
    yield "Queries, passages and judgements to tune and measure a retrieval model, made with fieldtune."
    yield f"Licence of the texts: {_line(config.card.data_license) or 'not stated (set card.data_license)'}."
    yield from _section("Files")
    yield from (
        "- `corpus.jsonl`, `queries.jsonl`, `qrels/{train,dev,test}.tsv`, `meta.json`: BEIR layout",
        "- `train.jsonl`: a training row a line (`query`, `pos`, `neg`, `pos_scores`, `neg_scores`, `prompt`: names",
        "  of FlagEmbedding); texts under `known` must never count as wrong for the query, those under `neg` included",
        "- `teacher.json`: what the scores are",
    )  # fmt: skip
    yield from _section("From documents to training rows")
    yield from _table(("stage", "what", "count"), _funnel([*facts.funnel, facts.dataset]))
    notes = [note for result in (*facts.funnel, facts.dataset) for note in result.notes]
    yield from ("", *(f"- {_line(note)}" for note in notes)) if notes else ()
    yield from _section("Left out")
    left_out = [
        (result.stage, reason, f"{count:,}")
        for result in (*facts.funnel, facts.dataset)
        for reason, count in result.dropped.items()
    ]
    yield from _table(("stage", "reason", "count"), left_out) if left_out else ("Nothing.",)
    if kinds := list(kind_rows(facts.funnel)):
        yield from _section("Kinds of made queries")
        yield from _table(
            ("kind", "passages that give it", "of all asked", "queries made", "kept", "of all kept"), kinds
        )
    steps = list(filter_steps(facts.funnel))
    if steps:
        yield from _section("Filters on made queries")
        yield from _table(("filter", "queries", "dropped"), [(s.name, f"{s.came:,}", f"{s.dropped:,}") for s in steps])
        gone = [f"- {_line(s.name)}: {_line(q)} ({_line(why)})" for s in steps for q, why in s.examples[:_GONE]]
        yield from ("", "Among those that went:", "", *gone) if gone else ()
    yield from _section("Negatives")
    yield from _negatives(config)
    yield from _section("Scores")
    yield from _scores(facts.scores)
    yield from _section("Prompts")
    for name, text in facts.prompts.items():
        yield from (f"{_line(name)}:", "", *_quote(text or "(none)"), "")
    yield from _section("Examples")
    for shown in facts.examples:
        yield from _example(shown)
    if not facts.examples:
        yield "There are no training rows."


def _funnel(results: Iterable[Result]) -> Iterator[tuple[str, str, str]]:
    for result in results:
        for name, count in result.counts.items():
            yield result.stage, name, f"{count:,}"


def _negatives(config: Config) -> Iterator[str]:
    settings = config.negatives
    if not settings.per_query:
        yield "None were mined: training uses the other passages of a batch alone."
        return
    source = {"model": "the base model's", "bm25": "BM25's", "fused": "the base model's and BM25's fused"}
    yield f"Up to {settings.per_query} per query out of {source[settings.candidates]} top {settings.depth} passages."
    yield (
        f"A candidate was skipped above {settings.max_share_of_positive:g} of the way from the score of unrelated "
        f"texts to the positive's, and from a Jaccard similarity of {settings.near_duplicate:g} to a positive on."
    )
    if not settings.same_document:
        yield "None stands in a document of one of the query's positives."
    for style, limit in sorted(settings.style_limits.items()):
        yield f"At most {limit} for a query of style {_line(style)}."
    if settings.check:
        yield (
            f"Checked by {_line(settings.check)}: dropped {settings.check_margin:g} above the lowest positive, made a "
            f"positive from {settings.check_confirm:g} on."
        )


def _scores(record: Mapping[str, Any]) -> Iterator[str]:
    if record["kind"] == "none":
        yield "The rows carry none."
        return
    yield from _table(("what", "value"), [(name, _value(value)) for name, value in record.items() if value is not None])


def _value(value: Any) -> str:
    return ", ".join(f"{part:g}" for part in value) if isinstance(value, list) else str(value)


def _example(shown: Shown) -> Iterator[str]:
    example = shown.example
    yield from (f"Query ({_line(shown.style)}):", "", *_quote(example.query), "", "positive:", "")
    yield from _quote(example.pos[0][:_QUOTED])
    aside = set(example.known)
    hard = [text for text in example.neg if text not in aside]
    if hard:
        yield from ("", "hard negative:", "", *_quote(hard[0][:_QUOTED]))
    yield ""


def _section(title: str) -> tuple[str, ...]:
    return "", f"## {title}", ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(_line(cell).replace('|', chr(92) + '|') for cell in row)} |"


def _quote(text: str) -> list[str]:
    """Documents are strangers' texts: shown as they are, without their Markdown or HTML taking part in the page."""
    marked = "".join(f"\\{sign}" if sign in "\\`*_[]#|~" else sign for sign in html.escape(text, quote=False))
    # A line of dashes would make the one above it a heading.
    lines = [re.sub(r"^(\s*)([-=+])", r"\1\\\2", line) for line in marked.strip().splitlines()]
    return [f"> {line}".rstrip() for line in lines] or [">"]


def _line(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=False)


def _yaml(text: str) -> str:
    """A JSON string is a YAML string; what reads the same without quotes goes without."""
    plain = re.fullmatch(r"[a-z]+-[a-z0-9.-]+", text)
    return text if plain else json.dumps(text, ensure_ascii=False)
