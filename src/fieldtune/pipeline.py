"""From documents to a searchable index: one table of stages, run in order, finished work never repeated."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldtune import __version__
from fieldtune.config import Config
from fieldtune.console import duration, note, size
from fieldtune.errors import ConfigError
from fieldtune.metering import meter
from fieldtune.models import require_length, resolve_model
from fieldtune.stages import corpus, dataset, documents, evaluation, index, queries, training
from fieldtune.stages.record import write_run
from fieldtune.stages.run import Run
from fieldtune.types import Result
from fieldtune.vector_uses import begin_uses, end_uses, prune
from fieldtune.workspace import Workspace, digest


@dataclass(frozen=True, slots=True)
class Stage:
    """One step; `outputs` are the files (below the run's folder) without which it has to run again."""

    name: str
    run: Callable[[Run], Result]
    depends: Callable[[Config], Any]
    """The settings and outside files that decide the result, apart from those of the stages before."""
    outputs: tuple[str, ...]


STAGES: tuple[Stage, ...] = (
    Stage("documents", documents.run, documents.depends, ()),
    Stage("corpus", corpus.run, corpus.depends, ("corpus/corpus.jsonl", "corpus/duplicates.jsonl")),
    Stage("queries", queries.run, queries.depends, ("queries/queries.jsonl", "queries/meta.json")),
    Stage("dataset", dataset.run, dataset.depends, ("data/corpus.jsonl", "data/train.jsonl", "data/README.md")),
    Stage("training", training.run, training.depends, ("model/modules.json",)),
    Stage("evaluation", evaluation.run, evaluation.depends, ("metrics.json", "per_query.csv", "report.html")),
    Stage("index", index.run, index.depends, ("index/meta.json",)),
)
NAMES = tuple(stage.name for stage in STAGES)


def run_pipeline(config: Config, *, first: str = "", last: str = "") -> list[Result]:
    """Run the stages up to `last` that are not finished with these very settings and inputs.

    With `first`, that stage and all to its right run in any case. Returns the results of all stages up to `last`.
    Raises BusyError when another process works in the folder, ConfigError for an unknown stage.
    """
    begin, end = _position(first, 0), _position(last, len(STAGES) - 1)
    if begin > end:
        raise ConfigError(f"--from {first} lies behind --until {last}", f"the order is {', '.join(NAMES)}")
    training_at = NAMES.index("training")
    trained = (Path(config.out) / "stages" / "training.json").exists()  # elsewhere, perhaps
    require_fit(config, trains=end >= training_at and not trained)
    if config.evaluation.general_data and end >= training_at:
        from fieldtune.probes import probes_of

        probes_of(config.evaluation)  # a set that cannot be used is told before hours of training
    results = []
    with Workspace(Path(config.out)) as workspace:
        write_run(Run(config, workspace))
        fingerprint = digest([__version__])
        for position, stage in enumerate(STAGES[: end + 1]):
            fingerprint = digest([fingerprint, stage.name, stage.depends(config)])
            result = workspace.finished(stage.name, fingerprint)
            forced = bool(first) and position >= begin
            if result is None or forced or not all(workspace.path(output).exists() for output in stage.outputs):
                result = _run_stage(stage, Run(config, workspace, NAMES[:position]), fingerprint)
            else:
                note(f"{stage.name}: already done")
            results.append(result)
        _remove_unused_vectors(workspace)
    return results


def _run_stage(stage: Stage, run: Run, fingerprint: str) -> Result:
    note(f"{stage.name} …", style="bold")
    run.workspace.forget(stage.name)
    run.workspace.event("start", stage=stage.name, fingerprint=fingerprint)
    begin_uses(run.path("vectors"))
    took = meter(stage.name)
    result = stage.run(run)
    cost = took()
    end_uses(run.path("vectors"), stage.name)  # before the record, which says that all of it is in place
    run.workspace.record(fingerprint, result, cost)
    run.workspace.event(
        "end", stage=stage.name, seconds=round(cost.seconds, 3), peak_gb=cost.peak_gb, counts=dict(result.counts)
    )
    shutil.rmtree(run.path(stage.name, "state"), ignore_errors=True)  # what was kept only to resume
    _release_memory()
    counts = ", ".join(f"{name} {value:,}" for name, value in list(result.counts.items())[:6])
    note(f"{stage.name}: {counts} ({duration(cost.seconds)})")
    for reason, count in result.dropped.items():
        note(f"  left out, {reason}: {count:,}", style="dim")
    for sentence in result.notes:
        note(f"  {sentence}")
    return result


def _remove_unused_vectors(workspace: Workspace) -> None:
    """Each change of model or texts leaves vectors behind that no stage reads any more."""
    finished = [name for name in NAMES if workspace.path("stages", f"{name}.json").exists()]
    sets, freed = prune(workspace.path("vectors"), finished)
    if sets:
        workspace.event("pruned", sets=sets, bytes=freed)
        note(f"vectors: {size(freed)} freed ({sets} sets that no stage of this run reads any more)")


def _release_memory() -> None:
    """Give back what the last stage no longer needs; the allocator would keep it beside what the next one takes."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def require_fit(config: Config, *, trains: bool = True) -> None:
    """Raise a FieldtuneError, before any work, for settings that contradict each other, or ask for more than the base
    model or this machine has; without `trains` the machine need not be able to train."""
    from fieldtune.dataset.embedder import require_embedder
    from fieldtune.encoding.engine import require
    from fieldtune.encoding.exported import require_export
    from fieldtune.training.fit import require_training

    if config.encoding.export:
        require_export(config.encoding.export, config.encoding.max_loss)
    if config.encoding.backend != "auto":
        require(config.encoding.backend, config.encoding.precision)
    model = resolve_model(config.model.base)
    require_training(config, model, here=trains)
    require_length(config.model, model)
    require_embedder(config)


def _position(name: str, default: int) -> int:
    if not name:
        return default
    if name not in NAMES:
        raise ConfigError(f"there is no stage {name!r}", f"stages: {', '.join(NAMES)}")
    return NAMES.index(name)


def outlook(config: Config) -> list[tuple[str, str, str]]:
    """What `run` would do, a row per stage: its name, whether it is finished, and why not or what it said.

    Reads the inputs' contents and changes nothing.
    """
    workspace = Workspace(Path(config.out))
    fingerprint, rows, waiting = digest([__version__]), [], False
    for stage in STAGES:
        fingerprint = digest([fingerprint, stage.name, stage.depends(config)])
        result = None if waiting else workspace.finished(stage.name, fingerprint)
        if result is not None and all(workspace.path(output).exists() for output in stage.outputs):
            counts = ", ".join(f"{name} {value:,}" for name, value in list(result.counts.items())[:3])
            rows.append((stage.name, "done", counts))
            continue
        if waiting:
            why = "follows a stage that runs"
        elif workspace.path("stages", f"{stage.name}.json").exists():
            why = "settings, inputs or version changed"
        else:
            why = "not run yet"
        waiting = True
        rows.append((stage.name, "would run", why))
    return rows
