"""Documents to passages that the base model can read whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fieldtune.beir import read_corpus, write_corpus
from fieldtune.config import Config, Corpus
from fieldtune.models import resolve_model, token_counter
from fieldtune.stages.inputs import given_corpus
from fieldtune.stages.run import Run
from fieldtune.types import Result


def run(run: Run) -> Result:
    from fieldtune.corpus import build_corpus
    from fieldtune.documents import load_documents

    given = given_corpus(run.config)
    if not run.config.documents.paths and given is not None:
        passages = read_corpus(given)
        write_corpus(run.path("corpus", "corpus.jsonl"), passages.values())
        run.path("corpus", "duplicates.jsonl").write_text("")
        return Result("corpus", {"passages": len(passages)})
    documents = load_documents(run.path("documents", "documents.jsonl"))
    settings, notes = readable(run.config)
    result = build_corpus(settings, documents, token_counter(run.config.model.base), run.path("corpus"))
    return replace(result, notes=(*notes, *result.notes))


def depends(config: Config) -> Any:
    settings = [config.seed, readable(config)[0].model_dump()]
    return [settings, resolve_model(config.model.base).fingerprint]


def readable(config: Config) -> tuple[Corpus, tuple[str, ...]]:
    """The corpus settings with passages no longer than the base model reads: what it cuts off is never found."""
    corpus, model = config.corpus, resolve_model(config.model.base)
    limit = config.model.max_tokens or model.max_tokens
    if limit is None or corpus.max_tokens <= limit:
        return corpus, ()
    shorter = {
        "max_tokens": limit,
        "overlap_tokens": min(corpus.overlap_tokens, limit // 4),
        "min_tokens": min(corpus.min_tokens, limit // 4),
    }
    sentence = (
        f"Passages end at {limit} tokens, the most that {model.name} reads (corpus.max_tokens is {corpus.max_tokens}); "
        "model.max_tokens or another base model allows longer ones."
    )
    return corpus.model_copy(update=shorter), (sentence,)
