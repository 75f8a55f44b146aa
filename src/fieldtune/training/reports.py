"""Where the log goes beside the file: TensorBoard, trackio, Weights & Biases, MLflow."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fieldtune.config import Config
from fieldtune.errors import MissingExtraError

Report = Callable[[dict[str, float]], None]


def both(one: Report | None, other: Report | None) -> Report | None:
    """One report that tells two listeners, if there are two."""
    if one is None or other is None:
        return one or other

    def report(row: dict[str, float]) -> None:
        one(row)
        other(row)

    return report


def require_reporters(names: Sequence[str]) -> None:
    """Raise MissingExtraError, which holds the install command, before any work."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(name, name)


@contextmanager
def reporting(names: Sequence[str], folder: Path, config: Config) -> Iterator[Report | None]:
    """A function that sends one row of the log (`step` and numbers) to every reporter; None where there is none.

    `folder` is the run's: its name is the run's name, and TensorBoard's files lie in its `training/tensorboard`.
    """
    with ExitStack() as stack:
        opened = [stack.enter_context(_OPEN[name](folder, config)) for name in dict.fromkeys(names)]

        def report(row: dict[str, float]) -> None:
            values = {key: value for key, value in row.items() if key != "step" and isinstance(value, int | float)}
            for send in opened:
                send(values, int(row["step"]))

        yield report if opened else None


Send = Callable[[Mapping[str, float], int], None]


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
        writer.close()


@contextmanager
def _run_of(module: str, folder: Path, config: Config) -> Iterator[Send]:
    """trackio and wandb: the one has the other's functions."""
    library: Any = importlib.import_module(module)
    library.init(project="fieldtune", name=folder.resolve().name, config=config.training.model_dump(mode="json"))
    try:
        yield lambda values, step: library.log(dict(values), step=step)
    finally:
        library.finish()


@contextmanager
def _mlflow(folder: Path, config: Config) -> Iterator[Send]:
    library: Any = importlib.import_module("mlflow")
    library.set_experiment("fieldtune")
    with library.start_run(run_name=folder.resolve().name):
        library.log_params(config.training.model_dump(mode="json"))
        yield lambda values, step: library.log_metrics({_plain(key): value for key, value in values.items()}, step=step)


def _plain(key: str) -> str:
    """MLflow's names hold letters, figures, dashes, dots, spaces and slashes alone."""
    return key.replace("@", "-at-").replace(",", "")


_OPEN: dict[str, Callable[[Path, Config], Any]] = {
    "tensorboard": lambda folder, _: _tensorboard(folder),
    "trackio": lambda folder, config: _run_of("trackio", folder, config),
    "wandb": lambda folder, config: _run_of("wandb", folder, config),
    "mlflow": _mlflow,
}
