"""Single steps on a BEIR folder: train, evaluate and mine without a config file."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from fieldtune.beir import corpus_file, load_beir
from fieldtune.config import Config
from fieldtune.errors import ConfigError, InputError
from fieldtune.types import Result
from fieldtune.workspace import atomic_file, read_json, write_json

if TYPE_CHECKING:
    from fieldtune.evaluation import Against

Precision = Literal["auto", "fp32", "bf16"]


def train_on_beir(config: Config, data: Path, out: Path) -> list[str]:
    """Tune on the train split of a BEIR folder; `out` becomes the model's folder, the run's files lie in `out/run`.

    Returns lines that say what was made. Raises InputError for data that cannot be used.
    """
    from fieldtune.evaluation import About, write_card
    from fieldtune.pipeline import run_pipeline

    _require_beir(data)
    for key, given in (
        ("documents.paths", bool(config.documents.paths)),
        ("queries.from", config.queries.source != "structure"),
        ("out", config.out != "run"),
    ):
        if given:
            raise ConfigError(f"train takes no --set {key}", "--data and --out say it; fieldtune run takes the rest")
    work = out / "run"
    split = config.split
    if not (data / "qrels" / "test.tsv").exists():  # what there is to learn from is not put aside for a test
        split = split.model_copy(update={"test": 0.0})
    config = config.model_copy(
        update={
            "out": str(work),
            "split": split,
            "documents": config.documents.model_copy(update={"paths": ()}),
            "queries": config.queries.model_copy(update={"source": str(data)}),
        }
    )
    results = run_pipeline(config, last="training")
    write_card(
        work / "model", {}, About(config.card.title or out.resolve().name, config, results, config.card.languages)
    )
    install_model(work / "model", out)
    return [*_described(results[-1]), f"model: {out}"]


def _require_beir(data: Path) -> None:
    """Say before any work that a folder lacks a part."""
    labels = "all" if (data / "qrels" / "all.tsv").exists() else "train"
    for part in (corpus_file(data), data / "queries.jsonl", data / "qrels" / f"{labels}.tsv"):
        if not part.exists():
            raise InputError(
                "no such file", "--data takes a BEIR folder: corpus.jsonl, queries.jsonl, qrels/train.tsv", path=part
            )


def install_model(model: Path, out: Path) -> None:
    """Put the files of a saved model into `out`, each atomically, `modules.json` (which makes it a model) last."""
    files = sorted((path for path in model.rglob("*") if path.is_file()), key=lambda path: path.name == "modules.json")
    for path in files:
        target = out / path.relative_to(model)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.tmp")
        temporary.unlink(missing_ok=True)
        try:
            os.link(path, temporary)  # the same bytes once on disk
        except OSError:  # another disk, or a file system without links
            shutil.copy2(path, temporary)
        temporary.replace(target)


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
) -> tuple[tuple[str, ...], list[tuple[str, ...]], list[str]]:
    """Measure models (each `MODEL` or `NAME=MODEL`) and BM25 on one split.

    Returns columns and rows for the console, and the finding in sentences.

    The corpus is encoded once per model. Raises ConfigError when there is nothing to measure.
    """
    from fieldtune.encoding import Encoder
    from fieldtune.evaluation import (
        System,
        bm25_ranking,
        comparison_table,
        digests,
        evaluate,
        judge,
        model_ranking,
        write_metrics,
        write_per_query,
        write_report,
    )

    if precision not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"--precision {precision} is unknown", "auto, fp32 or bf16")
    if not models and not bm25:
        raise ConfigError("there is nothing to evaluate", "give --model M, --bm25 or both")
    named = [_named(model) for model in models]
    if len({name for name, _ in named}) < len(named):
        raise ConfigError("two models have the same name", "name them: --model before=M1 --model after=M2")
    loaded = load_beir(data)
    systems = []
    with tempfile.TemporaryDirectory(prefix="fieldtune-") as folder:
        for name, model in named:
            encoder = Encoder.load(model, precision=cast(Precision, precision))
            systems.append(System(name, model_ranking(encoder, loaded, split, Path(folder), label=name)))
    if bm25:
        systems.append(System("BM25", bm25_ranking(loaded, split)))
    evaluation = evaluate(loaded, split, systems, config.evaluation, config.seed)
    if json:
        write_metrics(json, evaluation, {"test_set": digests(loaded, split)})
    if per_query:
        write_per_query(per_query, evaluation, loaded)
    if report:
        write_report(
            report,
            evaluation,
            loaded,
            (),
            config.model_dump(by_alias=True),
            title=data.resolve().name,
            examples=config.evaluation.examples,
        )
    columns, rows = comparison_table(evaluation)
    verdict = judge(evaluation)
    said = [verdict.headline, *verdict.sentences, *evaluation.notes]
    return tuple(columns), [tuple(row) for row in rows], said


def require_two(models: Sequence[str]) -> None:
    """Say before any work that there is nothing to lose ability against."""
    if len(models) < 2:
        raise ConfigError("--general compares two models", "give --model BEFORE --model AFTER")


def measure_general(config: Config, models: Sequence[str], precision: str, json: Path | None) -> list[str]:
    """What the last model lost on everyday texts against the first; added to `json`, a metrics file that is there.

    Returns the finding in sentences. Raises ConfigError for fewer than two models.
    """
    from fieldtune.encoding import Encoder
    from fieldtune.evaluation import general_ability, probe, probes_of

    require_two(models)
    probes = probes_of(config.evaluation.model_copy(update={"general": True}))
    named = [_named(models[0]), _named(models[-1])]
    with tempfile.TemporaryDirectory(prefix="fieldtune-") as folder:
        encoders = ((name, Encoder.load(model, precision=cast(Precision, precision))) for name, model in named)
        base, tuned = (probe(encoder, probes, Path(folder), label=name) for name, encoder in encoders)
    general = general_ability(probes, base, tuned, config.evaluation, config.seed)
    if json:
        write_json(json, read_json(json) | {"general": general.as_json()})
    return [general.sentence, *general.notes]


def compare_folders(a: Path, b: Path, json: Path | None) -> tuple[Against, tuple[str, ...], list[tuple[str, ...]]]:
    """Run B against run A, with columns and rows for the console."""
    from fieldtune.evaluation import compare_runs, label

    found = compare_runs(a, b)
    if json:
        write_json(json, found.as_json())
    columns: tuple[str, ...] = (
        "system",
        "measure",
        "A",
        "B",
        "B − A",
        "95% interval",
        "p",
        "Holm",
        "better/same/worse",
    )
    rows: list[tuple[str, ...]] = [
        (
            system,
            label(row.measure),
            f"{before:.3f}",
            f"{after:.3f}",
            f"{row.difference:+.3f}",
            "[{:+.3f}, {:+.3f}]".format(*row.interval),
            f"{row.p:.4f}",
            f"{p:.4f}",
            f"{row.wins}/{row.ties}/{row.losses}",
        )
        for (system, before, after, row), p in zip(found.rows, found.corrected, strict=True)
    ]
    return found, columns, rows


def mine_beir(config: Config, data: Path, out: Path) -> list[str]:
    """Mine hard negatives for the train split of a BEIR folder and write them as FlagEmbedding rows to `out`.

    Positives of the other splits are never taken. Raises InputError for data without a train split.
    """
    from fieldtune.dataset import build_dataset
    from fieldtune.encoding import Encoder

    loaded = load_beir(data)
    with tempfile.TemporaryDirectory(prefix="fieldtune-") as name:
        folder = Path(name)
        encoder = Encoder.load(config.model.base, settings=config.model)
        result = build_dataset(config, loaded, {}, encoder, folder / "data", folder / "vectors")
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(out, "wb") as stream, (folder / "data" / "train.jsonl").open("rb") as made:
            shutil.copyfileobj(made, stream)
    return [*_described(result), f"training rows: {out}"]


def _named(model: str) -> tuple[str, str]:
    """`NAME=MODEL` or a model that is its own name; a path that exists is never cut at its equals sign."""
    name, equals, rest = model.partition("=")
    if not equals or not rest or Path(model).expanduser().exists():
        return model, model
    return name, rest


def _described(result: Result) -> list[str]:
    lines = [f"{name}: {value:,}" for name, value in result.counts.items()]
    return lines + [f"{reason}: {count:,} left out" for reason, count in result.dropped.items()] + list(result.notes)
