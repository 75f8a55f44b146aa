"""Attention in training on a processor: the same vectors, and gradients as near to the truth as torch's own."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch

from fieldtune.training import attention as ways
from fieldtune.training.processor import _mode

attention = torch.nn.functional.scaled_dot_product_attention


def fast() -> AbstractContextManager[Any]:
    mode: AbstractContextManager[Any] = _mode()(True)
    return mode


def inputs(length: int, dtype: torch.dtype, seed: int = 1) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Query, key, value; a mask that hides the ends of two of three texts; a gradient for what comes out."""
    made = torch.Generator().manual_seed(seed)
    parts = [(torch.randn(3, 4, length, 16, generator=made) * 2).to(dtype).requires_grad_() for _ in range(3)]
    lengths = torch.tensor([length, max(1, length // 2), 1])
    mask = (torch.arange(length) < lengths[:, None])[:, None, None, :].expand(3, 1, length, length)
    return parts, mask, torch.randn(3, 4, length, 16, generator=made).to(dtype)


def ours(out: torch.Tensor) -> bool:
    return out.grad_fn is not None and type(out.grad_fn).__name__ == "AttentionBackward"


def gradients(parts: list[torch.Tensor], out: torch.Tensor, gradient: torch.Tensor) -> list[torch.Tensor]:
    return [found.double() for found in torch.autograd.grad(out, parts, gradient.to(out.dtype))]


def plainly(parts: list[torch.Tensor], mask: torch.Tensor | None, scale: float | None = None) -> torch.Tensor:
    """Whatever the format: calls in 32 bits take torch's own way otherwise, and show best what is right."""
    added = ways._added(mask, parts[0].dtype)
    found: torch.Tensor = ways._step().apply(*parts, added, scale or parts[0].shape[-1] ** -0.5)
    return found


@pytest.mark.parametrize("length", [1, 7, 40, 64])
@pytest.mark.parametrize("masked", ["", "ends", "ends, not expanded", "each row", "each head"])
@pytest.mark.parametrize("together", [1, 5_000, 1 << 19])
@pytest.mark.parametrize("kept", [0, 256])
def test_in_full_precision_it_is_the_same(
    length: int, masked: str, together: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many heads are computed together, whatever the mask, weights kept or computed again."""
    monkeypatch.setattr(ways, "_TOGETHER", together)
    monkeypatch.setattr(ways, "_KEPT_TO", kept)
    parts, mask, gradient = inputs(length, torch.float32)
    if masked == "ends, not expanded":
        mask = mask.contiguous()
    if masked in ("each row", "each head"):  # a window around each token; of each head another one
        apart = (torch.arange(length)[:, None] - torch.arange(length)).abs()
        widths = torch.arange(1, 5 if masked == "each head" else 2)[:, None, None]
        mask = mask & (apart < 3 * widths)[None] | torch.eye(length, dtype=torch.bool)
    given = mask if masked else None
    for scale in (None, 0.5):
        right = attention(*parts, attn_mask=given, scale=scale)
        found = plainly(parts, given, scale)
        assert ours(found)
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-5)
        for mine, theirs in zip(gradients(parts, found, gradient), gradients(parts, right, gradient), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_numbers_to_add_are_a_mask_too() -> None:
    parts, mask, _ = inputs(9, torch.float32)
    numbers = torch.zeros(mask.shape).masked_fill_(~mask, -1e4)
    torch.testing.assert_close(plainly(parts, numbers), attention(*parts, attn_mask=mask), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [12, 90, 300])
def test_in_16_bits_it_is_nearly_as_near_to_the_truth_as_torchs_own(length: int) -> None:
    """Similarities are rounded to 16 bits here, and up to 16 in these texts: an error of up to 3% in a weight."""
    parts, mask, gradient = inputs(length, torch.bfloat16)
    exact = [part.detach().double().requires_grad_() for part in parts]
    truth = gradients(exact, attention(*exact, attn_mask=mask), gradient)
    own = gradients(parts, attention(*parts, attn_mask=mask), gradient)
    with fast():
        out = attention(*parts, attn_mask=mask)
        found = gradients(parts, out, gradient)
    assert ours(out)
    for mine, theirs, right in zip(found, own, truth, strict=True):
        assert (mine - right).norm() <= 4 * (theirs - right).norm() + 1e-3 * right.norm()
        assert (mine - right).norm() <= 0.03 * right.norm()


@pytest.mark.parametrize("length", [40, 300])
def test_weights_computed_again_are_the_same_to_the_last_bit(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, mask, gradient = inputs(length, torch.bfloat16)
    found = []
    for kept in (0, 1_000):
        monkeypatch.setattr(ways, "_KEPT_TO", kept)
        found.append(gradients(parts, plainly(parts, mask), gradient))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_under_autocast_it_computes_in_16_bits() -> None:
    parts, mask, _ = inputs(9, torch.float32)
    with fast(), torch.autocast("cpu", torch.bfloat16):
        found = attention(*parts, attn_mask=mask)
    assert found.dtype == torch.bfloat16
    assert torch.autograd.grad(found.float().sum(), parts)[0].dtype == torch.float32


@pytest.mark.parametrize("settings", [{"is_causal": True}, {"dropout_p": 0.3}])
def test_what_it_cannot_do_takes_torchs_own_way(settings: dict[str, object]) -> None:
    parts, _, gradient = inputs(11, torch.float32)
    torch.manual_seed(3)
    right = attention(*parts, **settings)
    torch.manual_seed(3)
    with fast():
        found = attention(*parts, **settings)
    assert torch.equal(found, right)
    assert (
        "Attention" not in type(found.grad_fn).__name__ or type(found.grad_fn).__name__ == type(right.grad_fn).__name__
    )
    for mine, theirs in zip(gradients(parts, found, gradient), gradients(parts, right, gradient), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("length", [11, 64, 300])
def test_without_gradients_it_gives_the_same_to_the_bit(length: int) -> None:
    parts, mask, _ = inputs(length, torch.bfloat16)
    with fast():
        learning = attention(*parts, attn_mask=mask)
        with torch.no_grad():
            alone = attention(*parts, attn_mask=mask)
        frozen = attention(*(part.detach() for part in parts), attn_mask=mask)
    assert ours(learning) and alone.grad_fn is None and frozen.grad_fn is None
    assert torch.equal(alone, learning) and torch.equal(frozen, learning)
    assert not torch.equal(alone, attention(*parts, attn_mask=mask))  # torch's own kernel rounds otherwise


@pytest.mark.parametrize("width", [8, 24])
def test_values_of_another_width_take_torchs_own_way(width: int) -> None:
    parts, mask, _ = inputs(11, torch.bfloat16)
    parts[2] = torch.randn(3, 4, 11, width).bfloat16().requires_grad_()
    right = attention(*parts, attn_mask=mask)
    with fast():
        found = attention(*parts, attn_mask=mask)
    assert found.shape == (3, 4, 11, width) and torch.equal(found, right) and not ours(found)


def test_in_32_bits_and_outside_nothing_changes() -> None:
    parts, mask, _ = inputs(11, torch.bfloat16)
    with fast():
        assert ours(attention(*parts, attn_mask=mask))
        assert not ours(attention(*(part.float() for part in parts), attn_mask=mask))
    assert not ours(attention(*parts, attn_mask=mask))


def test_a_text_of_padding_alone_gives_numbers() -> None:
    parts, mask, gradient = inputs(8, torch.bfloat16)
    mask = mask.clone()
    mask[2] = False
    with fast():
        found = attention(*parts, attn_mask=mask)
    assert ours(found)
    assert all(torch.isfinite(part).all() for part in gradients(parts, found, gradient))
