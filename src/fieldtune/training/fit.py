"""What training would refuse, as far as settings, the base model's folder and this machine tell it before any work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fieldtune.config import Config, Training, second_models
from fieldtune.errors import ConfigError, InputError
from fieldtune.model_folder import carries, transformer_folder
from fieldtune.models import resolve_model, trusted
from fieldtune.training.adapting import require_bare
from fieldtune.training.blocks import linears_of
from fieldtune.training.devices.requirements import require_devices
from fieldtune.training.freezing import require_layers
from fieldtune.training.lora import targets
from fieldtune.training.losses.choice import OWN
from fieldtune.training.m3.fitting import require_m3
from fieldtune.training.methods import require_method
from fieldtune.training.reports import require_reporters

if TYPE_CHECKING:
    from fieldtune.models import ResolvedModel


def require_training(config: Config, model: ResolvedModel, *, here: bool = True) -> None:
    """Raise the error that training would raise, before documents are read and an LLM is paid; `model` is the base.

    What depends on this machine, or on files that only training reads, is asked where training is to run `here`. Raises
    ConfigError, ModelError, InputError or MissingExtraError.
    """
    settings = config.training
    require_reporters(settings.report_to)
    require_devices(config)
    if settings.method != "qlora":
        require_method(config, "cpu")
    elif here:
        require_method(config, _device())
    if settings.m3.train != "none":
        require_m3(config)
    if settings.loss in OWN and not settings.hard_negatives:
        raise ConfigError(
            f"training.loss {settings.loss} learns from hard negatives, and training.hard_negatives=0 draws none",
            "set training.hard_negatives=1, or a loss that sees the batch's other passages, such as mnrl",
        )
    routed, adapted = carries(model.folder)
    require_bare(settings, model.name, routed=routed, adapted=adapted)
    require_sizes(settings, model.name, model.dimension)
    require_lengths(settings, model.name, config.model.max_tokens or model.max_tokens)
    low_rank = settings.method in ("lora", "qlora")
    if settings.freeze_layers or (low_rank and settings.lora.targets != "all"):
        require_parts(settings, model, trust=config.model.trust_remote_code)
    for name in second_models(settings):
        resolve_model(name)
    if here and settings.replay and not Path(settings.replay).exists():
        raise InputError("no such file", "training.replay names a file of general rows", path=settings.replay)


def require_parts(settings: Training, model: ResolvedModel, *, trust: bool) -> None:
    """Raise ModelError for layers or matrices that the model does not have, by its config alone, without its weights.

    What that does not tell, such as a model with code of its own that no `trust` lets run, is left to training.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    folder = transformer_folder(Path(model.folder))
    trust = trust or trusted()
    try:
        found = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trust)
        with torch.device("meta"):  # takes no memory
            transformer = AutoModel.from_config(found, trust_remote_code=trust)
    except Exception:  # whatever a model's own code raises: loading it says so with its cure
        return
    require_layers(transformer, settings.freeze_layers)
    if settings.method in ("lora", "qlora"):
        targets(linears_of(transformer), settings.lora, settings.freeze_layers, model.name)


def require_sizes(settings: Training, name: str, dimension: int | None) -> None:
    """Raise ConfigError for more dimensions than the model `name` has; nothing is known of None."""
    sizes = () if settings.matryoshka == "auto" else settings.matryoshka
    for asked, setting in ((max(sizes, default=0), "matryoshka"), (settings.dev_dimension, "dev_dimension")):
        if dimension is not None and asked > dimension:
            raise ConfigError(
                f"training.{setting} asks for {asked} dimensions, {name} has {dimension}",
                f"use sizes up to {dimension}",
            )


def require_lengths(settings: Training, name: str, limit: int | None) -> None:
    """Raise ConfigError for longer texts than the model `name` reads, `limit` tokens; nothing is known of None."""
    for setting in ("query_tokens", "passage_tokens"):
        asked = getattr(settings, setting)
        if limit and asked > limit:
            raise ConfigError(
                f"training.{setting} asks for {asked} tokens, {name} is set to read {limit}",
                f"set model.max_tokens to {asked}, if the model allows it, or training.{setting} to {limit} or less",
            )


def _device() -> str:
    """As a model is loaded to."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
