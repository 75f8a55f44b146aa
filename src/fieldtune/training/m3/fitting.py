"""The two layers put into a model for training, and what does not go with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from fieldtune.config import Config, Training
from fieldtune.encoding import Encoder
from fieldtune.encoding.m3 import has_heads, hidden_size, load_heads, new_heads
from fieldtune.encoding.m3.heads import MULTI, SPARSE
from fieldtune.encoding.m3.signals import require_tokens
from fieldtune.errors import ConfigError
from fieldtune.models import resolve_model
from fieldtune.workspace import file_digest

if TYPE_CHECKING:
    from torch.nn import Module, ModuleDict

_NAME = "m3_heads"  # as a part of the model while it is trained: checkpoints and best weights then hold the layers too


def require_m3(config: Config) -> None:
    """Raise ConfigError for settings that mean nothing, or something else, for three kinds of vectors."""
    settings = config.training
    wrong = {
        f"loss={settings.loss}": settings.loss not in ("auto", "mnrl", "cached", "kl"),
        "similarity=dot": settings.similarity == "dot",
        f"method={settings.method}": settings.method == "query"
        or (settings.m3.train == "heads" and settings.method != "full"),
        f"base_share={settings.base_share}": settings.base_share not in (0, "queries"),
        f"seeds={settings.seeds}": settings.seeds > 1,
        # One temperature for all scores and losses, as their sum wants it.
        f"student_temperature={settings.student_temperature}": settings.student_temperature != "auto",
        f"dev_dimension={settings.dev_dimension}": settings.dev_dimension != 0,
    }
    for setting in (name for name, stands in wrong.items() if stands):
        raise ConfigError(
            f"training.{setting} does not go with training.m3.train={settings.m3.train}",
            "take loss auto, mnrl, cached or kl, cosine similarity, method full, lora, qlora or adapter (full for "
            "heads alone), base_share and dev_dimension 0, student_temperature auto (it is 1/scale) and one seed; or "
            "training.m3.train=none",
        )
    # Without a teacher it is the contrastive loss; with one the rows' scores are drawn, whatever is set here.
    plain = settings.loss in ("mnrl", "cached") or (settings.loss == "auto" and not config.teacher.model)
    if plain and not settings.m3.in_batch and not settings.hard_negatives:
        raise ConfigError(
            "training.m3.in_batch=false leaves a query its hard negatives alone, and training.hard_negatives=0 draws "
            "none: the loss would be 0 throughout",
            "set training.hard_negatives=1 or more, or training.m3.in_batch=true",
        )
    if not any(settings.m3.weights):
        raise ConfigError("training.m3.weights are all 0", "give at least one score a weight, such as [1.0, 0.3, 1.0]")


@dataclass(frozen=True, slots=True)
class Fitted:
    """The layers in a model under training."""

    heads: ModuleDict
    note: str
    """Where they come from and what of them learns, for the user."""
    digest: str
    """Of the files they come from; "" for new ones."""

    def take_out(self, encoder: Encoder) -> None:
        """Leave the model as it was, for saving; the layers stay in `heads`."""
        delattr(encoder.model[0], _NAME)
        self.heads.eval()


def put_in(encoder: Encoder, settings: Training) -> Fitted:
    """Add the layers to the model: those of its folder, or new ones.

    What `m3.train` does not name is frozen. Raises ModelError for a model without plain tokens or whose layers do not
    fit it.
    """
    require_tokens(encoder)
    folder, hidden = resolve_model(encoder.name).folder, hidden_size(encoder)
    carried = has_heads(folder)
    heads = load_heads(folder, hidden) if carried else new_heads(hidden, settings.m3.size)
    heads.to(encoder.model.device)
    if settings.m3.train == "heads":
        encoder.model.requires_grad_(False)
    heads.requires_grad_(settings.m3.train != "encoder")
    encoder.model[0].add_module(_NAME, heads)
    origin = "taken from the base's folder" if carried else "new"
    learnt = {
        "both": "trained with the encoder",
        "heads": "trained alone; the encoder and its dense vectors stay as they are",
        "encoder": "left as they are; the encoder is trained",
    }
    note = f"The layers for sparse and multi-vectors are {origin} and {learnt[settings.m3.train]}."
    made_of = [file_digest(folder / f"{name}.pt") for name in (SPARSE, MULTI)] if carried else []
    return Fitted(heads, note, "-".join(made_of))


def heads_in(model: Module) -> ModuleDict | None:
    """The two layers in a model under training, or in a twin of it; None where there are none."""
    found = next((part for name, part in model.named_modules() if name.split(".")[-1] == _NAME), None)
    return cast("ModuleDict | None", found)


def heads_apart(groups: list[dict[str, Any]], model: Module, settings: Training) -> list[dict[str, Any]]:
    """The optimizer's groups with the two layers set apart, at `m3.head_rate` times the learning rate."""
    heads = {id(weight) for name, weight in model.named_parameters() if f".{_NAME}." in f".{name}"}
    if not heads:
        return groups
    apart: list[dict[str, Any]] = []
    for group in groups:
        rest = [weight for weight in group["params"] if id(weight) not in heads]
        own = [weight for weight in group["params"] if id(weight) in heads]
        apart += [{**group, "params": rest}] if rest else []
        apart += [{**group, "params": own, "share": settings.m3.head_rate}] if own else []
    return apart
