"""The base model to the tuned one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fieldtune.beir import load_beir
from fieldtune.config import Config, second_models
from fieldtune.models import resolve_model
from fieldtune.stages.inputs import contents, digest_or_cause, settings_of
from fieldtune.stages.run import Run
from fieldtune.types import Result


def run(run: Run) -> Result:
    from fieldtune.corpus import load_duplicates
    from fieldtune.encoding import Encoder
    from fieldtune.training import tune

    config = run.config
    encoder = Encoder.load(config.model.base, settings=config.model, precision=config.training.precision)
    data = load_beir(run.path("data"))
    duplicates = load_duplicates(run.path("corpus", "duplicates.jsonl"))
    examples, vectors = run.path("data", "train.jsonl"), run.path("vectors")
    return tune(config, data, examples, encoder, run.workspace.root, vectors, duplicates)


def depends(config: Config) -> Any:
    """The settings, and what else decides: a second model that the loss looks at, the general rows, and the probes that
    a share of the base is chosen on."""
    settings = settings_of(config, "training", without=("checkpoint_seconds", "report_to"))
    settings += [resolve_model(name).fingerprint for name in second_models(config.training)]
    if config.training.replay:
        settings.append(digest_or_cause(Path(config.training.replay)))
    if config.training.deepspeed:
        settings.append(digest_or_cause(Path(config.training.deepspeed)))
    if config.training.base_share == "auto":
        settings.append(config.evaluation.max_general_loss)
    if config.training.replay or config.training.base_share == "auto":
        settings.append(contents(config.evaluation.general_data))
    return settings
