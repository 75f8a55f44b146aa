"""A DeepSpeed JSON held against the config: what both say must agree, "auto" is filled in."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fieldtune.config import Training
from fieldtune.errors import ConfigError, InputError, MissingExtraError
from fieldtune.workspace import read_json

_OURS = {
    "optimizer": "training.learning_rate, weight_decay and warmup say it",
    "scheduler": "training.learning_rate and training.warmup say it",
    "data_efficiency": "fieldtune makes its own batches",
    "curriculum_learning": "fieldtune makes its own batches",
}
_HALF = {"bf16": "bf16", "fp16": "fp16"}


def require_deepspeed() -> None:
    if importlib.util.find_spec("deepspeed") is None:
        raise MissingExtraError("deepspeed", "deepspeed")


def deepspeed_settings(path: Path, training: Training, precision: str, processes: int) -> dict[str, Any]:
    """The file's settings with every "auto" filled in.

    `precision` is what training computes in; "auto" while that is not known. Raises InputError for a file that is not
    a JSON object, ConfigError naming the field that the config contradicts.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError("expected a JSON object", "see examples/cluster", path=path)
    for field, why in _OURS.items():
        if field in found:
            raise ConfigError(f"{path}: {field} is not DeepSpeed's to decide here", f"remove it; {why}")
    stage = _section(found, "zero_optimization", path).get("stage", 0)
    if stage not in (1, 2, 3):
        raise ConfigError(
            f"{path}: zero_optimization.stage is {stage!r}, there are 1, 2 and 3",
            "without sharding leave training.deepspeed out: torchrun alone trains whole copies",
        )
    # Of DeepSpeed's names: here a batch is divided among processes before its texts are, and a step is one batch.
    settled: dict[str, Any] = {
        "train_batch_size": training.batch_size * training.accumulate,
        "gradient_accumulation_steps": training.accumulate,
        "gradient_clipping": training.max_grad_norm,
    }
    each = training.batch_size // processes
    settled["train_micro_batch_size_per_gpu"] = each
    names = {
        "train_batch_size": "batch_size times training.accumulate",
        "gradient_accumulation_steps": "accumulate",
        "gradient_clipping": "max_grad_norm",
        "train_micro_batch_size_per_gpu": f"batch_size over {processes} processes",
    }
    for field, value in settled.items():
        given = found.get(field, "auto")
        if given != "auto" and given != value:
            raise ConfigError(
                f"{path}: {field} is {given}, but training.{names[field]} is {value}",
                f'set {field} to "auto", or the config to what the file says',
            )
    made = dict(found)
    for half in _HALF:
        section = dict(_section(found, half, path))
        enabled = section.get("enabled", False)
        if enabled == "auto":
            section["enabled"] = enabled = precision == half
        if section:
            made[half] = section
        if enabled is True and precision not in ("auto", half):
            raise ConfigError(
                f"{path}: {half}.enabled is true, but training.precision is {precision}",
                f'set training.precision={half}, or {half}.enabled to "auto"',
            )
    if precision == "fp16" and not made.get("fp16", {}).get("enabled"):
        raise ConfigError(
            f"{path}: fp16.enabled is not true, but training.precision is fp16",
            'set fp16.enabled to "auto": DeepSpeed scales the loss then',
        )
    # DeepSpeed multiplies micro batches, accumulation and processes; here its counts only have to be consistent.
    made["train_micro_batch_size_per_gpu"] = 1
    made["gradient_accumulation_steps"] = 1
    made["train_batch_size"] = processes
    made["gradient_clipping"] = training.max_grad_norm
    made.setdefault("zero_allow_untested_optimizer", True)
    made.setdefault("zero_force_ds_cpu_optimizer", False)  # ours is PyTorch's AdamW, on whichever device
    return made


def _section(found: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    section = found.get(name, {})
    if not isinstance(section, dict):
        raise InputError(f"{name} is not a JSON object", "see examples/cluster", path=path)
    return section
