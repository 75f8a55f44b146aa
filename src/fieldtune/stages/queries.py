"""Queries with labels: read, or made from the passages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fieldtune.beir import read_corpus
from fieldtune.config import Config
from fieldtune.stages.inputs import content, digest_or_cause
from fieldtune.stages.run import Run
from fieldtune.types import Result


def run(run: Run) -> Result:
    from fieldtune.queries import gather_queries

    passages = read_corpus(run.path("corpus", "corpus.jsonl"))
    return gather_queries(run.config, passages, run.path("queries"), run.path("queries", "cache"), run.path("vectors"))


def depends(config: Config) -> Any:
    """What decides the queries: settings, labels, and the models that write or filter them."""
    from fieldtune.queries import is_generated

    settings, files = config.queries, [content(config.queries.source)]
    if settings.test:
        files.append(content(settings.test))
    decisive: list[Any] = [config.seed, settings.model_dump(), files]
    made = settings.source in ("structure", "llm") or is_generated(settings)
    if made and settings.round_trip_k:  # made queries go through the base model and back
        decisive.append(config.model.model_dump())
    if settings.source == "llm" or (made and settings.judge):
        unimportant = {"concurrency", "timeout_seconds", "max_retries"}
        if not config.llm.max_cost:
            unimportant |= {"price_prompt", "price_completion"}
        decisive.append(config.llm.model_dump(exclude=unimportant))
    if made and settings.examples:
        decisive.append(digest_or_cause(Path(settings.examples)))
    return decisive
