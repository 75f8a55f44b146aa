"""What "auto" stands for: the loss, its scale and temperatures, the sizes, from the rows and the base model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fieldtune.config import Config, Training
from fieldtune.dataset.embedder import KIND as EMBEDDER
from fieldtune.dataset.embedder import SPREAD
from fieldtune.dataset.teacher import GIVEN, NONE
from fieldtune.encoding import Encoder
from fieldtune.encoding.precision import has_bf16
from fieldtune.errors import ConfigError
from fieldtune.queries.columns import scale_of
from fieldtune.training.fit import require_lengths, require_sizes
from fieldtune.training.losses import matryoshka_dimensions
from fieldtune.training.losses.choice import IN_BATCH, SUMS, TAUGHT, Shape, choose, scales, shape_of, untaught, unused
from fieldtune.training.pairs import Pairs
from fieldtune.training.recipe import Recipe
from fieldtune.training.scale import compared_vectors, fitting_scale, scale_of_cosines
from fieldtune.training.teachers import guide_vectors, teacher_vectors
from fieldtune.workspace import read_json


def decide(
    config: Config, pairs: Pairs, encoder: Encoder, examples: Path, vectors: Path, own: int | None = None
) -> tuple[Recipe, list[str]]:
    """The recipe for these rows and this base model, and what there is to say about it.

    The first `own` queries are the field's, the others replayed; None: all are the field's.

    `examples` is the file of the rows, with teacher.json beside it where the dataset stage wrote it; a guide's or
    teacher's vectors are kept in `vectors`. Raises ConfigError for a loss that the rows do not fit, and for sizes
    and lengths that the model does not have.
    """
    settings, notes = config.training, []
    require_sizes(settings, encoder.name, encoder.dimension)
    require_lengths(settings, encoder.name, encoder.tokens.limit if encoder.tokens else None)
    shape = shape_of(pairs, scores_kind(examples, pairs), own, settings)
    loss = choose(settings.loss, shape)
    notes.append(f"Loss {loss}" + (f", chosen for rows of {shape}." if settings.loss == "auto" else "."))
    if config.negatives.rounds > 1 and shape.kind == GIVEN and loss in TAUGHT:
        notes.append("Rows mined anew between rounds have no given scores: later rounds train them in the batch.")
    scale, said = _scale(config, pairs, encoder, own)
    notes += said if scales(loss, settings) else []
    dimensions, weights = sizes_trained(settings, encoder.dimension)
    if loss == "vectors" and not settings.contrastive_share and len(dimensions) > 1:
        dimensions, weights = (encoder.dimension,), ()
        notes.append(
            "The full size alone is trained (training.matryoshka): a teacher's vectors say nothing of what shorter "
            "ones should be. training.contrastive_share above 0 trains them by the in-batch loss."
        )
    else:
        notes += said_of_weights(settings, encoder.dimension)
    notes += said_of_unmet(settings, dimensions, pairs)
    student = 1 / scale if settings.student_temperature == "auto" else settings.student_temperature
    teacher, said = _teacher_temperature(config, pairs.scores[:own], loss, examples)
    notes += said
    fixed = None
    if loss == "guided":
        fixed = guide_vectors(settings.guide, config.model, vectors)
    elif loss == "vectors":
        fixed = teacher_vectors(settings, config.model, vectors, config.seed)
    notes += _mechanics(config, shape, loss, encoder.device)
    notes += _left_out(pairs, loss, shape.highest > shape.lowest)
    recipe = Recipe(
        settings,
        scale,
        dimensions,
        config.seed,
        loss=loss,
        weights=weights,
        cached=settings.gradient_cache or settings.loss == "cached",
        student_temperature=student,
        teacher_temperature=teacher,
        score_scale=scale_of(score for found in pairs.scores for score in found.values()),
        uses_scores=shape.highest > shape.lowest,
        fixed=fixed,
    )
    return recipe, notes


def _left_out(pairs: Pairs, loss: str, uses_scores: bool) -> list[str]:
    """Which queries another loss trains, and which none does."""
    count = len(pairs.queries)
    if loss in TAUGHT and (others := untaught(pairs)):
        return [
            f"{others:,} of {count:,} training queries have no scores: they are trained with the in-batch loss and "
            f"their hard negatives, beside those that follow the teacher ({loss})."
        ]
    lost, lacking = unused(loss, pairs, uses_scores)
    if lost:
        return [f"The loss {loss} learns nothing from {len(lost):,} of {count:,} training queries: no {lacking}."]
    return []


def scores_kind(examples: Path, pairs: Pairs) -> str:
    """What the rows' scores are; in rows that did not come from the dataset stage they count as given."""
    path = examples.with_name("teacher.json")
    if path.exists():
        return str(read_json(path).get("kind") or NONE)
    return GIVEN if any(pairs.scores) else NONE


def _scale(config: Config, pairs: Pairs, encoder: Encoder, own: int | None) -> tuple[float, list[str]]:
    """Replayed rows have no say: general texts lie further apart than those of one field."""
    if config.training.scale != "auto":
        return config.training.scale, []
    rng = np.random.default_rng(config.seed)

    def some(texts: list[str]) -> list[str]:
        return [texts[i] for i in rng.permutation(len(texts))[:500]]

    shown = {*pairs.positive[pairs.query < (len(pairs.queries) if own is None else own)].tolist()}
    shown.update(*(rows.tolist() for rows in pairs.negatives[:own]), *pairs.known[:own])
    queries = compared_vectors(encoder, some(pairs.queries[:own]), "query", config.training)
    passages = compared_vectors(
        encoder, some([pairs.passages[row] for row in sorted(shown)]), "passage", config.training
    )
    scale, spread = fitting_scale(queries, passages, config.seed)
    what = "cosines" if config.training.similarity == "cosine" else "inner products"
    return scale, [
        f"Loss scale {scale:g}, chosen from the base model: its {what} between unrelated texts spread by {spread:.3g}."
    ]


def sizes_trained(settings: Training, full: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The sizes at which vectors of `full` dimensions are trained, `full` always among them, and the weight of the loss
    at each; no weights: all the same."""
    dimensions = matryoshka_dimensions(full) if settings.matryoshka == "auto" else (settings.matryoshka or (full,))
    weights = settings.matryoshka_weights
    if full not in dimensions:
        dimensions = (full, *dimensions)
        weights = (1.0, *weights) if weights else ()
    return dimensions, weights


def said_of_weights(settings: Training, full: int) -> list[str]:
    """That the full size takes part where weights are given and it has none."""
    if not settings.matryoshka_weights or full in settings.matryoshka:
        return []
    return [
        f"The full size ({full}) is trained too, with weight 1 beside training.matryoshka_weights; name it in "
        "training.matryoshka to give it another."
    ]


def said_of_unmet(settings: Training, dimensions: Sequence[int], pairs: Pairs) -> list[str]:
    """What asks for sizes that are not trained, `dimensions` being those that are, or for more negatives than the rows
    have."""
    said, most = [], max(map(len, pairs.negatives), default=0)
    if settings.dev_dimension not in (0, *dimensions):
        said.append(
            f"Dev is measured at {settings.dev_dimension} dimensions (training.dev_dimension), a size that is not "
            f"trained (training.matryoshka comes to {', '.join(map(str, dimensions))}): what it chooses by is no aim "
            "of the training."
        )
    if settings.hard_negatives > max(1, most):  # 1 is the default, in rows without any too
        said.append(
            f"training.hard_negatives is {settings.hard_negatives}, and no query has more than {most} to draw from: "
            "raise negatives.per_query, or give more neg in the rows."
        )
    return said


def _teacher_temperature(
    config: Config, scores: Sequence[Mapping[int, float]], loss: str, examples: Path
) -> tuple[float, list[str]]:
    """From the scores of the field's own queries; those of replayed rows may be of another kind."""
    wanted = config.training.teacher_temperature
    if wanted != "auto":
        return wanted, []
    if loss not in TAUGHT:
        return 1.0, []
    spreads = [float(np.std(list(found.values()))) for found in scores if len(found) >= 2]
    middle = float(np.median([spread for spread in spreads if spread > 0] or [0.0]))
    if middle == 0:
        raise ConfigError(
            f"training.loss {loss}: the teacher gives all passages of a query the same score",
            "choose another teacher.model, or training.loss=mnrl",
        )
    if apart := _spread_of_teacher(examples):
        # A model says how sure it is by the temperature that it was trained at, as the student does by its own.
        own = 1 / scale_of_cosines(apart)
        return own, [
            f"Teacher temperature {own:.3g}, chosen from the teacher: its cosines between unrelated texts spread by "
            f"{apart:.3g}."
        ]
    return middle / 2, [
        f"Teacher temperature {middle / 2:.3g}, half the middle spread ({middle:.3g}) of its scores for one query."
    ]


def _spread_of_teacher(examples: Path) -> float:
    """Of cosines between unrelated texts, where an embedding model scored the rows; else 0."""
    path = examples.with_name("teacher.json")
    record = read_json(path) if path.exists() else {}
    return float(record.get(SPREAD) or 0) if record.get("kind") == EMBEDDER else 0.0


def _mechanics(config: Config, shape: Shape, loss: str, device: str) -> list[str]:
    """What a batch, a number format or a similarity really comes to here."""
    settings, notes = config.training, []
    size = settings.batch_size * settings.accumulate
    if shape.pairs < size:
        more = f" and training.accumulate {settings.accumulate}" if settings.accumulate > 1 else ""
        notes.append(
            f"training.batch_size is {settings.batch_size}{more}, there are {shape.pairs} pairs: every step sees all "
            "of them."
        )
    exact = loss in SUMS
    if loss in TAUGHT:
        exact = not settings.contrastive_share and shape.scored == shape.queries
    if settings.accumulate > 1 and not exact:
        why = "each sees the negatives of its own batch alone" if loss in IN_BATCH else "it looks at a batch as a whole"
        cure = "training.gradient_cache with the large batch_size is, at the same memory."
        if settings.method == "query":
            cure = "The large batch_size is, which a query layer has the memory for."
        notes.append(
            f"training.accumulate adds up {settings.accumulate} batches of {settings.batch_size}; with the loss {loss} "
            f"that is not one batch of {settings.accumulate * settings.batch_size}: {why}. {cure}"
        )
    if settings.precision == "bf16" and not has_bf16(device):
        notes.append("This device computes bf16 in software, slowly: training.precision=auto takes what it does fast.")
    if settings.similarity == "dot":
        notes.append("The loss compares by inner product; search and evaluation here compare by cosine.")
    return notes
