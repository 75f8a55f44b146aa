"""What is searched over: for each setting the values worth trying, the config's own among them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune.config import Config, Lora, make_config, merge
from fieldtune.console import note
from fieldtune.errors import FieldtuneError

if TYPE_CHECKING:
    from fieldtune.encoding import Encoder

_RATES = (0.2, 0.4, 1.0, 2.0, 4.0)  # times the config's own
_EPOCHS = (1.0, 2.0, 3.0, 4.0, 6.0)
_NEGATIVES = (0, 1, 2, 4)
_SCALES = (0.5, 1.0, 2.0)  # times the fitting one
_RANKS = (4, 8, 16, 32, 64)
_LOSSES = ("mnrl", "symmetric", "gte", "guided", "kl", "margin_mse")

Settings = dict[str, Any]
"""Dotted name -> value, for every setting that is searched and what goes with its values."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One dimension of the search."""

    name: str
    """As in `--set`: training.epochs."""
    values: tuple[Any, ...]
    """From low to high where they have an order."""
    own: Any
    """The config's value, one of `values`."""
    ordered: bool = True
    along: Mapping[Any, Settings] = field(default_factory=dict)
    """Value -> other settings that go with it, the same ones for all values; they are no dimension of their own."""


def whole(space: Sequence[Setting], chosen: Settings) -> Settings:
    """A value for each setting of the space, and what goes with them."""
    made = dict(chosen)
    for setting in space:
        made |= setting.along.get(chosen[setting.name], {})
    return made


def own_settings(space: Sequence[Setting]) -> Settings:
    """The config's own."""
    return whole(space, {setting.name: setting.own for setting in space})


def with_settings(config: Config, settings: Settings) -> Config:
    """The config with other values of dotted names."""
    nested: dict[str, Any] = {}
    for name, value in settings.items():
        for key in reversed(name.split(".")):
            value = {key: value}
        nested = merge(nested, value)
    return make_config(merge(config.model_dump(by_alias=True), nested), where="tune")


def search_space(
    config: Config, encoder: Encoder, examples: Path, vectors: Path, fixed: Collection[str], guide: str = ""
) -> list[Setting]:
    """The settings that these rows and this base model leave open, without those named in `fixed`.

    `examples` is the file of the training rows, `vectors` the run's folder of encoded texts, `guide` the model for the
    loss guided where the config's own loss is another. Values that training would refuse are left out. Raises
    ConfigError for settings that contradict the rows.
    """
    from fieldtune.dataset import read_examples
    from fieldtune.training.decide import decide, scores_kind
    from fieldtune.training.losses.choice import IN_BATCH, fitting, scales, shape_of
    from fieldtune.training.pairs import make_pairs

    pairs = make_pairs(read_examples(examples))
    recipe, _ = decide(config, pairs, encoder, examples, vectors)
    own = config.training
    shape = shape_of(pairs, scores_kind(examples, pairs), settings=own)
    space = [
        _numbers("training.learning_rate", [_round(own.learning_rate * times) for times in _RATES], own.learning_rate),
        _numbers("training.epochs", _EPOCHS, own.epochs),
    ]
    if scales(recipe.loss, own):
        around = [_round(recipe.scale * times) for times in _SCALES]
        if own.scale == "auto":
            space.append(Setting("training.scale", (around[0], "auto", around[2]), "auto"))
        else:
            space.append(_numbers("training.scale", around, own.scale))
    others = [loss for loss in _LOSSES if loss in fitting(shape) and loss not in (own.loss, recipe.loss)]
    if others:
        losses = (own.loss, *others)
        space.append(
            Setting("training.loss", losses, own.loss, ordered=False, along=_with_losses(config, losses, guide))
        )
    if shape.with_negatives and recipe.loss in IN_BATCH:
        counts = [count for count in _NEGATIVES if count <= config.negatives.per_query and (count or shape.others)]
        space.append(_numbers("training.hard_negatives", counts, own.hard_negatives))
    if own.method in ("lora", "qlora"):
        ranks = _numbers("training.lora.rank", _RANKS, own.lora.rank)
        if "training.lora.alpha" not in fixed:
            ranks = replace(
                ranks, along={rank: {"training.lora.alpha": _alpha(own.lora, rank)} for rank in ranks.values}
            )
        space.append(ranks)
    free = [_allowed(config, setting) for setting in space if setting.name not in fixed]
    return [setting for setting in free if len(setting.values) > 1]


def _with_losses(config: Config, losses: Sequence[str], guide: str) -> dict[Any, Settings]:
    """What each loss needs or cannot have: the second model of the one loss that looks at it, and the gradient cache
    where the config's own loss has it, without which its batch would not fit in memory."""
    own = config.training
    along: dict[Any, Settings] = {loss: {} for loss in losses}
    for name, of, model in (("guide", "guided", own.guide or guide), ("vector_teacher", "vectors", own.vector_teacher)):
        if model:
            for loss in losses:
                along[loss][f"training.{name}"] = model if loss == of else ""
    if own.loss == "cached" and own.method != "query":
        for loss in losses:
            along[loss]["training.gradient_cache"] = own.gradient_cache or loss != own.loss
    return along


def _alpha(own: Lora, rank: int) -> float:
    """With which a change of this rank is multiplied by as much as the config's own: the rank is searched, and the size
    of the steps by the learning rate alone."""
    if rank == own.rank:
        return own.alpha
    ratio = rank / own.rank
    return float(f"{own.alpha * (sqrt(ratio) if own.rslora else ratio):.6g}")


def _allowed(config: Config, setting: Setting) -> Setting:
    """Without values with which training would raise an error before its first step."""
    from fieldtune.models import resolve_model
    from fieldtune.training.fit import require_training

    model, kept = resolve_model(config.model.base), []
    for value in setting.values:
        try:
            require_training(with_settings(config, whole([setting], {setting.name: value})), model)
        except FieldtuneError as error:
            if value == setting.own:  # no fault of the search
                raise
            note(f"{setting.name}={value} is not tried: {error.message}")
        else:
            kept.append(value)
    return replace(setting, values=tuple(kept))


def _numbers(name: str, values: Collection[float], own: float) -> Setting:
    return Setting(name, tuple(sorted({*values, own})), own)


def _round(value: float) -> float:
    return float(f"{value:.2g}")
