"""Sampling of masks by PyTorch's own operation, beside the core's."""

from __future__ import annotations

from typing import Any

import pytest

import hungarian_core as hc
from hungarian_core.masks.points import sample_by_gathering

torch = pytest.importorskip("torch", reason="the hook is that of its adapter")
BACKEND: Any = hc.get_backend("torch")


def _inputs(*points: int) -> tuple[Any, Any]:
    """Return masks and points, some of them beyond every edge."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=generator)
    at = torch.rand(*points, 40, 2, dtype=torch.float64, generator=generator) * 1.6 - 0.3
    return masks.requires_grad_(), at.requires_grad_()


@pytest.mark.parametrize("axes", [(2,), (1,), ()], ids=str)
def test_as_the_core_samples(axes: tuple[int, ...]) -> None:
    """Values and gradients, of points far outside, infinite and NaN too."""
    masks, points = _inputs(*axes)
    with torch.no_grad():
        points[..., 0, :] = torch.tensor([1e30, 0.5])
        points[..., 1, :] = torch.tensor([torch.inf, 0.5])
        points[..., 2, :] = torch.tensor([0.5, torch.nan])
        points[..., 3, :] = torch.tensor([-torch.inf, torch.nan])
    found = BACKEND.sample_masks(masks, points, mode="bilinear")
    expected = sample_by_gathering(masks, points, "bilinear", BACKEND)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert (found[..., :4] == 0).all()
    upstream = torch.linspace(1, 3, found.numel(), dtype=found.dtype).reshape(found.shape)
    slopes = [torch.autograd.grad(x, (masks, points), upstream) for x in (found, expected)]
    for ours, theirs in zip(*slopes, strict=True):
        torch.testing.assert_close(ours[..., 4:, :], theirs[..., 4:, :], rtol=0, atol=1e-12)
        assert ours.isfinite().all()


def test_second_derivatives() -> None:
    """PyTorch's operation has none; those of the core stand in."""
    masks, points = _inputs(2)
    inputs = masks, points[:, :4].detach().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda m, p: hc.masks.sample(m, p), inputs)
    for wanted in inputs:
        held = [x if x is wanted else x.detach() for x in inputs]
        (slope,) = torch.autograd.grad(
            (hc.masks.sample(*held) ** 2).sum(), wanted, create_graph=True
        )
        assert torch.autograd.grad(slope.sum(), wanted)[0].abs().sum() > 0


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_what_is_declined() -> None:
    """The nearest pixel, infinite pixels, masks that would be copied, nothing, transforms."""
    masks, points = (x.detach() for x in _inputs(2))
    assert BACKEND.sample_masks(masks, points, mode="bilinear") is not None
    assert BACKEND.sample_masks(masks > 0, points, mode="bilinear").dtype == torch.float64
    assert BACKEND.sample_masks(masks, points, mode="nearest") is None
    assert BACKEND.sample_masks(masks[:1], points, mode="bilinear") is None
    assert BACKEND.sample_masks(masks, points[:, :0], mode="bilinear") is None
    assert BACKEND.sample_masks(masks * torch.inf, points, mode="bilinear") is None
    one, at = masks[0], points[0]
    expected = sample_by_gathering(masks, points, "bilinear", BACKEND)
    torch.testing.assert_close(torch.func.vmap(hc.masks.sample)(masks, points), expected)
    _, slope = torch.func.jvp(lambda m: hc.masks.sample(m, at), (one,), (one,))
    torch.testing.assert_close(slope, expected[0])
