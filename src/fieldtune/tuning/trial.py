"""One trial: the training stage with settings of its own, watched at each evaluation."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fieldtune.beir import RetrievalData
from fieldtune.config import Config
from fieldtune.errors import FieldtuneError, disk_is_full
from fieldtune.tuning.journal import Begun, Trial
from fieldtune.tuning.space import Settings, with_settings

_KEPT_EVERY = 20  # seconds between two notes of the time that a trial has taken

PLAIN: Settings = {
    "training.seeds": 1, "training.base_share": 0.0, "training.share_curve": False, "training.report_to": (),
}  # fmt: skip
"""Of every trial. One seed and no share of the base model: the winner's own are decided afterwards."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What all trials share."""

    data: RetrievalData
    """Without its test side."""
    examples: Path
    vectors: Path
    duplicates: Mapping[str, Sequence[str]]
    pretrained: Path


class _Hopeless(Exception):  # noqa: N818 - a signal, no error
    """Ends a training that is not worth its time."""


def run_trial(
    config: Config,
    inputs: Inputs,
    folder: Path,
    number: int,
    settings: Settings,
    stop: Callable[[Sequence[float]], bool],
    search: str = "",
) -> Trial:
    """Train in `folder`, to the end or until `stop`, told the dev scores so far, says so.

    A killed trial goes on where it was, unless it was of another `search` or had other settings; its time counts from
    its first beginning. A trial whose loss is no longer a number, whose batch does not fit in memory, or whose settings
    do not fit the rows or each other, is recorded as failed. The first one, with the config's own settings, raises its
    error; so does any on a full disk, on which the others would fail as well, and any that leaves the other processes
    in the middle of a step, where they can be told of no further trial.
    """
    from fieldtune.disk import room_to_write
    from fieldtune.encoding import Encoder
    from fieldtune.training import tune
    from fieldtune.training.devices.world import current

    begun = Begun.read(folder / "dev.json", search, settings)
    began = time.monotonic() - begun.seconds
    kept = time.monotonic()

    def watch(row: Mapping[str, float]) -> None:
        nonlocal kept
        value = next((value for name, value in row.items() if name.startswith("dev_")), None)
        measured = value is not None and bool(row["step"])
        if value is not None and measured:
            begun.measured(int(row["step"]), value)
        if measured or time.monotonic() - kept > _KEPT_EVERY:
            kept = time.monotonic()
            begun.seconds = kept - began
            with room_to_write(folder, "the trial's dev scores"):
                begun.write(settings)
        if measured and stop([score for _, score in begun.scores]):
            raise _Hopeless

    state, why, base = "done", "", None
    notes: tuple[str, ...] = ()
    try:
        own = with_settings(config, PLAIN | settings)
        encoder = Encoder.load(own.model.base, settings=own.model, precision=own.training.precision)
        result = tune(
            own, inputs.data, inputs.examples, encoder, folder, inputs.vectors, inputs.duplicates,
            pretrained=inputs.pretrained, watch=watch,
        )  # fmt: skip
        notes = result.notes
        base = next((value for name, value in result.counts.items() if re.fullmatch("dev .+ before", name)), None)
    except _Hopeless:
        state, why = "stopped", f"below the median of the earlier trials after {len(begun.scores)} evaluations"
    except FieldtuneError as error:
        world = current()
        if number == 1 or disk_is_full(error) or (world is not None and world.broken):
            raise
        state, why = "failed", error.message
    rungs = tuple(score for _, score in begun.scores)
    best = max(rungs, default=None) if state != "failed" else None
    seconds = round(time.monotonic() - began, 1)
    return Trial(number, settings, state, best, rungs, seconds, why, base, notes)  # type: ignore[arg-type]
