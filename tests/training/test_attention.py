"""Attention in training on a processor: the same vectors, and gradients as near to the truth as torch's own."""

from __future__ import annotations

import pytest
import torch

from fieldtune.training.attention import products_backward

attention = torch.nn.functional.scaled_dot_product_attention


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


@pytest.mark.parametrize("length", [1, 7, 40])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("scale", [None, 0.5])
def test_in_full_precision_it_is_the_same(length: int, masked: bool, scale: float | None) -> None:
    parts, mask, gradient = inputs(length, torch.float32)
    settings = {"attn_mask": mask if masked else None, "scale": scale}
    right = attention(*parts, **settings)
    with products_backward():
        found = attention(*parts, **settings)
    assert ours(found)
    torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(gradients(parts, found, gradient), gradients(parts, right, gradient), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("length", [12, 90, 300])
def test_in_16_bits_it_is_as_near_to_the_truth_as_torchs_own(length: int) -> None:
    parts, mask, gradient = inputs(length, torch.bfloat16)
    exact = [part.detach().double().requires_grad_() for part in parts]
    truth = gradients(exact, attention(*exact, attn_mask=mask), gradient)
    own = gradients(parts, attention(*parts, attn_mask=mask), gradient)
    with products_backward():
        found = gradients(parts, attention(*parts, attn_mask=mask), gradient)
    for mine, theirs, right in zip(found, own, truth, strict=True):
        assert (mine - right).norm() <= 2 * (theirs - right).norm() + 1e-3 * right.norm()
        assert (mine - right).norm() <= 0.03 * right.norm()


def test_under_autocast_it_computes_in_16_bits() -> None:
    parts, mask, _ = inputs(9, torch.float32)
    with products_backward(), torch.autocast("cpu", torch.bfloat16):
        found = attention(*parts, attn_mask=mask)
    assert found.dtype == torch.bfloat16
    assert torch.autograd.grad(found.float().sum(), parts)[0].dtype == torch.float32


@pytest.mark.parametrize("settings", [{"is_causal": True}, {"dropout_p": 0.3}])
def test_what_it_cannot_do_takes_torchs_own_way(settings: dict[str, object]) -> None:
    parts, _, gradient = inputs(11, torch.float32)
    torch.manual_seed(3)
    right = attention(*parts, **settings)
    torch.manual_seed(3)
    with products_backward():
        found = attention(*parts, **settings)
    assert torch.equal(found, right)
    assert (
        "Attention" not in type(found.grad_fn).__name__ or type(found.grad_fn).__name__ == type(right.grad_fn).__name__
    )
    for mine, theirs in zip(gradients(parts, found, gradient), gradients(parts, right, gradient), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_without_gradients_and_outside_nothing_changes() -> None:
    parts, mask, _ = inputs(11, torch.float32)
    with products_backward(), torch.no_grad():
        assert attention(*parts, attn_mask=mask).grad_fn is None
    assert not ours(attention(*parts, attn_mask=mask))


def test_a_text_of_padding_alone_gives_numbers() -> None:
    parts, mask, gradient = inputs(8, torch.float32)
    mask = mask.clone()
    mask[2] = False
    with products_backward():
        found = attention(*parts, attn_mask=mask)
    assert all(torch.isfinite(part).all() for part in gradients(parts, found, gradient))
