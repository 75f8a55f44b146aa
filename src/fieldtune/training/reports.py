"""Where the log goes beside the file: TensorBoard, trackio, Weights & Biases, MLflow."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from fieldtune.config import Config
from fieldtune.errors import FieldtuneError, MissingExtraError
from fieldtune.training.reported import Reported, Run
from fieldtune.workspace import write_jsonl

Report = Callable[[Mapping[str, Any]], None]
Send = Callable[[Mapping[str, float], int], None]

_log = logging.getLogger(__name__)
_CURES = {
    "wandb": "run `wandb login` or set WANDB_API_KEY, set WANDB_MODE=offline to send it later",
    "mlflow": "see that the server in MLFLOW_TRACKING_URI answers and lets you in, or unset it to write to a folder",
}


def both(one: Report | None, other: Report | None) -> Report | None:
    """One report that tells two listeners, if there are two."""
    if one is None or other is None:
        return one or other

    def report(row: Mapping[str, Any]) -> None:
        one(row)
        other(row)

    return report


@contextmanager
def kept_log(path: Path, seconds: float) -> Iterator[Report]:
    """A function that keeps each row of the log for the file `path`.

    That is written anew when `seconds` have gone by, and at the end, be it an error: the log says how training came to
    it. Raises OSError where it cannot be written at a good end; before that, training is worth more than its log.
    """
    rows: list[dict[str, Any]] = []
    written = time.monotonic()

    def report(row: Mapping[str, Any]) -> None:
        nonlocal written
        rows.append(dict(row))
        if time.monotonic() - written > seconds:
            with suppress(OSError):
                write_jsonl(path, rows)
            written = time.monotonic()

    try:
        yield report
    except BaseException:
        if rows:  # else what an earlier training left says more
            with suppress(OSError):
                write_jsonl(path, rows)
        raise
    write_jsonl(path, rows)


def counted(report: Report | None, before: int, *, first: bool = True, **names: int) -> Report | None:
    """A report on one of several trainings as the log of all has it: steps counted through, `names` in each row.

    `before` steps were taken before it. What is measured before the first step of any but the `first` is left out: it
    is what the one before ended with, or the base model once more.
    """
    if report is None:
        return None

    def through(row: Mapping[str, Any]) -> None:
        if row["step"] or first:
            report({**row, "step": row["step"] + before, **names})

    return through


def require_reporters(names: Sequence[str]) -> None:
    """Raise MissingExtraError, which holds the install command, before any work."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(name, name)


@contextmanager
def reporting(names: Sequence[str], folder: Path, config: Config, key: str = "") -> Iterator[Report | None]:
    """A function that sends one row of the log (`step` and numbers) to every reporter; None where there is none.

    `folder` is the run's: its name is the run's name, and TensorBoard's files lie in its `training/tensorboard`. A
    training under the same `key` goes on in the same runs, and is to be told all rows from the first on: those that a
    reporter has had are not sent again. Raises FieldtuneError where one cannot be started; a row that cannot be sent
    later is lost with a warning, the training goes on.
    """
    if not names:
        yield None
        return
    reported = Reported.read(folder, key)
    with ExitStack() as stack:
        opened = {name: _opened(stack, name, folder, config, reported) for name in dict.fromkeys(names)}
        told = 0

        def report(row: Mapping[str, Any]) -> None:
            nonlocal told
            told += 1
            values = {key: value for key, value in row.items() if key != "step" and isinstance(value, int | float)}
            fresh = [name for name in opened if reported.runs[name].sent < told]
            for name in fresh:
                _quietly(name, partial(opened[name], values, int(row["step"])))
                reported.runs[name].sent = told
            if fresh:
                reported.write()

        yield report


def _opened(stack: ExitStack, name: str, folder: Path, config: Config, reported: Reported) -> Send:
    """Start or continue a reporter's run; what it raises (no login, no server) is the user's to mend."""
    run = reported.run(name)
    try:
        send: Send = stack.enter_context(_OPEN[name](folder, config, run))
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        cure = f"{_CURES[name]}, or " if name in _CURES else ""
        again = f"; to begin a new run there instead of going on, remove {reported.path}" if run.sent else ""
        raise FieldtuneError(
            f"{name} could not be started: {first}", f"{cure}take {name} out of training.report_to{again}"
        ) from error
    reported.write()
    return send


def _quietly(name: str, do: Callable[[], Any]) -> None:
    """No tracker that fails is worth hours of training."""
    try:
        do()
    except Exception as error:
        _log.warning("%s failed (%s); training/log.jsonl has every row", name, error)


@contextmanager
def _tensorboard(folder: Path) -> Iterator[Send]:
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(folder / "training" / "tensorboard"))

    def send(values: Mapping[str, float], step: int) -> None:
        for key, value in values.items():
            writer.add_scalar(key, value, step)

    try:
        yield send
    finally:
        _quietly("tensorboard", writer.close)


@contextmanager
def _run_of(module: str, folder: Path, config: Config, run: Run) -> Iterator[Send]:
    """trackio and wandb: the one has the other's functions, but knows a run by its name alone."""
    library: Any = importlib.import_module(module)
    name = folder.resolve().name
    # Settings that do not change the result may have changed since the run began.
    own = {"id": run.id, "name": name, "allow_val_change": True} if module == "wandb" else {"name": f"{name}-{run.id}"}
    library.init(project="fieldtune", config=config.training.model_dump(mode="json"), resume="allow", **own)
    try:
        yield lambda values, step: library.log(dict(values), step=step)
    finally:
        _quietly(module, library.finish)


@contextmanager
def _mlflow(folder: Path, config: Config, run: Run) -> Iterator[Send]:
    library: Any = importlib.import_module("mlflow")
    library.set_experiment("fieldtune")
    if run.sent:
        library.start_run(run_id=run.id)
    else:  # the server gives the id
        run.id = library.start_run(run_name=folder.resolve().name).info.run_id
        library.log_params(config.training.model_dump(mode="json"))
    status = "FAILED"
    try:
        yield lambda values, step: library.log_metrics({_plain(key): value for key, value in values.items()}, step=step)
        status = "FINISHED"
    finally:
        _quietly("mlflow", lambda: library.end_run(status))


def _plain(key: str) -> str:
    """MLflow's names hold letters, figures, dashes, dots, spaces and slashes alone."""
    return re.sub(r"[^\w\-. /]", "", key.replace("@", "-at-"))


_OPEN: dict[str, Callable[[Path, Config, Run], Any]] = {
    "tensorboard": lambda folder, *_: _tensorboard(folder),
    "trackio": lambda *given: _run_of("trackio", *given),
    "wandb": lambda *given: _run_of("wandb", *given),
    "mlflow": _mlflow,
}
