"""What a method of training does not go with, said before any work."""

from __future__ import annotations

from fieldtune.config import Config
from fieldtune.errors import ConfigError
from fieldtune.training.qlora import require_qlora


def require_method(config: Config, device: str) -> None:
    """Say what cannot work before anything is encoded.

    Raises ConfigError for settings that contradict each other, ModelError or MissingExtraError for QLoRA where it
    cannot run.
    """
    settings = config.training
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
        "anchor": (settings.anchor, "training.weight_decay pulls its layer towards changing nothing"),
        "query_tokens": (settings.query_tokens, "its vectors are those of search: set model.max_tokens"),
        "passage_tokens": (settings.passage_tokens, "its vectors are those of search: set model.max_tokens"),
    }
    for name, (given, cure) in refused.items():
        if given:
            raise ConfigError(f"training.{name} has no meaning for method=query", f"leave it out: {cure}")
    if config.negatives.rounds > 1:
        raise ConfigError("negatives.rounds does not go with method=query", "set negatives.rounds=1")
