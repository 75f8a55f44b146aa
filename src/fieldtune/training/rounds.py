"""Several trainings one after the other, each on negatives that the model of the one before finds hard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fieldtune.config import Training
from fieldtune.dataset import read_examples, write_examples
from fieldtune.disk import room_to_write
from fieldtune.encoding import Encoder
from fieldtune.training.checkpoint import Progressed, load_weights
from fieldtune.training.development import Development
from fieldtune.training.loop import Hooks, of_one, train
from fieldtune.training.pairs import Pairs, make_pairs
from fieldtune.training.recipe import Recipe
from fieldtune.types import Example
from fieldtune.workspace import digest, file_digest

Mine = Callable[[Encoder, int, Path], list[Example]]
"""(the tuned encoder under a fingerprint of its weights, number of the round, folder for its vectors) -> rows."""


def train_in_rounds(
    encoder: Encoder,
    pairs: Pairs,
    recipe: Recipe,
    development: Development | None,
    work: Path,
    key: str,
    rounds: int,
    mine: Mine,
    hooks: Hooks | None = None,
    paired: Callable[[list[Example]], Pairs] = make_pairs,
) -> Progressed:
    """Divide epochs and evaluations among `rounds` trainings, each with its own rise and fall of the rate.

    The first trains on `pairs`; before each other one `mine` gives new rows, found with the best weights so far (after
    ANCE, arXiv:2007.00808, which mines while it trains). A round that ends below the best before it is undone. Each
    round keeps its state in a folder below `work`, so a killed run repeats no finished round and no mining, and ends as
    an undisturbed one. Leaves the best weights in the encoder; `key` and errors as in `train`. `paired` numbers the
    texts of new rows.
    """
    if rounds == 1:
        return train(encoder, pairs, recipe, development, work, key, hooks)
    total = Progressed()
    best = work / "round-1" / "best.pt"
    for number in range(1, rounds + 1):
        folder = work / f"round-{number}"
        if number > 1:
            pairs = paired(read_examples(_mined(encoder, best, folder, key, number, mine)))
        settings = _share(recipe.settings, rounds, total.step)
        seeded = replace(recipe, settings=settings, seed=recipe.seed + number - 1)
        own = of_one(hooks or Hooks(), total.step, first=number == 1, round=number)
        state = train(encoder, pairs, seeded, development, folder, f"{key}-{number}", own)
        better = number == 1 or development is None or state.best_score > total.best_score
        total = _together(total, state, number, better)
        if better:
            best = folder / "best.pt"
        else:
            load_weights(best, encoder.model)
    return total


def _share(settings: Training, rounds: int, done: int) -> Training:
    """The settings of one round of several, `done` steps having been taken before it."""
    waits = max(0, settings.m3.self_distillation_from - done)  # counted through all rounds
    return settings.model_copy(
        update={
            "epochs": settings.epochs / rounds,
            "evaluations": max(1, settings.evaluations // rounds),
            "m3": settings.m3.model_copy(update={"self_distillation_from": waits}),
        }
    )


def _mined(encoder: Encoder, weights: Path, folder: Path, key: str, number: int, mine: Mine) -> Path:
    """The file of this round's rows, written once; its name says what it was made with."""
    made_with = file_digest(weights)
    path = folder / f"train-{digest([key, number, made_with])}.jsonl"
    if not path.exists():
        # The encoder's own fingerprint is that of the base model: vectors kept under it are not these weights'.
        tuned = Encoder(
            encoder.model,
            name=f"{encoder.name}, tuned",
            fingerprint=digest([encoder.fingerprint, made_with]),
            precision=encoder.precision,
        )
        with room_to_write(folder, "the rows mined anew"):
            write_examples(path, mine(tuned, number, folder / "vectors"))
    return path


def _together(total: Progressed, state: Progressed, number: int, better: bool) -> Progressed:
    """The account of all rounds so far, with steps counted through."""
    rows: list[dict[str, Any]] = [
        row | {"step": row["step"] + total.step, "round": number} for row in state.log if row["step"] or number == 1
    ]
    return Progressed(
        step=total.step + state.step,
        best_step=total.step + state.best_step if better else total.best_step,
        best_score=state.best_score if better else total.best_score,
        base_score=state.base_score if number == 1 else total.base_score,
        seconds=total.seconds + state.seconds,
        idle=total.idle + state.idle,
        collapsed_at=total.collapsed_at or (state.collapsed_at and total.step + state.collapsed_at),
        trainable=state.trainable,
        log=[*total.log, *rows],
        notes=[*total.notes, *(note for note in state.notes if note not in total.notes)],
    )
