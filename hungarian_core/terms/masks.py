"""Masks as further terms of a detection loss: what they add to the matching and to the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from hungarian_core import _checks
from hungarian_core import masks as measures
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core.assignment import Nan
from hungarian_core.costs.classes import times
from hungarian_core.losses.kernels import invalid
from hungarian_core.terms import _checks as checks
from hungarian_core.terms.problems import Scenes
from hungarian_core.terms.targets import Targets, blank


@dataclass(frozen=True)
class MaskLoss:
    """The terms of masks in a `DetrLoss`.

    The loss of a matched pair is ``mask_weight * pixels + dice_weight * dice``, and matching it
    costs ``mask_cost * pixels + dice_cost * dice``, with `pixels` the mean binary cross entropy or
    focal loss of :mod:`hungarian_core.masks`. Like those of boxes, losses are divided by the
    number of objects.

    Args:
        pixels: ``"focal"``, as in DETR and MaskFormer, or ``"bce"``, as in Mask2Former.
        mask_weight: The weight of `pixels` in the loss.
        dice_weight: The weight of the dice loss.
        mask_cost: The weight of `pixels` in the matching cost; without one, masks are not matched
            by.
        dice_cost: The weight of the dice in the matching cost.
        alpha: As for `hungarian_core.masks.focal`.
        gamma: As there.
        num_points: At how many of the `candidates` of a call the loss looks.
        importance_ratio: As for `hungarian_core.masks.uncertain_points`.
    """

    pixels: Literal["focal", "bce"] = "focal"
    mask_weight: float = 1.0
    dice_weight: float = 1.0
    mask_cost: float = 0.0
    dice_cost: float = 0.0
    alpha: float = 0.25
    gamma: float = 2.0
    num_points: int = 112 * 112
    importance_ratio: float = 0.75

    def __post_init__(self) -> None:
        _checks.one_of("pixels", self.pixels, ("focal", "bce"))

    def pairwise(
        self, truth: Array, prediction: Array, axes: int, backend: Backend
    ) -> tuple[Array, Array]:
        """Return `pixels` and dice `[..., M, Q]` of every true mask with every predicted one."""
        options: dict[str, Any] = {"axes": axes, "backend": backend}
        dice = measures.pairwise_dice(truth, prediction, **options)
        if self.pixels == "bce":
            return measures.pairwise_bce(truth, prediction, **options), dice
        options |= {"alpha": self.alpha, "gamma": self.gamma}
        return measures.pairwise_focal(truth, prediction, **options), dice

    def pairs(
        self, truth: Array, prediction: Array, axes: int, backend: Backend
    ) -> tuple[Array, Array]:
        """Return `pixels` and dice `[...]` of pairs of masks."""
        options: dict[str, Any] = {"axes": axes, "backend": backend}
        dice = measures.dice(truth, prediction, **options)
        if self.pixels == "bce":
            return measures.bce(truth, prediction, **options), dice
        options |= {"alpha": self.alpha, "gamma": self.gamma}
        return measures.focal(truth, prediction, **options), dice


class Segmentation(NamedTuple):
    """The masks of a call, in the dtype of its scenes."""

    loss: MaskLoss
    predictions: Array  # [L, B, Q, H, W], or [1, B, Q, H, W] of the last layer
    last: bool  # they are of the last layer only
    truth: Array  # [B, M, H, W], 0 where there is no object
    repeat: int  # how many times each true mask is there
    points: Array | None  # [B, P, 2]
    candidates: Array | None  # [B, M, R, 2] or what broadcasts to it

    def costs(self, found: Scenes, nan: Nan, backend: Backend, xp: Namespace) -> Array:
        """Return what the masks add to the matching cost, `[N, M, Q]`."""
        truth, prediction, axes = self.truth, backend.stop_gradient(self.predictions), 2
        if self.points is not None:
            truth = measures.sample(truth, self.points, backend=backend)
            prediction = measures.sample(prediction, self.points, backend=backend)
            axes = 1
        pixels, dice = self.loss.pairwise(truth[None, ...], prediction, axes, backend)
        cost = times(self.loss.mask_cost, pixels, xp) + self.loss.dice_cost * dice
        if nan == "worst":
            cost = invalid(cost, xp)
        return self._spread(_copies(cost, self.repeat, 2, xp), found, backend, xp)

    def terms(
        self, col4row: Array, found: Scenes, backend: Backend, xp: Namespace
    ) -> tuple[Array, Array]:
        """Return the losses of pixels and dice `[N, M]` of the matches `col4row` `[N, M]`."""
        layers, images, _ = found.lead
        col4row = xp.reshape(col4row, (layers, images, backend.shape(col4row)[1]))
        if self.last:
            col4row = col4row[-1:, ...]
        matched = col4row >= 0
        at = xp.where(matched, col4row, 0)[..., None, None]
        chosen = xp.take_along_axis(self.predictions, at, axis=2)
        # What is not matched may hold anything, and no gradient is to meet it.
        chosen = xp.where(matched[..., None, None], chosen, xp.zeros_like(chosen))
        truth, axes = _copies(self.truth, self.repeat, 1, xp)[None, ...], 2
        points = None if self.points is None else self.points[:, None, ...]
        if self.candidates is not None:
            candidates = self.candidates
            if candidates.ndim > 3 and backend.shape(candidates)[-3] != 1:
                candidates = _copies(candidates, self.repeat, candidates.ndim - 3, xp)
            points = measures.uncertain_points(
                chosen, candidates, self.loss.num_points,
                importance_ratio=self.loss.importance_ratio, backend=backend,
            )  # fmt: skip
        if points is not None:
            truth, chosen = (
                measures.sample(x[..., None, :, :], points, backend=backend)[..., 0, :]
                for x in (truth, chosen)
            )
            axes = 1
        pixels, dice = self.loss.pairs(truth, chosen, axes, backend)
        of_pixels, of_dice = (
            self._spread(xp.where(matched, x, 0), found, backend, xp) for x in (pixels, dice)
        )
        return of_pixels, of_dice

    def _spread(self, x: Array, found: Scenes, backend: Backend, xp: Namespace) -> Array:
        """Return `[N, ...]` of `[L, B, ...]`, or of `[1, B, ...]` for the last layer."""
        layers, images, _ = found.lead
        rest = backend.shape(x)[2:]
        if self.last:
            of_layers = xp.reshape(found.labels[:, 0], (layers, images))[:, :1]
            place = xp.cumulative_sum(xp.ones_like(of_layers), axis=0)
            is_last = place == xp.max(place)
            is_last = is_last[(..., *(None,) * len(rest))]
            x = xp.where(is_last, x, xp.zeros_like(x))
        x = xp.reshape(x, (layers * images, *rest))
        return xp.concat([x, blank(x, 1, xp)], axis=1) if found.surplus else x


def _copies(x: Array, repeat: int, axis: int, xp: Namespace) -> Array:
    return xp.concat([x] * repeat, axis=axis) if repeat > 1 else x


def segmentation(
    loss: MaskLoss | None,
    masks: Array | None,
    targets: Targets,
    points: Array | None,
    candidates: Array | None,
    repeat: int,
    found: Scenes,
    backend: Backend,
) -> Segmentation | None:
    """Check the masks of a call; None if there are none.

    Args:
        loss: The terms.
        masks: `(B, Q, H, W)` logits, of the last layer if there are layers, or `(L, B, Q, H, W)`.
        targets: With masks `(B, M, H, W)`.
        points: `(B, P, 2)`, or None to compare all pixels.
        candidates: `(..., R, 2)`, or None.
        repeat: How many times each true object is there.
        found: The scenes of the call.
        backend: Their backend.
    """
    if masks is None and loss is None:
        return None
    checks.mask_arguments(loss, masks, targets.masks, found.lead[2])
    masks = backend.asarray(masks, like=found.logits)
    xp = backend.namespace(found.logits)
    layers, images, _ = found.lead
    _, queries, _ = backend.shape(found.logits)
    shape = backend.shape(masks)
    assert targets.mask is not None
    truth = xp.where(targets.mask[..., None, None], targets.masks, xp.zeros_like(targets.masks))
    checks.mask_shapes(shape, backend.shape(truth), (layers, images, queries), points is None)
    dtype = found.logits.dtype
    last = len(shape) == 4
    masks = xp.astype(masks[None, ...] if last else masks, dtype, copy=False)
    if found.there is not None:
        there = xp.reshape(found.there, (layers, images, queries))
        there = there[-1:, ...] if last else there
        masks = xp.where(there[..., None, None], masks, xp.zeros_like(masks))
    given = [
        None if x is None else backend.asarray(x, like=found.logits) for x in (points, candidates)
    ]
    assert loss is not None
    truth = xp.astype(truth, dtype, copy=False)
    return Segmentation(loss, masks, last, truth, repeat, *given)
