"""The corpus with the tuned model's vectors, ready for search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune.beir import load_beir, read_corpus
from fieldtune.config import Config
from fieldtune.models import resolve_model
from fieldtune.stages.inputs import format_of_vectors, settings_of
from fieldtune.stages.run import Run
from fieldtune.stages.three import ThreeWays
from fieldtune.types import Passage, Result

if TYPE_CHECKING:
    from fieldtune.encoding import Encoder
    from fieldtune.index import Base, Dev

_MOST_DEV = 2_000


def run(run: Run) -> Result:
    from fieldtune.encoding import (
        Encoded,
        Encoder,
        agrees,
        agrees_closely,
        corpus_vectors,
        is_cached,
        settings_for,
    )
    from fieldtune.index import build_index

    passages = list(read_corpus(run.path("data", "corpus.jsonl")).values())
    model = run.path("model")
    encoder = Encoder.load(str(model), trust=run.config.model.trust_remote_code)
    texts = [passage.content for passage in passages]
    three = ThreeWays.of(run, model, encoder)
    made = None if three is None else three.passages(texts)
    if made is not None and not is_cached(encoder, texts, "passage", run.path("vectors")):
        vectors = made.vectors.dense[made.rows]  # of the same pass
        encoded = Encoded(vectors, f"model {encoder.precision}")
    else:
        settings = settings_for(run.config) if three is None else None
        dev = load_beir(run.path("data")) if run.config.encoding.precision == "int8" else None
        encoded = corpus_vectors(
            encoder, texts, run.path("vectors"), settings, label="encoding passages (tuned)", dev=dev
        )
        vectors = encoded.vectors
    result = build_index(
        run.config.index,
        passages,
        vectors,
        run.path("index"),
        model_fingerprint=resolve_model(str(model)).fingerprint,
        model=model,
        seed=run.config.seed,
        dev=dev_queries(run, passages, encoder, three),
        base=_base(run, texts),
        single=agrees(model, encoder, texts[:2]),
        numpy=agrees_closely(model, encoder, texts[:2]),
        given=None if three is None or made is None else three.given(made),
    )
    return replace(
        result,
        notes=(*encoded.notes, *result.notes),
        details=dict(result.details) | {"passages encoded by": encoded.made_by},
    )


def depends(config: Config) -> Any:
    return [*settings_of(config, "index"), *format_of_vectors(config)]


def dev_queries(run: Run, passages: Sequence[Passage], encoder: Encoder, three: ThreeWays | None = None) -> Dev | None:
    """The dev queries that can be judged on these passages; never the test's, for search is chosen by them."""
    from fieldtune.encoding import cached_vectors
    from fieldtune.index import Dev
    from fieldtune.measures import judgements

    data = load_beir(run.path("data"))
    place = {passage.id: row for row, passage in enumerate(passages)}
    names: list[str] = []
    qrels = []
    for name, relevant in data.positives("dev").items():
        grades = {key: grade for key, grade in data.qrels["dev"][name].items() if key in place}
        if all(key in place for key in relevant) and len(names) < _MOST_DEV:
            names.append(name)
            qrels.append(grades)
    if not names:
        return None
    texts = [data.queries[name].text for name in names]
    vectors = cached_vectors(encoder, texts, "query", run.path("vectors"), label="encoding dev queries (tuned)")
    judged = judgements(qrels, place, data.relevance_threshold)
    return Dev(tuple(texts), vectors, judged, None if three is None else three.queries(texts))


def _base(run: Run, texts: list[str]) -> Base | None:
    """The base model's vectors, where they are wanted or were made already."""
    from fieldtune.encoding import Encoder, corpus_is_cached, corpus_vectors, settings_for
    from fieldtune.index import Base

    wanted, vectors = run.config.index.base, run.path("vectors")
    if wanted is False:
        return None
    model = run.config.model
    encoder = Encoder.load(model.base, settings=model)
    settings = settings_for(run.config)
    if wanted == "auto" and not corpus_is_cached(encoder, texts, vectors, settings):
        return None
    dev = load_beir(run.path("data")) if run.config.encoding.precision == "int8" else None
    made = corpus_vectors(encoder, texts, vectors, settings, label="encoding passages (base)", dev=dev).vectors
    path = Path(model.base).expanduser()
    name = str(path.resolve()) if path.is_dir() else model.base
    return Base(made, name, resolve_model(model.base).fingerprint)
