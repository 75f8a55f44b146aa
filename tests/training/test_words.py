"""The gradient of word vectors, put in place row by row, is the one that torch makes of the whole table."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fieldtune.encoding import Encoder
from fieldtune.training.processor import _mode, fast_passes


def passes(table: torch.nn.Embedding, *, fast: bool) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """Outputs of three passes that share words, among them padding, and the gradient they leave."""
    table.zero_grad(set_to_none=True)
    made = torch.Generator().manual_seed(2)
    outputs = []
    for _ in range(3):
        ids = torch.randint(0, 40, (4, 9), generator=made)
        ids[:, 7:] = 0
        if fast:
            with _mode()(True):
                out = table(ids)
        else:
            out = table(ids)
        outputs.append(out.detach())
        if out.requires_grad:
            (out * torch.randn(out.shape, generator=made)).sum().backward()
    return outputs, table.weight.grad


@pytest.mark.parametrize("padding", [0, None, -1_200])
def test_vectors_and_gradient_are_those_of_torch(padding: int | None) -> None:
    torch.manual_seed(1)
    table = torch.nn.Embedding(1_200, 16, padding_idx=padding)
    right, expected = passes(table, fast=False)
    found, gradient = passes(table, fast=True)
    assert expected is not None
    assert gradient is not None
    assert all(torch.equal(one, other) for one, other in zip(found, right, strict=True))
    torch.testing.assert_close(gradient, expected)
    assert bool(gradient[0].abs().sum() > 0) == (padding is None)


@pytest.mark.parametrize(
    ("rows", "settings"), [(900, {}), (1_200, {"max_norm": 1.0}), (1_200, {"scale_grad_by_freq": True})]
)
def test_other_tables_are_left_to_torch(rows: int, settings: dict[str, Any]) -> None:
    table = torch.nn.Embedding(rows, 16, **settings)
    with _mode()(True):
        out = table(torch.tensor([1, 2]))
    assert type(out.grad_fn).__name__ == "EmbeddingBackward0"


def test_frozen_words_get_no_gradient() -> None:
    table = torch.nn.Embedding(1_200, 16).requires_grad_(False)
    outputs, gradient = passes(table, fast=True)
    assert not outputs[0].requires_grad
    assert gradient is None


def test_weights_in_parts_keep_torchs_way(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder.load(tiny_model, precision="fp32")
    assert getattr(fast_passes(encoder), "words", None) is True
    next(encoder.model.parameters()).placements = ()  # as FSDP's weights have them
    assert getattr(fast_passes(encoder), "words", None) is False
