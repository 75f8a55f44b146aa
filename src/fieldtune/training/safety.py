"""Whether a trained model is one: saved as it is, other than its base, and not the same vector for every text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.config import Training
from fieldtune.disk import room_to_write
from fieldtune.encoding import Encoder
from fieldtune.errors import ModelError
from fieldtune.training.checkpoint import Progressed
from fieldtune.training.development import Development
from fieldtune.training.losses.choice import OWN
from fieldtune.training.pairs import Pairs
from fieldtune.workspace import atomic_folder

_SAME = 0.9999  # least cosine between the trained model's vectors and those of the saved folder
# Largest difference in a number of a unit vector that is no sign of learning. A query layer normalises once more, what
# is merged or averaged is multiplied and divided: last bits (up to 6e-8 each) change where nothing was learned. Five
# steps at a learning rate of 1e-7 change two hundred times as much.
_ROUNDING = 1e-6
_ALIKE = 0.995  # mean cosine between different texts from which a model tells them apart no longer


@dataclass(frozen=True, slots=True)
class Probe:
    """A few texts of either side, to compare models by."""

    queries: list[str]
    passages: list[str]

    @classmethod
    def of(cls, pairs: Pairs, count: int = 16) -> Probe:
        return cls(pairs.queries[:count], pairs.passages[:count])

    def vectors(self, encoder: Encoder) -> NDArray[np.float32]:
        return np.concatenate([encoder.encode(self.queries, "query"), encoder.encode(self.passages, "passage")])


def save_checked(
    encoder: Encoder,
    folder: Path,
    probe: Probe,
    vectors: NDArray[np.float32],
    complete: Callable[[Path], None] | None = None,
    *,
    trust: bool = False,
) -> float:
    """Save atomically, and only after the saved folder, loaded afresh, gives the trained model's `vectors`.

    `complete` adds to the folder what the model itself does not save; with `trust` the base's own code may run, which
    lies in the folder too. Returns the least cosine. Raises ModelError when `vectors` are no numbers, the folder gives
    others, or the disk is full: what was in its place before stays.
    """
    import torch
    from transformers.utils import logging

    if not np.isfinite(vectors).all():
        raise ModelError(
            "the trained model gives vectors that are no numbers",
            "lower training.learning_rate, or set training.precision=fp32",
        )
    logging.disable_progress_bar()
    with room_to_write(folder.parent, "the model"), atomic_folder(folder) as temporary, torch.inference_mode():
        encoder.model.save(str(temporary))
        if complete is not None:
            complete(temporary)
        saved = probe.vectors(Encoder.load(str(temporary), precision=encoder.precision, trust=trust))
        cosine = float(np.einsum("ij,ij->i", saved, vectors).min())
        if not cosine >= _SAME:  # nor is it where the folder gives no numbers
            raise ModelError(
                f"the saved model gives other vectors than the trained one (cosine {cosine:.5f})",
                "this is a bug in saving or in the model's own code; the model was not kept",
            )
    return cosine


def collapsed(vectors: NDArray[np.float32]) -> bool:
    """Whether unit vectors (n, dim) of different texts are all alike."""
    distinct = len(vectors)
    if distinct < 3:
        return False
    total = vectors.sum(axis=0, dtype=np.float64)
    among = (float(total @ total) - distinct) / (distinct * (distinct - 1))  # mean cosine of two different ones
    return among >= _ALIKE


def require_learning(state: Progressed, settings: Training, loss: str) -> None:
    """Raise ModelError when the `loss` was exactly 0 at every step: weight decay alone moved the weights."""
    if state.idle and state.idle == state.step:
        cures = [
            "see that the rows have wrong passages to tell from right ones (negatives.per_query, "
            "training.hard_negatives of 1 or more, queries on other passages)"
        ]
        if loss in OWN:
            cures.append(f"raise training.margin ({settings.margin:g})")
        if loss == "guided":  # what the guide finds more similar than the pair less this is left out
            cures.append(f"lower training.guide_margin ({settings.guide_margin:g})")
        if loss != "mnrl":
            cures.append("choose another training.loss, such as mnrl")
        raise ModelError(
            f"training learned nothing: the loss was 0 at every one of the {state.step:,} steps", "; or ".join(cures)
        )


def require_change(before: NDArray[np.float32], after: NDArray[np.float32]) -> None:
    """Raise ModelError when training left the unit vectors (n, dim) of the base model as they were."""
    if float(np.abs(before - after).max()) <= _ROUNDING:
        raise ModelError(
            "training changed nothing: the vectors are those of the base model",
            "raise training.learning_rate or training.epochs, and see that not everything is frozen",
        )


def verdict(
    state: Progressed,
    saved: float,
    development: Development | None,
    before: NDArray[np.float32],
    after: NDArray[np.float32],
) -> list[str]:
    """What went wrong without stopping the run, and what to try.

    `saved` is the dev measure of what is saved; with a share of the base model's weights in it, it is another than that
    of the best step.
    """
    notes = []
    errors = {int(row["step"]): row["dev_error"] for row in state.log if "dev_error" in row}
    if development is not None and errors:
        notes.append(development.about(errors.get(state.best_step, errors[max(errors)])))
    if development is not None and saved <= state.base_score:
        with_base = f", {saved:.4f} with the base model's share in it" if saved != state.best_score else ""
        cure = "Look at the data first; then try a lower training.learning_rate, mined negatives, or more queries."
        if state.best_score > state.base_score:
            cure = "Try a smaller training.base_share, or 0."
        notes.append(
            f"No gain on dev: {development.label} {state.base_score:.4f} before, {state.best_score:.4f} at the best "
            f"step{with_base}. {cure}"
        )
    elif development is not None and state.best_score <= state.base_score:
        notes.append(
            f"The gain on dev is the mean's with the base model's weights: {development.label} {state.base_score:.4f} "
            f"before, {state.best_score:.4f} at the best step, {saved:.4f} with training.base_share. A lower "
            "training.learning_rate may gain more."
        )
    if collapsed(after) and not collapsed(before):
        notes.append(
            "The model has collapsed: all vectors are alike. Lower training.learning_rate, raise training.batch_size, "
            "or choose a loss with more negatives (mnrl)."
        )
    elif state.collapsed_at:
        notes.append(
            f"At step {state.collapsed_at:,} all vectors were alike; the kept weights are of step {state.best_step:,}. "
            "Lower training.learning_rate."
        )
    return notes
