"""Models side by side on a BEIR folder, without a config file."""

from __future__ import annotations

import os
import platform
import shlex
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from fieldtune.beir import RetrievalData, load_beir, require_split
from fieldtune.config import Config
from fieldtune.errors import ConfigError
from fieldtune.evaluate_request import Asked, Files, require_sense
from fieldtune.labelling import labelled, write_labelling
from fieldtune.metering import meter
from fieldtune.trained_card import require_card, update_card

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fieldtune.encoding import Encoder
    from fieldtune.evaluation import Evaluation, General, Lineup, Proof
    from fieldtune.workspace import Cost

Precision = Literal["auto", "fp32", "bf16"]


def evaluate_models(
    config: Config, asked: Asked, files: Files, show: Sequence[str] = ()
) -> tuple[tuple[str, ...], list[tuple[str, ...]], list[str], str]:
    """Measure models, BM25 and what `config.evaluation` asks for beside them; the corpus is encoded once per model.

    Returns columns and rows for the console, the finding in sentences, verdict first, and the verdict's outcome. The
    split is audited for leaks from the folder's train and dev splits and from what the models learnt from. `show` names
    the measures of the console's table; all are in the files.

    Raises ConfigError when there is nothing to measure, or for settings that nothing here uses.
    """
    from fieldtune.encoding import Encoder, cached_vectors
    from fieldtune.evaluation import added_leaks, audit, comparison_table, evaluate, line_up, prove

    require_sense(config, asked, files)
    if files.card:
        asked = replace(asked, models=_published(asked.models))
    named = [_named(model) for model in asked.models]
    if len({name for name, _ in named}) < len(named):
        raise ConfigError("two models have the same name", "name them: --model before=M1 --model after=M2")
    carded = require_card(named[-1][1]) if files.card else None
    split = asked.split
    given = load_beir(asked.data)
    loaded, notes = labelled(given, split, [*map(Path, config.evaluation.judgements), *asked.judgements])
    require_split(asked.data, loaded, split)
    learnt = [asked.train_data] if asked.train_data else trained_on(model for _, model in named)
    notes += [
        f"Audited against the training rows of a model beside it: {path}."
        for path in learnt
        if path != asked.train_data
    ]
    given = given if given.positives(split) else loaded
    notes += added_leaks(given, loaded, split, config.evaluation, learnt)
    precision = cast(Precision, asked.precision)
    with tempfile.TemporaryDirectory(prefix="fieldtune-") as folder:
        loaders = [(name, partial(Encoder.load, model, precision=precision)) for name, model in named]

        def vectors(texts: Sequence[str]) -> NDArray[np.float32]:
            name, load = loaders[0]
            return cached_vectors(load(), texts, "query", Path(folder), label=f"encoding queries ({name})")

        took = meter("audit for leaks")
        leakage = audit(given, split, config.evaluation, training=learnt, vectors=vectors if loaders else None)
        costs = [took()]
        lineup = line_up(
            loaded, split, loaders, Path(folder), config.evaluation, bm25=asked.bm25, encoding=config.encoding
        )
        costs += lineup.costs
        ability = None
        if asked.general:
            took = meter("general ability, both models")
            ability = _general(config, loaders, named[-1][1], Path(folder))
            costs.append(took())
    took = meter("intervals, tests and slices")
    evaluation = evaluate(loaded, split, lineup.systems, config.evaluation, config.seed, lineup.notes)
    chosen_on = split == "dev" and bool(named)
    proof = prove(loaded, evaluation, lineup.systems, leakage, config.evaluation, general=ability, chosen_on=chosen_on)
    costs.append(took())
    if files.unjudged:
        notes += write_labelling(files.unjudged, config, loaded, split, lineup.systems, llm_judge=files.llm_judge)
    notes += _write(files, config, asked, loaded, lineup, evaluation, proof, notes, carded, costs)
    columns, rows = comparison_table(evaluation, show)
    said = [*proof.lines(), *evaluation.notes, *(ability.notes if ability else ()), *notes]
    return tuple(columns), [tuple(row) for row in rows], said, proof.verdict.outcome


def _write(
    files: Files,
    config: Config,
    asked: Asked,
    data: RetrievalData,
    lineup: Lineup,
    evaluation: Evaluation,
    proof: Proof,
    notes: Sequence[str],
    carded: Path | None,
    costs: Sequence[Cost],
) -> list[str]:
    """Write what was found, `notes` into the report; returns what there is to say of the files."""
    from fieldtune.evaluation import Origin, digests, write_metrics, write_per_query, write_report, write_runs

    said = []
    record = proof.record() | {
        "general": proof.general.as_json() if proof.general else None,
        "test_set": digests(data, asked.split),
        "data": str(asked.data.resolve()),
        "passages encoded by": dict(lineup.encoded_by),
    }
    if files.json:
        # Where `fieldtune compare` finds the single queries, also after both files were moved together.
        beside = {"per_query": os.path.relpath(files.per_query, files.json.parent)} if files.per_query else {}
        write_metrics(files.json, evaluation, record | beside)
    if files.per_query:
        write_per_query(files.per_query, evaluation, data)
    if files.runs:
        said += [f"TREC run of {name}: {path}" for name, path in write_runs(files.runs, lineup.systems)]
    if files.report:
        origin = Origin(
            title=asked.data.resolve().name,
            costs=costs,
            machine=f"{platform.machine()} with {os.cpu_count()} processors",
            commands=(_evaluate_command(config, asked),),
            settings=config.model_dump(by_alias=True),
            examples=config.evaluation.examples,
            notes=[*notes, *said],
        )
        write_report(files.report, evaluation, data, lineup.systems, proof, origin)
    if carded:
        update_card(carded, evaluation, record, data)
        said.append(f"The figures are on the model's card: {carded / 'README.md'}")
    return said


def _named(model: str) -> tuple[str, str]:
    """`NAME=MODEL` or a model that is its own name; a path that exists is never cut at its equals sign."""
    name, equals, rest = model.partition("=")
    if not equals or not rest or Path(model).expanduser().exists():
        return model, model
    return name, rest


def _published(models: Sequence[str]) -> tuple[str, ...]:
    """Models as `NAME=MODEL` with names that a card may tell: base and tuned, as in a run, and no folder's path."""
    if not models:
        raise ConfigError("--card puts figures on a model's card", "give --model OUT, from fieldtune train --out OUT")
    found = []
    for position, given in enumerate(models):
        name, model = _named(given)
        role = "tuned" if position == len(models) - 1 else "base" if position == 0 else ""
        if name == model:
            name = role or (Path(model).name if Path(model).expanduser().exists() else model)
        elif role not in ("", name):
            raise ConfigError(f"--card calls the model {model} {role}, not {name}", f"--model {role}={model}")
        found.append(f"{name}={model}")
    return tuple(found)


def trained_on(models: Iterable[str]) -> list[Path]:
    """The training rows that a run left where its models stand: DIR/run/data of `train --out DIR`, or the data of the
    run whose folder, or whose folder `model`, is named."""
    found = []
    for model in models:
        folder = Path(model).expanduser()
        places = (folder / "run", folder, *([folder.resolve().parent] if folder.resolve().name == "model" else []))
        found += [rows for place in places if (rows := place / "data" / "train.jsonl").is_file()][:1]
    return list(dict.fromkeys(found))


def _general(config: Config, loaders: Sequence[tuple[str, Callable[[], Encoder]]], last: str, folder: Path) -> General:
    """What the last model lost on everyday texts against the first."""
    from fieldtune.evaluation import general_ability
    from fieldtune.models import resolve_model
    from fieldtune.probes import all_probes, for_verdict, probe

    probes = for_verdict(all_probes(config.evaluation), resolve_model(last).folder)
    base, tuned = (probe(load(), probes, folder, label=name) for name, load in (loaders[0], loaders[-1]))
    return general_ability(probes, base, tuned, config.evaluation, config.seed)


def _evaluate_command(config: Config, asked: Asked) -> str:
    """The command line that measures the same again."""
    from fieldtune.evaluation import changed, overrides

    words = ["fieldtune", "evaluate", "--data", shlex.quote(str(asked.data)), "--split", asked.split]
    words += ["--precision", asked.precision]
    words += [word for model in asked.models for word in ("--model", shlex.quote(model))]
    words += ["--bm25"] * asked.bm25 + ["--general"] * asked.general
    words += ["--train-data", shlex.quote(str(asked.train_data))] if asked.train_data else []
    words += [word for path in asked.judgements for word in ("--judgements", shlex.quote(str(path)))]
    return " ".join([*words, *overrides(changed(config.model_dump(by_alias=True)))])
