"""The card of a model that `fieldtune train` made: written after training, and again with what `evaluate` measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune.config import Config, make_config
from fieldtune.errors import ConfigError, InputError
from fieldtune.installing import RUN, changed_files, install_card
from fieldtune.model_folder import fingerprint
from fieldtune.types import Result
from fieldtune.workspace import Workspace, read_json

if TYPE_CHECKING:
    from fieldtune.beir import RetrievalData
    from fieldtune.evaluation import Evaluation

_METRICS, _PER_QUERY = "metrics.json", "per_query.csv"


def write_trained_card(out: Path, config: Config, stages: Sequence[Result]) -> bool:
    """Write the card of the model in `out/run`; whether it has figures, from an earlier measurement of this model."""
    from fieldtune.evaluation import ModelFacts, write_card

    model = out / RUN / "model"
    metrics = _measured(model)
    title = config.card.title or out.resolve().name
    write_card(model, metrics, ModelFacts(title, config, stages, config.card.languages))
    return bool(metrics)


def require_card(model: str) -> Path:
    """The folder of a model whose card may be written again.

    Raises ConfigError for a model that is not from `fieldtune train --out`, InputError for one that was changed since.
    """
    out = Path(model).expanduser()
    if not (out / RUN / "run.json").exists() or not (out / RUN / "model").is_dir():
        raise ConfigError(
            f"--card: {model} is not the folder of fieldtune train --out",
            "fieldtune run writes the card of its model itself; name the trained model last",
        )
    if changed := changed_files(out):
        raise InputError(
            f"--card: not written by fieldtune train, or changed since: {', '.join(changed[:5])}",
            "leave --card out: the card would not be of this model, or yours would be lost",
            path=out,
        )
    return out


def update_card(out: Path, evaluation: Evaluation, extra: Mapping[str, Any], data: RetrievalData) -> None:
    """Keep the figures of the model in `out` as `out/run/metrics.json`, those of single queries beside them, as a run
    does, and write its card again with them.

    `extra` is what stands beside the figures there. Raises BusyError while the model is being trained.
    """
    from fieldtune.evaluation import write_metrics, write_per_query
    from fieldtune.pipeline import NAMES
    from fieldtune.stages.record import recorded_config

    work = out / RUN
    with Workspace(work) as workspace:
        write_metrics(work / _METRICS, evaluation, {**extra, "model": fingerprint(work / "model")})
        write_per_query(work / _PER_QUERY, evaluation, data)
        stages = [result for result, _ in workspace.results(NAMES)]
        write_trained_card(out, make_config(recorded_config(work)), stages)
        install_card(work / "model", out)


def _measured(model: Path) -> dict[str, Any]:
    """What was measured of the model that a run has now; the figures of an earlier one go."""
    path = model.parent / _METRICS
    if not path.exists():
        return {}
    metrics: dict[str, Any] = read_json(path)
    if metrics.get("model") == fingerprint(model):
        return metrics
    path.unlink()
    (model.parent / _PER_QUERY).unlink(missing_ok=True)
    return {}
