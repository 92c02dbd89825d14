"""How models compare masks: at all pixels, or at random points, drawn as the models draw them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hungarian_core import masks as measures
from hungarian_core.terms.mask_losses import mask_losses
from hungarian_torch._backend import backend

ALPHA, GAMMA = 0.25, 2.0  # of the focal loss
TILE = 1 << 18  # numbers: what lies between two operations stays in a processor's cache


class Comparison(NamedTuple):
    """Where masks are compared, and by which loss of pixels beside the dice loss.

    Points are drawn from the generator in the order in which the models' own losses draw them, so
    that after the same seed both look at the same points.
    """

    pixels: Literal["focal", "bce"]
    cost_points: int | None = None  # by which masks are matched; None: all pixels
    loss_points: int | None = None
    oversampling: float = 3.0  # how many points are drawn for each that is the least certain
    importance: float = 0.75  # the share of these
    truth_mode: Literal["bilinear", "nearest"] = "bilinear"
    one_for_all: bool = False  # images are matched by the same points
    # What predicted masks are between their outermost pixels and their edges.
    padding: Literal["zeros", "border"] = "zeros"

    @torch.no_grad()
    def costs(
        self, truths: Sequence[Tensor], masks: Tensor, weights: tuple[float, float], size: int
    ) -> Tensor:
        """Return what matching costs, `[B, size, Q]`.

        Args:
            truths: Of each image its true masks, `[n, H, W]`.
            masks: The logits `[B, Q, h, w]`.
            weights: Of the loss of pixels, and of the dice loss.
            size: The number of objects to pad to.
        """
        masks = _wide(masks.detach())
        cost = masks.new_zeros((len(truths), size, masks.shape[1]))
        points = self._drawn(len(truths), masks)
        for image, truth in enumerate(truths):
            if not len(truth):
                continue
            wanted, logits = truth.to(masks), masks[image]
            if points is None:
                wanted = functional.interpolate(
                    wanted[None], size=logits.shape[-2:], mode="nearest"
                )[0]
                wanted, logits = wanted.flatten(1), logits.flatten(1)
            else:
                at = points[image : image + 1]
                wanted, logits = sample(wanted, at, self.truth_mode), sample(logits, at)
            parts = [self._pairwise(wanted, x, weights) for x in _tiles(logits)]
            cost[image, : len(truth)] = torch.cat(parts, dim=1)
        return cost

    def losses(
        self, truths: Sequence[Tensor], masks: Tensor, objects: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the losses of pixels and dice `[P]` of matched masks, and their image and object.

        Args:
            truths: As for `costs`; smaller ones have nothing at their right and lower edges.
            masks: Likewise.
            objects: Of each query the index of its object, or -1, `[B, Q]`.
        """
        image, query = (objects >= 0).nonzero(as_tuple=True)
        chosen, row = _wide(masks[image, query]), objects[image, query]
        height, width = (max(t.shape[axis] for t in truths) for axis in (1, 2))
        parts = row.split((objects >= 0).sum(1).tolist())
        wanted = [
            _padded(t[at].to(chosen), height, width) for t, at in zip(truths, parts, strict=True)
        ]
        if self.loss_points is None:
            size = height, width
            chosen = functional.interpolate(chosen[:, None], size=size, mode="bilinear")
            truth, chosen = torch.cat(wanted).flatten(1), chosen.flatten(1)
        else:
            points = self._uncertain(chosen.detach(), self.loss_points)
            each = points.split([len(t) for t in wanted])
            truth = torch.cat(
                [sample(t, at, self.truth_mode) for t, at in zip(wanted, each, strict=True)]
            )
            chosen = sample(chosen, points, padding=self.padding)
        focal = self.pixels == "focal"
        parts = [
            mask_losses(t, x, focal, ALPHA, GAMMA, 1, backend)
            for t, x in zip(_tiles(truth), _tiles(chosen), strict=True)
        ]
        mask, dice = map(torch.cat, zip(*parts, strict=True))
        return mask, dice, image, row

    def _drawn(self, images: int, like: Tensor) -> Tensor | None:
        """Return the points `[B, P, 2]` by which the masks of images are matched."""
        if self.cost_points is None:
            return None
        draws = 1 if self.one_for_all else images
        size = 1, self.cost_points, 2
        points = torch.cat([torch.rand(size, device=like.device) for _ in range(draws)])
        return points.to(like.dtype).expand(images, -1, -1)

    def _uncertain(self, logits: Tensor, count: int) -> Tensor:
        """Return points `[P, count, 2]`, most of them where a mask is the least certain."""
        size, device = len(logits), logits.device
        drawn = torch.rand((size, int(count * self.oversampling), 2), device=device)
        drawn = drawn.to(logits.dtype)
        chosen = int(self.importance * count)
        certainty = sample(logits, drawn, padding=self.padding).abs()
        at = torch.topk(-certainty, chosen, dim=1).indices
        rest = torch.rand((size, count - chosen, 2), device=device).to(logits.dtype)
        return torch.cat([drawn.gather(1, at[..., None].expand(-1, -1, 2)), rest], dim=1)

    def _pairwise(self, truth: Tensor, logits: Tensor, weights: tuple[float, float]) -> Tensor:
        """Return the costs `[n, Q]` of masks `[n, P]` and `[Q, P]`."""
        options: dict[str, Any] = {"axes": 1, "backend": backend}
        if self.pixels == "bce":
            pixels = measures.pairwise_bce(truth, logits, **options)
        else:
            pixels = measures.pairwise_focal(truth, logits, alpha=ALPHA, gamma=GAMMA, **options)
        return weights[0] * pixels + weights[1] * measures.pairwise_dice(truth, logits, **options)


def of_objects(
    losses: tuple[Tensor, Tensor, Tensor, Tensor], targets: Any, count: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the sums of the losses of masks, weighed by object and divided by `count`."""
    mask, dice, image, row = losses
    weight: Any = 1.0
    if "weights" in targets:
        weight = targets["weights"][image, row]
    if "ignore" in targets:
        weight = weight * ~targets["ignore"][image, row]
    return (mask * weight).sum() / count, (dice * weight).sum() / count


def _tiles(x: Tensor) -> tuple[Tensor, ...]:
    """Return the rows of `x` in parts, on a CPU small ones."""
    rows = max(TILE // max(x.shape[1], 1), 1) if x.is_cpu else max(len(x), 1)
    return x.split(rows)


def _padded(masks: Tensor, height: int, width: int) -> Tensor:
    """Return masks with nothing at their right and lower edges, up to a size."""
    missing = width - masks.shape[2], height - masks.shape[1]
    return functional.pad(masks, (0, missing[0], 0, missing[1])) if any(missing) else masks


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def sample(masks: Tensor, points: Tensor, mode: str = "bilinear", padding: str = "zeros") -> Tensor:
    """Return masks `[N, H, W]` at points `[N, P, 2]`, as `hungarian_core.masks.sample` does.

    With `padding` of ``"border"``, they go on at their edges as they are at the outermost pixels.

    Each is an image of its own: of channels, PyTorch samples one after another.
    """
    grid = (2 * points[:, :, None] - 1).expand(len(masks), -1, -1, -1)
    found = functional.grid_sample(
        masks[:, None], grid, mode=mode, padding_mode=padding, align_corners=False
    )
    return found[:, 0, :, 0]
