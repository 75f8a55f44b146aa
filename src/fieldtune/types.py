"""The nouns of the house, shared by every stage: frozen, slotted, free of behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

BlockKind = Literal["heading", "paragraph", "list_item", "table", "footnote"]
Side = Literal["query", "passage"]
Split = Literal["train", "dev", "test"]

SPLITS: tuple[Split, ...] = ("train", "dev", "test")

Qrels = dict[str, dict[str, int]]
"""Query id -> passage id -> grade; a passage is relevant from the set's relevance threshold on."""

Run = dict[str, dict[str, float]]
"""Query id -> passage id -> score of a system, higher is better."""


@dataclass(frozen=True, slots=True)
class Block:
    """One typed piece of a document in reading order; a table's `text` is a Markdown table."""

    kind: BlockKind
    text: str
    level: int | None = None
    """Of a heading: 1 is the highest. None for other kinds."""
    page: int | None = None
    """1-based; None where the format has no pages."""


@dataclass(frozen=True, slots=True)
class Document:
    """A file after reading: what it says, in order, without running headers and line-break hyphens."""

    id: str
    """Stable: the same source path and content give the same id."""
    source: str
    """Path relative to the folder given by the user, with forward slashes."""
    title: str
    blocks: tuple[Block, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Passage:
    """The unit that is embedded, labelled and found."""

    id: str
    title: str
    """Carries the path: "ACME 2022 10-K > Item 7 > Liquidity"."""
    text: str
    group: str = ""
    """What must stay on one side of a split and is resampled as one in intervals: a law, a filing, a topic."""
    source: str = ""
    page: int | None = None
    start: int | None = None
    """Character offsets of `text` in the document's cleaned text, end exclusive."""
    end: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def content(self) -> str:
        """What an embedding model and BM25 see: the title, a line break, the text."""
        return f"{self.title}\n{self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True)
class Query:
    """A question, or whatever the field's users type to find a passage."""

    id: str
    text: str
    style: str = ""
    """Where it comes from: "" when a human wrote it, else the generator's style."""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Example:
    """One training row in FlagEmbedding's terms; texts, not ids."""

    query: str
    pos: tuple[str, ...]
    neg: tuple[str, ...] = ()
    pos_scores: tuple[float, ...] = ()
    neg_scores: tuple[float, ...] = ()
    prompt: str = ""
    known: tuple[str, ...] = ()
    """Passages that must not serve as in-batch negatives: other positives of the query and their near-duplicates."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result; `rank` is 1-based."""

    passage: Passage
    score: float
    rank: int
    parts: Mapping[str, float] = field(default_factory=dict)
    """Why it was found: of "dense" (cosine), "words" (BM25), "sparse" (learned word weights), "multi" (token vectors),
    "dense_rank", "words_rank", "sparse_rank" and "rerank" what is known."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a stage has to say for itself; it becomes part of the run's record and of the report's funnel."""

    stage: str
    counts: Mapping[str, int | float]
    """What came out, in the order worth reading."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Reason -> how many; nothing disappears without being counted here."""
    notes: tuple[str, ...] = ()
    """Sentences for the user: what was decided, and why."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able lists behind the counts: files that failed, labels not found, moved queries."""
