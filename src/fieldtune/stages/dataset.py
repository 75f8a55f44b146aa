"""Split, hard negatives, teacher scores."""

from __future__ import annotations

from typing import Any

from fieldtune.beir import RetrievalData, read_corpus, read_qrels, read_queries
from fieldtune.config import Config
from fieldtune.llm.answers import PLACE
from fieldtune.models import resolve_model
from fieldtune.stages.inputs import format_of_vectors, settings_of
from fieldtune.stages.run import Run
from fieldtune.types import Result
from fieldtune.workspace import read_json


def run(run: Run) -> Result:
    from fieldtune.corpus import load_duplicates
    from fieldtune.dataset import build_dataset
    from fieldtune.encoding import Encoder

    config = run.config
    passages = read_corpus(run.path("corpus", "corpus.jsonl"))
    queries = read_queries(run.path("queries", "queries.jsonl"))
    files = sorted(run.path("queries", "qrels").glob("*.tsv"))
    qrels = {path.stem: read_qrels(path, passages, queries)[0] for path in files}
    meta = read_json(run.path("queries", "meta.json"))
    data = RetrievalData(passages, queries, qrels, meta["relevance_threshold"], meta["evaluation"])
    return build_dataset(
        config,
        data,
        load_duplicates(run.path("corpus", "duplicates.jsonl")),
        Encoder.load(config.model.base, settings=config.model),
        run.path("data"),
        run.path("vectors"),
        run.funnel(),
        answers=run.path(PLACE),
    )


def depends(config: Config) -> Any:
    """The settings, with the content of the models that check and score."""
    from fieldtune.dataset.embedder import is_embedder
    from fieldtune.dataset.fused_teacher import NAME as FUSED
    from fieldtune.dataset.pricing import asks_for_grades
    from fieldtune.dataset.scorers import scorer_fingerprint
    from fieldtune.dataset.teacher import GRADED

    card = [config.card.title, config.card.data_license]
    settings = [*settings_of(config, "split", "negatives", "teacher", "model"), card]
    checks = config.negatives.check if config.negatives.per_query else ""
    teacher = "" if config.teacher.model == FUSED else config.teacher.model
    embeds = is_embedder(teacher)
    names = [checks, "" if embeds else teacher]
    settings += ["grades"] if config.training.loss in GRADED else []
    # What a limit left without a score gets one when the limit is raised.
    limits = [config.llm.max_cost, config.llm.max_tokens] if asks_for_grades(config) else []
    scorers = [scorer_fingerprint(name, config.llm) for name in names if name]
    scorers += [resolve_model(teacher).fingerprint] if embeds else []
    return [*settings, *scorers, *limits, *format_of_vectors(config)]
