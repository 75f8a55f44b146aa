"""The steps around training that keep what the base model knows, or bring it nearer to the field first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune.beir import RetrievalData
from fieldtune.config import Config
from fieldtune.dataset import HUMAN
from fieldtune.encoding import Encoder
from fieldtune.errors import ConfigError
from fieldtune.model_folder import transformer_folder
from fieldtune.models import resolve_model
from fieldtune.probes import all_probes, halves
from fieldtune.training.aside import key_of
from fieldtune.training.blend import Blended, Point, blend, choose_blend, draw_curve, kept_weights
from fieldtune.training.development import Development
from fieldtune.training.devices.world import current
from fieldtune.training.freezing import freeze_lower
from fieldtune.training.losses.choice import unused
from fieldtune.training.modes import set_up
from fieldtune.training.pairs import Pairs
from fieldtune.training.pretrain import pretrain
from fieldtune.training.recipe import Recipe
from fieldtune.training.replay import replay_rows
from fieldtune.training.reports import Report
from fieldtune.types import Example
from fieldtune.workspace import digest

if TYPE_CHECKING:
    import torch


MADE_SHARE = 0.3
"""Of the base model's weights where training queries were made. What they teach of their own wording is lost on what
people ask. Measured on the dev queries of people after training on made ones (benchmarks/generated.py --base-share), in
nDCG@10 against a share of 0: Chinese law +0.008 (made from structure) and +0.036 (by an LLM), medicine +0.004, tables
of finance -0.022; 0.5 gives +0.013, +0.045, +0.001 and -0.046."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """General rows beside those of the field; nothing of each where no file is given."""

    examples: list[Example] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class First:
    """What pre-training has to say to the rest of training."""

    key: str
    log: list[dict[str, Any]]
    note: str
    dev: float | None
    """The base model's own measure on dev; None without a dev set."""
    label: str

    @property
    def steps(self) -> int:
        return max((row["pretrain_step"] for row in self.log), default=0)

    def moved(self, after: float) -> str:
        """What pre-training alone did, `after` being the measure that training went on from."""
        what = f"dev {self.label} from {self.dev:.4f} to {after:.4f}"
        return f"Pre-training alone moved {what}; training went on from there."


def with_base_share(config: Config, data: RetrievalData) -> tuple[Config, tuple[str, ...]]:
    """`training.base_share` as a number, or auto, where it goes by the queries; and what is to be said of it."""
    settings = config.training
    if settings.base_share != "queries":
        return config, ()
    asked = data.positives("train")
    made = sum(data.queries[query].style not in ("", HUMAN) for query in asked)
    share = MADE_SHARE if mixes(config) and 2 * made > len(asked) else 0.0
    training = settings.model_copy(update={"base_share": share})
    notes = ("Most training queries were made, not asked by people.",) if share else ()
    return config.model_copy(update={"training": training}), notes


def with_replay(config: Config, rows: Sequence[Example], data: RetrievalData) -> Replayed:
    """The general rows of `training.replay`. Raises InputError for a file that has none."""
    settings = config.training
    if not settings.replay:
        return Replayed()
    path = Path(settings.replay)
    found = replay_rows(path, rows, settings.replay_share, data, all_probes(config.evaluation), config.seed)
    share = len(found.examples) / (len(found.examples) + len(rows))
    note = f"{len(found.examples):,} general rows of {path.name} were mixed in, {share:.0%} of all (training.replay)."
    if share < 0.9 * settings.replay_share:
        note += f" The file has no more; training.replay_share asks for {settings.replay_share:.0%}."
    return Replayed(found.examples, found.dropped, found.broken, (note,))


def require_replayed(replayed: Replayed, pairs: Pairs, recipe: Recipe) -> None:
    """Raise ConfigError where the loss learns nothing from any of the general rows among the pairs."""
    lost, lacking = unused(recipe.loss, pairs, recipe.uses_scores)
    place = {text: row for row, text in enumerate(pairs.queries)}
    if replayed.examples and all(place[row.query] in lost for row in replayed.examples):
        cure = "give its rows neg, " if recipe.loss == "triplet" else ""
        raise ConfigError(
            f"training.replay: the loss {recipe.loss} learns nothing from its rows, which have no {lacking}",
            f"{cure}choose another training.loss (such as mnrl, kl or contrastive), or leave training.replay out",
        )


def pretrain_first(
    config: Config,
    encoder: Encoder,
    data: RetrievalData,
    development: Development | None,
    work: Path,
    report: Report | None = None,
) -> First:
    """Train the encoder in place on the corpus' passages as `training.pretrain` says; its fingerprints become those of
    the new weights."""
    dev = None if development is None else float(development.score(encoder).mean())
    frozen = config.training.freeze_layers if config.training.method == "full" else 0  # else it is where adapters go
    set_up(encoder.model, config.training)
    freeze_lower(encoder.model.transformers_model, frozen)
    passages = [passage.content for passage in data.passages.values()]
    folder = transformer_folder(resolve_model(config.model.base).folder)
    own = config.training.model_dump(
        include={
            "pretrain", "pretrain_epochs", "pretrain_rate", "pretrain_share", "pretrain_batch_size", "dropout",
            "freeze_embeddings", "weight_decay", "max_grad_norm", "passage_tokens",
        }
    ) | {"freeze_layers": frozen}  # fmt: skip
    parts = {"base model": encoder.fingerprint, "seed": config.seed, "training": own, "passages": digest(passages)}
    done = pretrain(encoder, folder, passages, config.training, config.seed, work, key_of(parts), report)
    key = digest(parts)
    encoder.fingerprint = digest([encoder.fingerprint, key])  # vectors kept under the base's own are not these weights'
    encoder.passage_fingerprint = digest([encoder.passage_fingerprint, key])
    notes = [done.note, *done.notes]
    world = current()
    if world is not None and world.size > 1:
        notes.append(f"The first of the {world.size} processes did it alone; the others waited, and got its weights.")
    return First(key, list(done.log), " ".join(notes), dev, "" if development is None else development.label)


def keep_share(
    config: Config,
    encoder: Encoder,
    base: Mapping[str, torch.Tensor],
    development: Development | None,
    dev: tuple[float, float],
) -> Blended | None:
    """Blend the base model's weights in as `training.base_share` says; None where there is nothing to say of it.

    `base` may be empty where the share is 0; `dev` are the measures of the tuned and the base model on dev. With
    `training.share_curve` the curve of dev against general ability is measured for a share that is set, too.
    """
    settings = config.training
    share = settings.base_share
    if share == "queries":  # `with_base_share` has not been asked
        share = 0.0
    probes = halves(all_probes(config.evaluation), "choosing") if config.evaluation.general or share == "auto" else ()
    if share == "auto":
        return choose_blend(encoder, base, development, probes, config.evaluation.max_general_loss)
    drawn = settings.share_curve and development is not None and probes and mixes(config)
    if not share and not drawn:
        return None
    if not base:  # not kept through training: it is as large as the model
        base = kept_weights(Encoder.load(config.model.base, settings=config.model, precision=settings.precision).model)
    if development is None or not drawn:
        blend(encoder.model, base, share)
        if development is None:
            return Blended(Point(share, None, None, {}), (), ())
        point = Point(share, float(development.score(encoder).mean()), None, {})
        found = Blended(point, (), ())
    else:
        found = draw_curve(encoder, base, development, probes, share, MADE_SHARE, dev)
    if not share:
        return found
    note = (
        f"{share:.0%} of the weights are the base model's (training.base_share): dev {development.label} "
        f"{found.chosen.dev:.4f} instead of {dev[0]:.4f}."
    )
    return replace(found, notes=(*found.notes, note))


def mixes(config: Config) -> bool:
    """Whether the method changes the base model's own weights, so that some of the base can be mixed in."""
    return config.training.method in ("full", "lora", "qlora") and config.training.m3.train == "none"
