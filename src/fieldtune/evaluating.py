"""Models side by side on a BEIR folder, without a config file."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from fieldtune.beir import load_beir, require_split
from fieldtune.config import Config
from fieldtune.errors import ConfigError
from fieldtune.labelling import labelled, write_labelling
from fieldtune.trained_card import require_card, update_card

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fieldtune.encoding import Encoder
    from fieldtune.evaluation import General

Precision = Literal["auto", "fp32", "bf16"]


def evaluate_models(
    config: Config,
    data: Path,
    split: str,
    models: Sequence[str],
    *,
    bm25: bool,
    precision: str,
    json: Path | None,
    per_query: Path | None,
    report: Path | None,
    show: Sequence[str] = (),
    train_data: Path | None = None,
    judgements: Sequence[Path] = (),
    unjudged: Path | None = None,
    llm_judge: bool = False,
    general: bool = False,
    runs: Path | None = None,
    card: bool = False,
) -> tuple[tuple[str, ...], list[tuple[str, ...]], list[str], str]:
    """Measure models (each `MODEL` or `NAME=MODEL`), BM25 and what `config.evaluation` asks for beside them.

    Returns columns and rows for the console, the finding in sentences, verdict first, and the verdict's outcome. The
    split is audited for leaks from the folder's train and dev splits and from `train_data`, or, without it, from the
    rows that a run left beside its model; `judgements` are files of added grades; `unjudged` becomes a file for
    labelling, filled in by a language model with `llm_judge`; `runs` becomes a TREC run file, or one per system. `show`
    names the measures of the console's table; all are in the files. `general` also measures what the last model lost
    on everyday texts against the first. `card` puts the figures on the card of the last model, which `train` made; that
    model is then called tuned and the first one base. The corpus is encoded once per model.

    Raises ConfigError when there is nothing to measure, or for settings that nothing here uses.
    """
    from fieldtune.encoding import Encoder, cached_vectors
    from fieldtune.evaluation import (
        Origin,
        added_leaks,
        audit,
        comparison_table,
        digests,
        evaluate,
        line_up,
        prove,
        write_metrics,
        write_per_query,
        write_report,
        write_runs,
    )

    _require_used(config, general=general, llm_judge=llm_judge)
    if precision not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"--precision {precision} is unknown", "auto, fp32 or bf16")
    if not models and not bm25:
        raise ConfigError("there is nothing to evaluate", "give --model M, --bm25 or both")
    if general and len(models) < 2:
        raise ConfigError("--general compares two models", "give --model BEFORE --model AFTER")
    if llm_judge and not (config.llm.local or (config.llm.base_url and config.llm.model)):
        raise ConfigError(
            "--llm-judge needs an LLM", "--set llm.base_url=... --set llm.model=..., or --set llm.local=..."
        )
    _require_writable((json, per_query, report, unjudged, runs))
    if card:
        models = _published(models)
    named = [_named(model) for model in models]
    carded = require_card(named[-1][1]) if card else None
    if len({name for name, _ in named}) < len(named):
        raise ConfigError("two models have the same name", "name them: --model before=M1 --model after=M2")
    if (
        config.evaluation.dimensions or config.evaluation.precisions or config.evaluation.without_prompts
    ) and not models:
        raise ConfigError("dimensions, precisions and prompts are those of a model", "give --model M")
    given = load_beir(data)
    loaded, notes = labelled(given, split, [*map(Path, config.evaluation.judgements), *judgements])
    require_split(data, loaded, split)
    learnt = [train_data] if train_data else trained_on(model for _, model in named)
    notes += [
        f"Audited against the training rows of a model beside it: {path}." for path in learnt if path != train_data
    ]
    given = given if given.positives(split) else loaded
    notes += added_leaks(given, loaded, split, config.evaluation, learnt)
    with tempfile.TemporaryDirectory(prefix="fieldtune-") as folder:
        loaders = [(name, partial(Encoder.load, model, precision=cast(Precision, precision))) for name, model in named]

        def vectors(texts: Sequence[str]) -> NDArray[np.float32]:
            name, load = loaders[0]
            return cached_vectors(load(), texts, "query", Path(folder), label=f"encoding queries ({name})")

        leakage = audit(given, split, config.evaluation, training=learnt, vectors=vectors if loaders else None)
        lineup = line_up(loaded, split, loaders, Path(folder), config.evaluation, bm25=bm25)
        ability = _general(config, loaders, named[-1][1], Path(folder)) if general else None
    evaluation = evaluate(loaded, split, lineup.systems, config.evaluation, config.seed, lineup.notes)
    chosen_on = split == "dev" and bool(models)
    proof = prove(loaded, evaluation, lineup.systems, leakage, config.evaluation, general=ability, chosen_on=chosen_on)
    notes += ability.notes if ability else ()
    if unjudged:
        notes += write_labelling(unjudged, config, loaded, split, lineup.systems, llm_judge=llm_judge)
    extra = {
        "general": ability.as_json() if ability else None,
        "test_set": digests(loaded, split),
        "data": str(data.resolve()),
    }
    if json:
        write_metrics(json, evaluation, proof.record() | extra)
    if carded:
        update_card(carded, evaluation, proof.record() | extra)
        notes.append(f"The figures are on the model's card: {carded / 'README.md'}")
    if per_query:
        write_per_query(per_query, evaluation, loaded)
    if runs:
        notes += [f"TREC run of {name}: {path}" for name, path in write_runs(runs, lineup.systems)]
    if report:
        origin = Origin(
            title=data.resolve().name,
            commands=(
                _evaluate_command(config, data, split, models, bm25, precision, general, train_data, judgements),
            ),
            settings=config.model_dump(by_alias=True),
            examples=config.evaluation.examples,
            notes=[note for note in notes if ability is None or note not in ability.notes],
        )
        write_report(report, evaluation, loaded, lineup.systems, proof, origin)
    columns, rows = comparison_table(evaluation, show)
    said = [*proof.lines(), *evaluation.notes, *notes]
    return tuple(columns), [tuple(row) for row in rows], said, proof.verdict.outcome


def _named(model: str) -> tuple[str, str]:
    """`NAME=MODEL` or a model that is its own name; a path that exists is never cut at its equals sign."""
    name, equals, rest = model.partition("=")
    if not equals or not rest or Path(model).expanduser().exists():
        return model, model
    return name, rest


def _published(models: Sequence[str]) -> list[str]:
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
    return found


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


def _evaluate_command(
    config: Config,
    data: Path,
    split: str,
    models: Sequence[str],
    bm25: bool,
    precision: str,
    general: bool,
    train_data: Path | None,
    judgements: Sequence[Path],
) -> str:
    """The command line that measures the same again."""
    from fieldtune.evaluation import changed, overrides

    words = ["fieldtune", "evaluate", "--data", shlex.quote(str(data)), "--split", split, "--precision", precision]
    words += [word for model in models for word in ("--model", shlex.quote(model))]
    words += ["--bm25"] * bm25 + ["--general"] * general
    words += ["--train-data", shlex.quote(str(train_data))] if train_data else []
    words += [word for path in judgements for word in ("--judgements", shlex.quote(str(path)))]
    return " ".join([*words, *overrides(changed(config.model_dump(by_alias=True)))])


def _require_used(config: Config, *, general: bool, llm_judge: bool) -> None:
    """Refuse settings that would be passed over without a word."""
    used = {"seed", "evaluation"} | ({"llm"} if llm_judge else set())
    unused = [f"{name}" for name in config.model_fields_set if name not in used]
    given = config.evaluation.model_fields_set
    instead = {"bm25": "--bm25", "general": "--general"}
    unused += [f"evaluation.{name}" for name in instead if name in given]
    unused += [f"evaluation.{name}" for name in ("general_data", "max_general_loss") if name in given and not general]
    if unused:
        name = sorted(unused)[0]
        hint = instead.get(
            name.removeprefix("evaluation."), "--general uses it" if "general" in name else "leave it out"
        )
        raise ConfigError(f"evaluate does not use the setting {name}", hint)


def _require_writable(paths: Iterable[Path | None]) -> None:
    """Say before any work that a result could not be written."""
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise ConfigError(f"{path} is a folder", "give the name of a file")
        parent = next(folder for folder in path.absolute().parents if folder.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise ConfigError(f"{path} cannot be written: {parent} takes no new files", "choose another place")
