"""The whole loss of a batch: three scores and their ensemble, a teacher, and the ensemble as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fieldtune.encoding.m3 import Signals, scores
from fieldtune.training.losses.targets import Targets
from fieldtune.training.m3.losses import (
    allowed_passages,
    contrastive,
    kl_div,
    m3_kd_loss,
    scored_queries,
    self_distillation,
)
from fieldtune.training.recipe import Recipe

if TYPE_CHECKING:
    import torch

    from fieldtune.config import M3


@dataclass(frozen=True, slots=True)
class M3Objective:
    """What is minimised, every number decided."""

    settings: M3
    scale: float
    """1/temperature of every score."""
    dimensions: tuple[int, ...]
    """Of the dense vector; its loss is the mean over them. The ensemble has the full one."""
    dimension_weights: tuple[float, ...] = ()
    taught: bool = False
    teacher_temperature: float = 1.0
    contrastive_share: float = 0.0
    """Of the contrastive loss beside the teacher's."""

    def loss(self, queries: Signals, passages: Signals, targets: Targets, step: int) -> torch.Tensor:
        """The mean over the queries; `step` counts optimizer steps from 0.

        (L_dense + L_ensemble + 0.1 L_sparse + L_multi) / 4, and, from `self_distillation_from` on, the mean of that
        and of (D_dense + 0.1 D_sparse + D_multi) / 3.
        """
        found = scores(queries, passages)
        allowed = allowed_passages(targets, in_batch=self.settings.in_batch)
        ensemble = found.ensemble(self.settings.weights) * self.scale
        dense, sparse, multi = (one * self.scale for one in (found.dense, found.sparse, found.multi))
        share = self.settings.sparse_share
        total = (
            self._of_dense(queries, passages, targets, allowed, dense)
            + self._one(ensemble, targets, allowed)
            + share * self._one(sparse, targets, allowed)
            + self._one(multi, targets, allowed)
        ) / 4
        if not self.settings.self_distillation or step < self.settings.self_distillation_from:
            return total
        own = (
            self_distillation(dense, ensemble, allowed)
            + share * self_distillation(sparse, ensemble, allowed)
            + self_distillation(multi, ensemble, allowed)
        ) / 3
        return (total + own) / 2

    def _one(self, scaled: torch.Tensor, targets: Targets, allowed: torch.Tensor) -> torch.Tensor:
        """The loss of one matrix of scores."""
        if not self.taught:
            return contrastive(scaled, targets.labels, allowed)
        if self.settings.distillation == "kl_div":
            taught = kl_div(scaled, targets, teacher_temperature=self.teacher_temperature)
        else:
            taught = m3_kd_loss(scaled, targets, allowed, teacher_temperature=self.teacher_temperature)
        # Queries without scores have no teacher: the contrastive loss is all of theirs.
        some = scored_queries(targets)
        known = float(some.float().mean())
        total = known * (1 - self.contrastive_share) * taught
        if known and self.contrastive_share:
            total += known * self.contrastive_share * contrastive(scaled[some], targets.labels[some], allowed[some])
        if known < 1:
            total += (1 - known) * contrastive(scaled[~some], targets.labels[~some], allowed[~some])
        return total

    def _of_dense(
        self, queries: Signals, passages: Signals, targets: Targets, allowed: torch.Tensor, full: torch.Tensor
    ) -> torch.Tensor:
        """The dense loss at each size, the cut vectors brought to unit length (Matryoshka, arXiv:2205.13147)."""
        import torch
        from torch.nn.functional import normalize

        width = queries.dense.shape[1]
        values = []
        for size in self.dimensions:
            scaled = full
            if size < width:
                left, right = (normalize(side.dense[:, :size], dim=-1) for side in (queries, passages))
                scaled = left @ right.T * self.scale
            values.append(self._one(scaled, targets, allowed))
        shares = torch.tensor(self.dimension_weights or [1.0] * len(values), device=full.device, dtype=full.dtype)
        return (torch.stack(values) * shares).sum() / shares.sum()


def make_m3_objective(recipe: Recipe, dimensions: Sequence[int] | None = None) -> M3Objective:
    """The objective of a recipe whose loss is mnrl or, with a teacher's scores, kl."""
    settings = recipe.settings
    return M3Objective(
        settings.m3,
        recipe.scale,
        tuple(recipe.dimensions if dimensions is None else dimensions),
        recipe.weights if dimensions is None else (),
        recipe.loss == "kl",
        recipe.teacher_temperature,
        settings.contrastive_share,
    )
