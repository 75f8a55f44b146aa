"""What every source of queries hands over, and how it is written to the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fieldtune.beir import write_qrels, write_queries
from fieldtune.llm import Prompt
from fieldtune.types import Qrels, Query
from fieldtune.workspace import digest, write_json, write_jsonl

MadeBy = Literal["labels", "structure", "llm", "file"]

DOUBTED = "doubted"
"""Key of a query's metadata: passages that a filter no longer counts as answers, and that are no wrong ones either."""


@dataclass(frozen=True, slots=True)
class Made:
    """Queries with their qrels, and the account of how they came about."""

    made_by: MadeBy
    queries: Mapping[str, Query]
    qrels: Mapping[str, Qrels]
    """By split, or "all"."""
    counts: Mapping[str, int | float] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    not_found: tuple[Mapping[str, Any], ...] = ()
    """Passages of labels or generated queries that are not in the corpus: where they stand and how they begin."""
    relevance_threshold: int = 1
    evaluation: Literal["full-corpus", "judged-only"] = "full-corpus"


def doubted_of(query: Query) -> list[str]:
    """Ids of the passages that a filter took from the query's answers."""
    found = query.metadata.get(DOUBTED)
    return [str(key) for key in found] if isinstance(found, list | tuple) else []


def sample_prompt(purpose: str, passages: tuple[str, ...], prompt: Prompt) -> dict[str, Any]:
    """An entry of `Made.details["prompts"]`: what an LLM was asked for `purpose` on these passages, word for word."""
    return {"for": purpose, "passages": list(passages), "messages": [list(message) for message in prompt.messages]}


def query_id(*key: str) -> str:
    """A stable id made from what identifies the query."""
    return f"q-{digest(key)[:12]}"


def write_made(folder: Path, made: Made) -> None:
    """Write queries.jsonl, qrels/*.tsv, meta.json and, if labels were not found, not_found.jsonl.

    Files that an earlier run left and this one does not write are removed; meta.json comes last.
    """
    (folder / "meta.json").unlink(missing_ok=True)
    write_queries(folder / "queries.jsonl", made.queries.values())
    for old in sorted((folder / "qrels").glob("*.tsv")):
        if old.stem not in made.qrels:
            old.unlink()
    for split, qrels in made.qrels.items():
        write_qrels(folder / "qrels" / f"{split}.tsv", qrels)
    if made.not_found:
        write_jsonl(folder / "not_found.jsonl", made.not_found)
    else:
        (folder / "not_found.jsonl").unlink(missing_ok=True)
    write_json(
        folder / "meta.json",
        {
            "relevance_threshold": made.relevance_threshold,
            "evaluation": made.evaluation,
            "made_by": made.made_by,
        },
    )
