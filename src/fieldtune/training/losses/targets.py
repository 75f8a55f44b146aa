"""What a batch wants, as tensors on the model's device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fieldtune.training.batches import Batch

if TYPE_CHECKING:
    import torch

    Loss = Callable[[torch.Tensor, torch.Tensor, "Targets"], torch.Tensor]
    """(queries (b, dim), passages (p, dim), targets) -> scalar; an inner product is the similarity."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Of b queries and p distinct passages."""

    labels: torch.Tensor
    """(b,) the column of each query's positive."""
    masked: torch.Tensor
    """(b, p) bool: passages that must not count as wrong for the query; never its own label."""
    own: torch.Tensor
    """(b, k) columns of the query's own passages, the positive first, then what was drawn for it; -1 for none."""
    scores: torch.Tensor
    """(b, k) float32: scores of these, a teacher's or given; NaN for none."""
    guide_queries: torch.Tensor | None = None
    """(b, g) float32: the fixed vectors of a guide or teacher."""
    guide_passages: torch.Tensor | None = None
    """(p, g)"""

    def alike(self) -> torch.Tensor:
        """(b, b) bool: whether the positive of the column's query answers the row's query too, or is the same."""
        known = self.masked[:, self.labels]
        same: torch.Tensor = known | (self.labels[:, None] == self.labels[None, :])
        return same

    def taught(self) -> torch.Tensor:
        """(b,) bool: whether the query's positive and another of its passages have scores."""
        there = (self.own >= 0) & ~self.scores.isnan()
        return there[:, 0] & there[:, 1:].any(dim=1)

    def of(self, queries: torch.Tensor) -> Targets:
        """Those of some of the queries, (b,) bool, over the same passages."""
        guide = self.guide_queries
        return Targets(
            self.labels[queries],
            self.masked[queries],
            self.own[queries],
            self.scores[queries],
            None if guide is None else guide[queries],
            self.guide_passages,
        )


def to_targets(
    batch: Batch,
    device: torch.device,
    guide: tuple[torch.Tensor, torch.Tensor] | tuple[None, None] = (None, None),
) -> Targets:
    import torch

    def moved(array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    return Targets(moved(batch.labels), moved(batch.masked), moved(batch.own), moved(batch.scores), *guide)


def own_pairs(targets: Targets) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Every (query, own passage) of the batch: rows, columns, and whether it is the positive."""
    import torch

    row, place = torch.nonzero(targets.own >= 0, as_tuple=True)
    return row, targets.own[row, place], place == 0
