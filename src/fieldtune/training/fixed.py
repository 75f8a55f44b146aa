"""Vectors of a model that is not trained, row by row those of the training texts: a guide's or a teacher's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class FixedVectors:
    queries: NDArray[np.float32]
    """(queries of the pairs, dim), may be memory-mapped."""
    passages: NDArray[np.float32]
    """(passages of the pairs, dim), may be memory-mapped."""

    @property
    def dimension(self) -> int:
        return int(self.queries.shape[1])

    def rows(
        self, queries: NDArray[np.int64], passages: NDArray[np.int64], device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The vectors of a batch's texts, float32."""
        import torch

        left, right = (np.asarray(part, np.float32) for part in (self.queries[queries], self.passages[passages]))
        return torch.from_numpy(left).to(device), torch.from_numpy(right).to(device)
