"""Single steps without a config file: train and mine on a BEIR folder, and compare two runs."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fieldtune.beir import corpus_file, load_beir
from fieldtune.config import Config
from fieldtune.errors import ConfigError, InputError
from fieldtune.installing import RUN, install_model, require_ours
from fieldtune.trained_card import write_trained_card
from fieldtune.types import Result
from fieldtune.workspace import atomic_file, write_json

if TYPE_CHECKING:
    from fieldtune.evaluation import Against


def train_on_beir(config: Config, data: Path, out: Path) -> list[str]:
    """Tune on the train split of a BEIR folder; `out` becomes the model's folder, the run's files lie in `out/run`.

    Returns lines that say what was made. Raises InputError for data that cannot be used, and for
    files in `out` that are not an earlier model's.
    """
    from fieldtune.pipeline import run_pipeline

    config = beir_config(config, data, out / RUN, "train")
    require_ours(out)
    results = run_pipeline(config, last="training")
    measured = write_trained_card(out, config, results)
    install_model(Path(config.out) / "model", out)
    lines = [*described(results[-1]), f"model: {out}"]
    if not measured and (data / "qrels" / "test.tsv").exists():
        words = ("evaluate", "--data", str(data), "--model", config.model.base, "--model", str(out), "--card")
        lines.append(f"its card has no figures yet: fieldtune {shlex.join(words)}")
    return lines


def beir_config(config: Config, data: Path, work: Path, command: str) -> Config:
    """The config of a run in the folder `work` on a BEIR folder, for a command that takes --data and --out.

    Raises InputError for data that cannot be used, ConfigError for settings that contradict the command line.
    """
    _require_beir(data)
    for key, given in (
        ("documents.paths", bool(config.documents.paths)),
        ("queries.from", config.queries.source != "structure"),
        ("out", config.out != "run"),
    ):
        if given:
            raise ConfigError(
                f"{command} takes no --set {key}", "--data and --out say it; fieldtune run takes the rest"
            )
    split = config.split
    if not (data / "qrels" / "test.tsv").exists():  # what there is to learn from is not put aside for a test
        split = split.model_copy(update={"test": 0.0})
    return config.model_copy(
        update={
            "out": str(work),
            "split": split,
            "documents": config.documents.model_copy(update={"paths": ()}),
            "queries": config.queries.model_copy(update={"source": str(data)}),
        }
    )


def _require_beir(data: Path) -> None:
    """Say before any work that a folder lacks a part."""
    labels = "all" if (data / "qrels" / "all.tsv").exists() else "train"
    for part in (corpus_file(data), data / "queries.jsonl", data / "qrels" / f"{labels}.tsv"):
        if not part.exists():
            raise InputError(
                "no such file", "--data takes a BEIR folder: corpus.jsonl, queries.jsonl, qrels/train.tsv", path=part
            )


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

    What their scores are is written beside them (NAME.teacher.json). Scores of check and teacher are kept in the folder
    NAME.scores, so that a killed run goes on where it was. Positives of the other splits are never taken; those that a
    check found are in the rows alone. Raises InputError for data without a train split.
    """
    from fieldtune.dataset import build_dataset
    from fieldtune.encoding import Encoder

    loaded = load_beir(data)
    with tempfile.TemporaryDirectory(prefix="fieldtune-") as name:
        folder = Path(name)
        encoder = Encoder.load(config.model.base, settings=config.model)
        cache = out.with_name(f"{out.name}.scores")
        result = build_dataset(config, loaded, {}, encoder, folder / "data", folder / "vectors", cache=cache)
        out.parent.mkdir(parents=True, exist_ok=True)
        record = out.with_name(f"{out.name}.teacher.json")
        for made, target in (("teacher.json", record), ("train.jsonl", out)):
            with atomic_file(target, "wb") as stream, (folder / "data" / made).open("rb") as source:
                shutil.copyfileobj(source, stream)
    return [*described(result), f"training rows: {out}", f"what their scores are: {record}"]


def described(result: Result) -> list[str]:
    """What a stage says, a line each."""
    lines = [f"{name}: {value:,}" for name, value in result.counts.items()]
    return lines + [f"{reason}: {count:,} left out" for reason, count in result.dropped.items()] + list(result.notes)
