"""What a task of pre-training is: modules to train, and a loss over tokens that are to be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch.nn import Module

_LOGITS = 2**24  # numbers in the logits of one pass, 64 MB; of more tokens than fit, some are drawn


@dataclass(frozen=True, slots=True)
class Task:
    """One way to learn from passages alone."""

    encoder: Module
    modules: Module
    """Encoder and head, which are trained together."""
    loss: Callable[[NDArray[np.int64], np.random.Generator], tuple[torch.Tensor, int]]
    """(rows of passages, random numbers) -> (mean loss over the tokens to be found, how many those are)."""
    fresh: bool
    """Whether the head was made for this and is no part of the base model."""


def special_tokens(model: Any) -> NDArray[np.int64]:
    """Ids that stand for no text: padding, beginning, end, unknown."""
    return np.array(sorted(model.tokenizer.all_special_ids), np.int64)


def find_loss(
    states: torch.Tensor, targets: torch.Tensor, output: Module, words: int, rng: np.random.Generator
) -> tuple[torch.Tensor, int]:
    """Mean cross-entropy of the targets (n,) given states (n, hidden), and of how many tokens it is the mean.

    With a vocabulary of 250,000 the logits of all tokens would not fit in memory: the mean over a draw has the same
    expectation.
    """
    import torch

    most = max(64, _LOGITS // words)
    if len(targets) > most:
        some = torch.from_numpy(np.sort(rng.permutation(len(targets))[:most])).to(states.device)
        states, targets = states[some], targets[some]
    if not len(targets):
        return states.sum() * 0.0, 0
    return torch.nn.functional.cross_entropy(output(states).float(), targets), len(targets)
