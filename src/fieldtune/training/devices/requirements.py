"""What settings of several devices do not go with, said before any work."""

from __future__ import annotations

import os
from pathlib import Path

from fieldtune.config import Config
from fieldtune.errors import ConfigError
from fieldtune.training.devices.deepspeed_file import deepspeed_settings, require_deepspeed
from fieldtune.training.devices.world import current, is_launched

_LAUNCH = "torchrun --nproc-per-node N -m fieldtune run CONFIG"


def require_devices(config: Config) -> None:
    """Raise ConfigError, InputError or MissingExtraError for settings that cannot be trained as they ask to be."""
    settings = config.training
    world = current()
    size = world.size if world else int(os.environ["WORLD_SIZE"]) if is_launched() else 1
    if settings.batch_size < size:
        raise ConfigError(
            f"training.batch_size is {settings.batch_size}, for {size} processes: it is the batch of all together",
            f"set it to {size} or more",
        )
    if not settings.fsdp and not settings.deepspeed:
        return
    name = "deepspeed" if settings.deepspeed else "fsdp"
    if settings.fsdp and settings.deepspeed:
        raise ConfigError("training.fsdp and training.deepspeed both cut the model up", "set one of them")
    if world is None and not is_launched():
        raise ConfigError(f"training.{name} needs a launcher that starts the processes", f"start it as {_LAUNCH}")
    wrong = {
        f"method={settings.method}": settings.method not in ("full", "lora"),
        f"anchor={settings.anchor:g}": settings.anchor > 0,
        "precision=fp16": bool(settings.fsdp) and settings.precision == "fp16",
        "projection=learned": bool(settings.deepspeed)
        and settings.loss == "vectors"
        and settings.projection == "learned",
    }
    for setting in (one for one, stands in wrong.items() if stands):
        raise ConfigError(
            f"training.{setting} does not go with training.{name}",
            "take method full or lora, anchor 0, bf16 with fsdp, and projection pca with deepspeed; or plain torchrun, "
            "which trains whole copies",
        )
    if settings.deepspeed:
        deepspeed_settings(Path(settings.deepspeed), settings, settings.precision, size)
        require_deepspeed()


def said_of_devices() -> list[str]:
    """How many processes trained, for the user."""
    world = current()
    if world is None or world.size == 1:
        return []
    return [
        f"Trained by {world.size} processes: each step's batch was divided among them, the negatives of all were seen "
        "by all."
    ]
