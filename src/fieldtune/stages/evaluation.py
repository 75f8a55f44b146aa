"""What the tuned model gained over the base model, with proof."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune.beir import RetrievalData, load_beir
from fieldtune.config import Config
from fieldtune.errors import InputError
from fieldtune.labelling import labelled, write_labelling
from fieldtune.metering import meter
from fieldtune.stages.inputs import contents, format_of_vectors
from fieldtune.stages.record import learning_curve
from fieldtune.stages.run import Run
from fieldtune.types import Result
from fieldtune.versions import versions
from fieldtune.workspace import read_json

if TYPE_CHECKING:
    from fieldtune.evaluation import System


def run(run: Run) -> Result:
    from fieldtune.encoding import Encoder, cached_vectors, settings_for
    from fieldtune.evaluation import (
        ModelFacts,
        Origin,
        added_leaks,
        audit,
        digests,
        evaluate,
        general_ability,
        languages_of,
        line_up,
        prove,
        with_trained_sizes,
        write_card,
        write_metrics,
        write_per_query,
        write_report,
    )
    from fieldtune.probes import for_verdict, probe, probes_of

    config = run.config
    took = meter("evaluation, up to this report")
    data = load_beir(run.path("data"))
    split = "test" if data.positives("test") else "dev"
    if not data.positives(split):
        raise InputError(
            "no labelled query is left to measure on: the split put none into test or dev",
            "raise split.test, or give labels for more documents",
            path=run.path("data"),
        )
    given = data
    data, notes = labelled(data, split, [Path(path) for path in config.evaluation.judgements])
    notes += added_leaks(given, data, split, config.evaluation, run.path("data", "train.jsonl"))
    base = Encoder.load(config.model.base, settings=config.model)
    leakage = audit(
        given,
        split,
        config.evaluation,
        training=run.path("data", "train.jsonl"),
        vectors=lambda texts: cached_vectors(
            base, texts, "query", run.path("vectors"), label="encoding queries (base)"
        ),
    )
    load_tuned = partial(Encoder.load, str(run.path("model")), trust=config.model.trust_remote_code)
    models: list[tuple[str, Callable[[], Encoder]]] = [("base", lambda: base), ("tuned", load_tuned)]
    funnel = run.funnel()
    measured = with_trained_sizes(config.evaluation, funnel)
    lineup = line_up(
        data, split, models, run.path("vectors"), measured, bm25=config.evaluation.bm25, encoding=settings_for(config)
    )
    evaluation = evaluate(data, split, lineup.systems, config.evaluation, config.seed, lineup.notes)
    general = None
    if probes := for_verdict(probes_of(config.evaluation), run.path("model")):
        before, after = (probe(load(), probes, run.path("vectors"), label=name) for name, load in models)
        general = general_ability(probes, before, after, config.evaluation, config.seed)
    proof = prove(
        data, evaluation, lineup.systems, leakage, config.evaluation, general=general, chosen_on=split == "dev"
    )
    notes += _labelling_file(run, data, split, lineup.systems)
    extra = {"general": general.as_json() if general else None, "test_set": digests(data, split)}
    extra["passages encoded by"] = dict(lineup.encoded_by)
    write_metrics(run.path("metrics.json"), evaluation, proof.record() | extra)
    write_per_query(run.path("per_query.csv"), evaluation, data)
    origin = Origin(
        title=run.workspace.root.resolve().name,
        stages=funnel,
        costs=[*run.workspace.costs(run.before), took()],
        training_log=learning_curve(run.workspace.root),
        commands=(
            "fieldtune run fieldtune.toml                     # all settings, below, saved as fieldtune.toml",
            "fieldtune run fieldtune.toml --from evaluation   # only measure again",
            f"fieldtune compare {shlex.quote(config.out)} ANOTHER_RUN   # a later run against this one",
        ),
        settings=config.model_dump(by_alias=True),
        packages=versions(),
        machine=f"{platform.machine()} with {os.cpu_count()} processors, {_device(funnel)}, "
        f"passages encoded by: {', '.join(dict.fromkeys(lineup.encoded_by.values()))}",
        examples=config.evaluation.examples,
        notes=notes,
    )
    write_report(run.path("report.html"), evaluation, data, lineup.systems, proof, origin)
    title = config.card.title or run.workspace.root.resolve().name
    texts = (query.text for query in data.queries.values())
    languages = config.card.languages or languages_of(chain(texts, (one.content for one in data.passages.values())))
    about = ModelFacts(title, config, funnel, languages, versions())
    write_card(run.path("model"), read_json(run.path("metrics.json")), about)
    notes = [
        proof.verdict.line,
        leakage.sentence,
        *((general.sentence, *general.notes) if general else ()),
        *evaluation.notes,
        *notes,
    ]
    if split == "dev":
        notes.append("There is no test split: these are dev queries, which the best checkpoint was chosen by.")
    counts: dict[str, int | float] = {"queries": len(data.positives(split)), "systems": len(lineup.systems)}
    return Result("evaluation", counts, {}, tuple(notes), {"passages encoded by": dict(lineup.encoded_by)})


def depends(config: Config) -> Any:
    """The settings, and the content of added judgements and of the user's own sets for general ability."""
    content = contents((*config.evaluation.judgements, *config.evaluation.general_data))
    settings = [config.evaluation.model_dump(), config.card.model_dump()]
    return [config.seed, *settings, content, *format_of_vectors(config)]


def _device(funnel: Sequence[Result]) -> str:
    """What training ran on, as the stage said it."""
    details = next((result.details for result in funnel if result.stage == "training"), {})
    return f"trained on {details.get('device', 'an unknown device')} in {details.get('precision', 'unknown precision')}"


def _labelling_file(run: Run, data: RetrievalData, split: str, systems: Sequence[System]) -> list[str]:
    """Write unjudged.csv; one that someone has filled in is left as it is."""
    if not run.config.evaluation.unjudged:
        return []
    try:
        return write_labelling(run.path("unjudged.csv"), run.config, data, split, systems)
    except InputError as error:
        return [f"{error.message}: left as it is. {error.hint}"]
