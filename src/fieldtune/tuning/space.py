"""What is searched over: for each setting the values worth trying, the config's own among them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune.config import Config

if TYPE_CHECKING:
    from fieldtune.encoding import Encoder

_RATES = (0.2, 0.4, 1.0, 2.0, 4.0)  # times the config's own
_EPOCHS = (1.0, 2.0, 3.0, 4.0, 6.0)
_NEGATIVES = (0, 1, 2, 4)
_SCALES = (0.5, 1.0, 2.0)  # times the fitting one
_RANKS = (4, 8, 16, 32, 64)
_LOSSES = ("mnrl", "symmetric", "gte", "guided", "kl", "margin_mse")

Settings = dict[str, Any]
"""Dotted name -> value, for every setting that is searched."""


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


def search_space(
    config: Config, encoder: Encoder, examples: Path, vectors: Path, fixed: Collection[str]
) -> list[Setting]:
    """The settings that these rows and this base model leave open, without those named in `fixed`.

    `examples` is the file of the training rows, `vectors` the run's folder of encoded texts. Raises ConfigError for
    settings that contradict the rows.
    """
    from fieldtune.dataset import read_examples
    from fieldtune.training.decide import decide, scores_kind
    from fieldtune.training.losses.choice import IN_BATCH, fitting, shape_of
    from fieldtune.training.pairs import make_pairs

    pairs = make_pairs(read_examples(examples))
    recipe, _ = decide(config, pairs, encoder, examples, vectors)
    own = config.training
    shape = shape_of(pairs, scores_kind(examples, pairs), settings=own)
    space = [
        _numbers("training.learning_rate", [_round(own.learning_rate * times) for times in _RATES], own.learning_rate),
        _numbers("training.epochs", _EPOCHS, own.epochs),
    ]
    scales = [_round(recipe.scale * times) for times in _SCALES]
    if own.scale == "auto":
        space.append(Setting("training.scale", (scales[0], "auto", scales[2]), "auto"))
    else:
        space.append(_numbers("training.scale", scales, own.scale))
    others = [loss for loss in _LOSSES if loss in fitting(shape) and loss not in (own.loss, recipe.loss)]
    if others:
        space.append(Setting("training.loss", (own.loss, *others), own.loss, ordered=False))
    if shape.with_negatives and recipe.loss in IN_BATCH:
        counts = [count for count in _NEGATIVES if count <= config.negatives.per_query and (count or shape.others)]
        space.append(_numbers("training.hard_negatives", counts, own.hard_negatives))
    low_rank = getattr(own, "lora", None)
    if low_rank is not None and getattr(own, "method", "full") in ("lora", "qlora"):
        space.append(_numbers("training.lora.rank", _RANKS, low_rank.rank))
    return [setting for setting in space if setting.name not in fixed and len(setting.values) > 1]


def _numbers(name: str, values: Collection[float], own: float) -> Setting:
    return Setting(name, tuple(sorted({*values, own})), own)


def _round(value: float) -> float:
    return float(f"{value:.2g}")
