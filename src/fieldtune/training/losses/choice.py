"""Which loss fits which rows, and a clear word where one does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fieldtune.config import Training
from fieldtune.errors import ConfigError

if TYPE_CHECKING:
    from fieldtune.training.batches import Batch
    from fieldtune.training.pairs import Pairs

IN_BATCH = ("mnrl", "symmetric", "gte", "guided")
"""Every other passage of the batch is a negative: more queries at once change the loss."""
OWN = ("triplet", "contrastive", "online_contrastive")
TAUGHT = ("margin_mse", "kl")
"""They need a teacher's scores of several passages of a query."""
SCORED = (*TAUGHT, "cosine", "cosent")
"""They follow scores where the rows have some."""
LOSSES = (*IN_BATCH, *OWN, "cosine", "cosent", *TAUGHT, "vectors")
SUMS = frozenset({"triplet", "contrastive", "cosine"})
"""Means of terms of which each is of one query: batches add up to a large one."""

_BASE = "cosine of the base model"


@dataclass(frozen=True, slots=True)
class Shape:
    """What the training rows hold, as far as a loss asks for it."""

    queries: int
    pairs: int
    apart: bool
    """Whether some query has a positive of another that is not known to be right for it: a negative in the batch."""
    with_negatives: int
    """Queries with a hard negative."""
    scored: int
    """Queries with scores of two passages or more, by a teacher or given."""
    mostly_scored: bool
    """More than half of the field's own queries have such scores."""
    scores: int
    """Pairs with such a score."""
    lowest: float
    highest: float
    kind: str
    """What the scores are: see dataset/teacher.py."""
    drawn: int
    """Hard negatives that a step draws for a query; 0: those of the rows are not seen."""
    in_batch: bool
    """Whether the passages of other queries are negatives."""

    @property
    def hard(self) -> bool:
        """Whether steps see hard negatives."""
        return self.with_negatives > 0 and self.drawn > 0

    @property
    def others(self) -> bool:
        """Whether steps see negatives that are right for another query."""
        return self.apart and self.in_batch

    def __str__(self) -> str:
        said = f"{self.pairs:,} pairs of query and positive, {self.with_negatives:,} queries with hard negatives"
        if self.kind == _BASE:
            return said + ", no scores but the base model's own cosines"
        if not self.scores:
            return said + ", no scores"
        return said + f", {self.scores:,} scores from {self.lowest:g} to {self.highest:g} ({self.kind})"


def shape_of(pairs: Pairs, kind: str, own: int | None = None, settings: Training | None = None) -> Shape:
    """`kind` says what the scores in the rows are; those of the base model itself do not count.

    `own` of the queries, the first ones, are the field's; the others are replayed and do not decide the loss.
    `settings` say which of the rows' negatives the steps see; None: the defaults.
    """
    settings = settings or Training()
    counted = [] if kind == _BASE else [found for found in pairs.scores if found]
    positives = frozenset(pairs.positive.tolist())
    values = [score for found in counted for score in found.values()]
    of_own = [] if kind == _BASE else pairs.scores[:own]
    return Shape(
        queries=len(pairs.queries),
        pairs=len(pairs),
        apart=any(not positives <= known for known in pairs.known),
        with_negatives=sum(len(rows) > 0 for rows in pairs.negatives),
        scored=sum(len(found) >= 2 for found in counted),
        mostly_scored=sum(len(found) >= 2 for found in of_own) > len(pairs.scores[:own]) / 2,
        scores=len(values),
        lowest=min(values, default=0.0),
        highest=max(values, default=0.0),
        kind=kind,
        drawn=settings.hard_negatives,
        in_batch=settings.m3.train == "none" or settings.m3.in_batch,
    )


def fitting(shape: Shape) -> list[str]:
    """The losses that these rows can be trained with."""
    return [loss for loss in LOSSES if not misfit(loss, shape)]


def misfit(loss: str, shape: Shape) -> str:
    """What the rows, or what steps draw of them, lack for the loss; empty if nothing."""
    if loss in IN_BATCH and not shape.others and not shape.hard:
        others = "two queries or more with different positives" if shape.in_batch else "training.m3.in_batch=true"
        return f"{others}, or {_hard_negatives(shape)}, without which its value never changes"
    if loss in OWN and not shape.hard:
        return _hard_negatives(shape)
    if loss in TAUGHT and not shape.scored:
        return "a teacher's scores of a query's passages (teacher.model, or pos_scores and neg_scores in the rows)"
    if loss in ("cosine", "cosent") and not shape.hard and shape.highest <= shape.lowest:
        return f"scores that differ, or {_hard_negatives(shape)}"
    if loss == "cosine" and shape.scores and shape.lowest < -1:
        return f"scores that can be read as cosines (the lowest is {shape.lowest:g}; teacher.activation=sigmoid)"
    return ""


def _hard_negatives(shape: Shape) -> str:
    """With what is in the way of them."""
    sources = [] if shape.with_negatives else ["negatives.per_query, or neg in the rows"]
    if not shape.drawn:
        sources.append("training.hard_negatives of 1 or more: it is 0, and none is drawn")
    return f"hard negatives ({'; '.join(sources)})"


def choose(wanted: str, shape: Shape) -> str:
    """The loss for these rows: `auto` follows the scores where there is a teacher's for most queries.

    Raises ConfigError that says what the rows hold and which losses fit them.
    """
    if wanted == "auto":
        # Scores given with the labels may be a person's grades: a distribution over them is not meant.
        taught = shape.kind in ("cross-encoder", "llm", "embedder", "fused") and shape.mostly_scored
        loss = "kl" if taught else "mnrl"
    else:
        loss = "mnrl" if wanted == "cached" else wanted
    lacking = misfit(loss, shape)
    if lacking:
        more = ""
        if shape.with_negatives and not shape.drawn:
            more = "; or set training.hard_negatives=1"
        elif loss in IN_BATCH and shape.in_batch:
            more = "; or add queries on other passages, or neg to the rows"
        raise ConfigError(
            f"training.loss {wanted} needs {lacking}; the rows hold {shape}",
            f"losses that fit them: {', '.join(fitting(shape)) or 'none'}{more}",
        )
    return loss


def untaught(pairs: Pairs) -> int:
    """Queries without scores: beside those that have some the losses of a teacher train them in the batch."""
    asked = zip(pairs.query.tolist(), pairs.positive.tolist(), strict=True)
    return len({query for query, positive in asked if not pairs.taught(query, positive)})


def unused(loss: str, pairs: Pairs, uses_scores: bool) -> tuple[frozenset[int], str]:
    """Queries that the loss learns nothing from, and what they lack."""
    if loss == "triplet":
        return frozenset(query for query, rows in enumerate(pairs.negatives) if not len(rows)), "hard negatives"
    if loss in ("cosine", "cosent") and uses_scores:
        return frozenset(query for query, found in enumerate(pairs.scores) if not found), "scores"
    return frozenset(), ""


def scales(loss: str, settings: Training) -> bool:
    """Whether the loss multiplies similarities by training.scale."""
    return loss in (*IN_BATCH, "cosent", *TAUGHT) or (loss == "vectors" and settings.contrastive_share > 0)


def draws_scored(loss: str, uses_scores: bool) -> bool:
    """Whether of a query with scores those passages are drawn, whatever they are, and not its hard negatives."""
    return loss in TAUGHT or (uses_scores and loss in ("cosine", "cosent"))


def terms(loss: str, batch: Batch) -> int:
    """Over how many terms the loss of this batch is a mean: its weight beside the other batches of a step."""
    drawn = int((batch.own[:, 1:] >= 0).sum())
    if loss == "triplet":
        return drawn
    if loss in ("contrastive", "online_contrastive", "cosine", "cosent"):
        return drawn + len(batch)
    return len(batch)
