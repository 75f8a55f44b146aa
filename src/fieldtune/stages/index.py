"""The corpus with the tuned model's vectors, ready for search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fieldtune.beir import load_beir, read_corpus
from fieldtune.config import Config
from fieldtune.models import resolve_model
from fieldtune.stages.inputs import settings_of
from fieldtune.stages.run import Run
from fieldtune.types import Result


def run(run: Run) -> Result:
    from fieldtune.encoding import Encoder, agrees, cached_vectors
    from fieldtune.index import build_index

    passages = list(read_corpus(run.path("data", "corpus.jsonl")).values())
    model = run.path("model")
    encoder = Encoder.load(str(model))
    texts = [passage.content for passage in passages]
    # Real queries, where an approximate index has to be measured; never the test's, for the index is chosen by them.
    asked = _dev_texts(run.path("data")) if len(passages) >= run.config.index.ann_above else []
    return build_index(
        run.config.index,
        passages,
        cached_vectors(encoder, texts, "passage", run.path("vectors"), label="encoding passages (tuned)"),
        run.path("index"),
        model_fingerprint=resolve_model(str(model)).fingerprint,
        model=model,
        seed=run.config.seed,
        query_vectors=encoder.encode(asked, "query") if asked else None,
        single=agrees(model, encoder, texts[:2]),
    )


def depends(config: Config) -> Any:
    return settings_of(config, "index")


def _dev_texts(data: Path, most: int = 500) -> list[str]:
    loaded = load_beir(data)
    return [loaded.queries[query].text for query in list(loaded.positives("dev"))[:most]]
