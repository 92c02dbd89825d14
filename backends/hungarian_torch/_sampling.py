"""Masks at points by `grid_sample`, where it gives what the core does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional

from hungarian_core import Backend
from hungarian_core.masks.points import sample_by_gathering
from hungarian_torch import _inputs


def sample(masks: Tensor, points: Tensor, mode: str, backend: Backend) -> Tensor | None:
    """Return masks `[..., K, H, W]` at points `[..., P, 2]`, or None to decline.

    The nearest pixel is the core's, which rounds less. So are programs, which fuse its steps, and
    transforms, which `grid_sample` has no rules for. On an accelerator, to ask whether the result
    is finite would be to wait for it.
    """
    if (
        mode != "bilinear"
        or _inputs.is_symbol(masks)
        or _inputs.is_symbol(points)
        or not (masks.is_cpu and points.is_cpu)
        or forward_ad._current_level >= 0
    ):
        return None
    *batch, count, height, width = masks.shape
    if tuple(torch.broadcast_shapes(batch, points.shape[:-2])) != tuple(batch):
        return None  # the masks would be copied
    if masks.numel() == 0 or points.numel() == 0:
        return None
    # Each mask is an image of its own: of channels, PyTorch samples one after another.
    images = masks.to(points.dtype).reshape(-1, 1, height, width)
    # Far outside, or NaN, is just outside.
    grid = 2 * points.nan_to_num(nan=2.0).clamp(-1, 2) - 1
    grid = grid[..., None, :, :].expand(*batch, count, -1, -1).reshape(len(images), -1, 1, 2)
    found = _Sample.apply(images, grid, backend)
    # Of an infinite pixel without weight it makes NaN.
    return found.reshape(*batch, count, -1) if bool(found.isfinite().all()) else None


class _Sample(torch.autograd.Function):
    """`grid_sample`, whose gradient has a gradient."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor, backend: Backend) -> Tensor:
        ctx.save_for_backward(images, grid)
        ctx.backend = backend
        return functional.grid_sample(images, grid, align_corners=False)[:, 0, :, 0]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        images, grid = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():  # PyTorch has no gradient of this gradient, the core has
            points = (grid[:, :, 0] + 1) / 2
            value = sample_by_gathering(images, points, "bilinear", ctx.backend)[:, 0]
            inputs = [x for x, asked in zip((images, grid), wanted, strict=True) if asked]
            found = iter(torch.autograd.grad(value, inputs, g, create_graph=True))
            by_images, by_grid = (next(found) if asked else None for asked in wanted)
        else:
            by_images, by_grid = torch.ops.aten.grid_sampler_2d_backward(
                g[:, None, :, None], images, grid, 0, 0, False, list(wanted)
            )
        return by_images, by_grid if wanted[1] else None, None
