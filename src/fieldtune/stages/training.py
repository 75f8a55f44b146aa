"""The base model to the tuned one."""

from __future__ import annotations

from typing import Any

from fieldtune.beir import load_beir
from fieldtune.config import Config, second_models
from fieldtune.models import resolve_model
from fieldtune.stages.inputs import settings_of
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
    """The settings, with the content of a second model that the loss looks at."""
    names = second_models(config.training)
    settings = settings_of(config, "training", without=("checkpoint_seconds", "report_to"))
    return [*settings, *(resolve_model(name).fingerprint for name in names)]
