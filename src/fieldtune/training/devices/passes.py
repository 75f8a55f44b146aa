"""Each process' part of a batch, and the whole of it put together again.

Every process computes the loss of the whole batch on the gathered vectors, and sends its gradient back through the
texts that it encoded itself. So a loss is the same function of the batch on any number of processes, whatever it
compares with what, known positives are masked across processes, and no gradient has to travel but that of the weights,
which is a plain sum. The price is the loss' own arithmetic in each process: little beside that of the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    Backward = Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor], bool], None]
    """(outputs of a pass, their gradients, whether it is the batch's last pass)."""


def plain_backward(outputs: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor], last: bool) -> None:
    """Add what the outputs' gradients mean for the parameters to theirs."""
    import torch

    torch.autograd.backward(list(outputs), list(gradients))


@dataclass(frozen=True, slots=True)
class Passes:
    """Which texts of a batch go through the model in this process, and how gradients go back."""

    rank: int = 0
    size: int = 1
    equal: bool = False
    """Whether all processes have to make the same number of passes: each one brings sharded weights together."""
    backward: Backward = plain_backward

    def shares(self, lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Places of each process' texts, every text in one of them, long and short ones dealt out evenly."""
        order = np.argsort(-lengths, kind="stable").astype(np.int64)
        return [np.sort(order[rank :: self.size]) for rank in range(self.size)]

    def idle(self, counts: Sequence[int]) -> int:
        """Passes without use that this process adds to its own; `counts` are those that each process needs."""
        return max(counts) - counts[self.rank] if self.equal else 0

    def gathered(self, own: torch.Tensor, counts: Sequence[int]) -> list[torch.Tensor]:
        """Every process' rows, without gradient; `own` (counts[rank], ...) are this one's."""
        if self.size == 1:
            return [own]
        from torch import distributed

        padded = own.new_zeros((max(counts), *own.shape[1:]))
        padded[: len(own)] = own
        parts = [padded.new_empty(padded.shape) for _ in counts]
        distributed.all_gather(parts, padded)
        return [part[:count] for part, count in zip(parts, counts, strict=True)]

    def whole(self, own: torch.Tensor, shares: Sequence[NDArray[np.int64]]) -> torch.Tensor:
        """The rows of the whole batch in its order, this process having those of its share."""
        import torch

        rows = torch.cat(self.gathered(own, [len(share) for share in shares]))
        return rows[torch.from_numpy(np.argsort(np.concatenate(shares))).to(rows.device)]


ALONE = Passes()
