"""What a run would do and take, told before it does."""

from __future__ import annotations

from pathlib import Path

from fieldtune.beir import read_corpus
from fieldtune.config import Config
from fieldtune.pipeline import outlook, run_pipeline
from fieldtune.workspace import Workspace


def query_price(config: Config, *, ask: bool = False) -> list[str]:
    """What the LLM of a run would take, in sentences; none where no LLM is asked, or its queries are there.

    Reads documents and cuts passages first if that is not done: it costs nothing, and the run goes on from there. With
    `ask`, 20 requests are really made (see `price_queries`). Raises what those stages and asking raise.
    """
    from fieldtune.queries.pricing import price_queries

    if config.queries.source != "llm":
        return []
    if next(state for name, state, _ in outlook(config) if name == "queries") == "done":
        return ["The LLM's queries are there; nothing is left to pay for."]
    run_pipeline(config, last="corpus")
    with Workspace(Path(config.out)) as workspace:
        passages = read_corpus(workspace.path("corpus", "corpus.jsonl"))
        return price_queries(config, passages, workspace.root, ask=ask).sentences(config)
