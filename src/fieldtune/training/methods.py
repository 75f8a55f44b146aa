"""What a method of training does not go with, said before any work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fieldtune.config import Config, Section, Training
from fieldtune.errors import ConfigError
from fieldtune.training.losses.choice import IN_BATCH, OWN, SCORED, TAUGHT, scales
from fieldtune.training.qlora import require_qlora


@dataclass(frozen=True, slots=True)
class Use:
    """Where settings of training count; elsewhere they would be passed over without a word."""

    settings: tuple[str, ...]
    """Of training; a section stands for all in it."""
    way: str
    """The setting that decides."""
    values: tuple[str, ...]
    """Of `way`, with which they count; none: with any that is not empty."""
    refused: bool = False
    """Elsewhere they can only be a mistake; others may be left from another choice of `way`, and are told."""

    def counts(self, settings: Training, loss: str = "") -> bool:
        """`loss` is what training.loss came to, where that is known."""
        value: Any = settings
        for part in self.way.split("."):
            value = getattr(value, part)
        if self.way == "loss":
            value = loss or value
        return value in self.values if self.values else bool(value)


USES = (
    Use(("lora",), "method", ("lora", "qlora"), refused=True),
    Use(("bottleneck",), "method", ("adapter",), refused=True),
    Use(("query",), "method", ("query",), refused=True),
    Use(("m3",), "m3.train", ("both", "heads", "encoder"), refused=True),
    Use(("guide",), "loss", ("guided",), refused=True),
    Use(("vector_teacher",), "loss", ("vectors",), refused=True),
    Use(
        ("pretrain_epochs", "pretrain_rate", "pretrain_share", "pretrain_batch_size"), "pretrain", ("mlm", "tsdae"),
        refused=True,
    ),
    Use(("scale",), "loss", (*IN_BATCH, "cosent", *TAUGHT, "vectors")),
    Use(("margin",), "loss", OWN),
    Use(("guide_margin",), "loss", ("guided",)),
    Use(("projection",), "loss", ("vectors",)),
    Use(("scored_passages",), "loss", SCORED),
    Use(("student_temperature", "teacher_temperature"), "loss", TAUGHT),
    Use(("contrastive_share",), "loss", (*TAUGHT, "vectors")),
    Use(("replay_share",), "replay", ()),
)  # fmt: skip


def require_used(settings: Training) -> None:
    """Raise ConfigError for a setting of a way that is not chosen, which would train something else than was meant."""
    for use in USES:
        if use.refused and not use.counts(settings) and (given := _given(settings, use)):
            raise ConfigError(
                f"training.{given[0]} is set, but counts with training.{use.way}={' or '.join(use.values)} alone",
                f"set training.{use.way}={use.values[0]}, or leave training.{given[0]} out",
            )


def said_of_unused(config: Config, loss: str) -> list[str]:
    """What is set and passed over with this `loss`, the one that training.loss came to."""
    settings, said = config.training, []
    for use in USES:
        if not use.counts(settings, loss):
            way = f"training.{use.way}={' or '.join(use.values)}" if use.values else f"training.{use.way}"
            said += [f"training.{name} is set, but counts with {way} alone." for name in _given(settings, use)]
    if settings.scale != "auto" and loss == "vectors" and not scales(loss, settings):
        said.append(
            "training.scale is set, but of the loss vectors it counts in training.contrastive_share alone, which is 0."
        )
    if config.teacher.model and loss not in SCORED:
        said.append(
            f"The scores of teacher.model are not used: the loss {loss} takes none ({', '.join(SCORED)} do). Leave "
            "teacher.model out to save their cost."
        )
    return said


def _given(settings: Training, use: Use) -> list[str]:
    """Which of the settings differ from their defaults."""
    found = []
    for name in use.settings:
        own, plain = getattr(settings, name), Training.model_fields[name].default
        if isinstance(own, Section):
            found += [f"{name}.{key}" for key, value in own if value != getattr(plain, key)]
        elif own != plain:
            found.append(name)
    return found


def require_method(config: Config, device: str) -> None:
    """Say what cannot work before anything is encoded.

    Raises ConfigError for settings that contradict each other or the way that is chosen, ModelError or
    MissingExtraError for QLoRA where it cannot run.
    """
    settings = config.training
    require_used(settings)
    if settings.method == "qlora":
        if settings.pretrain != "none":
            raise ConfigError(
                f"training.pretrain={settings.pretrain} does not go with method=qlora, which reads the base anew from "
                "its folder, in 4 bits and without what pre-training changed",
                "set training.method=lora, or training.pretrain=none",
            )
        require_qlora(device)
        if settings.lora.dora:
            raise ConfigError("training.lora.dora does not go with qlora", "set training.method=lora for it")
    frozen = {
        f"method={settings.method}": settings.method != "full" and settings.pretrain == "none",  # that trains them too
        f"freeze_layers={settings.freeze_layers}": settings.freeze_layers > 0,
        "m3.train=heads": settings.m3.train == "heads" and settings.pretrain == "none",
    }
    for setting in (name for name, stands in frozen.items() if stands and settings.freeze_embeddings is False):
        raise ConfigError(
            f"training.freeze_embeddings=false asks to train the word vectors, and training.{setting} leaves them as "
            "they are",
            "leave training.freeze_embeddings out, or train all weights: method=full, freeze_layers=0, and m3.train "
            "none, both or encoder",
        )
    if settings.base_share not in (0, "queries") and settings.method in ("adapter", "query"):
        raise ConfigError(
            f"training.base_share mixes weights, and method={settings.method} leaves those of the base as they are",
            "set training.base_share=0, or a method of full or lora",
        )
    if settings.anchor and settings.method in ("lora", "qlora", "adapter"):
        raise ConfigError(
            f"training.anchor pulls the model's weights back, and method={settings.method} leaves them as they are: it "
            "would hold what was added at its random beginning",
            "set training.anchor=0, where training.weight_decay pulls the change towards none; or training.method=full",
        )
    if settings.seeds > 1 and settings.method != "full":
        raise ConfigError(
            f"training.seeds averages whole models, and method={settings.method} trains a part",
            "set training.seeds=1, or training.method=full",
        )
    if settings.method == "query":
        require_query(config)


def require_query(config: Config) -> None:
    """Raise ConfigError for settings that a layer on fixed query vectors cannot honour."""
    settings = config.training
    if settings.pretrain != "none":
        raise ConfigError(
            f"training.pretrain={settings.pretrain} changes the vectors of passages, and method=query is there to keep "
            "them: no index would stay valid",
            "set training.pretrain=none; or pre-train with another method, and train the query layer on its result",
        )
    refused = {
        "freeze_layers": (settings.freeze_layers, "it trains no layer of the model"),
        "dropout": (settings.dropout, "it trains on fixed vectors; training.weight_decay holds the layer back"),
        "freeze_embeddings": (settings.freeze_embeddings is True, "it trains no word vectors"),
        "gradient_cache": (settings.gradient_cache, "no gradient goes through the model; any batch_size fits"),
        "gradient_checkpointing": (settings.gradient_checkpointing, "no gradient goes through the model"),
        "anchor": (settings.anchor, "training.weight_decay pulls its layer towards changing nothing"),
        "query_tokens": (settings.query_tokens, "its vectors are those of search: set model.max_tokens"),
        "passage_tokens": (settings.passage_tokens, "its vectors are those of search: set model.max_tokens"),
    }
    for name, (given, cure) in refused.items():
        if given:
            raise ConfigError(f"training.{name} has no meaning for method=query", f"leave it out: {cure}")
    if config.negatives.rounds > 1:
        raise ConfigError("negatives.rounds does not go with method=query", "set negatives.rounds=1")
