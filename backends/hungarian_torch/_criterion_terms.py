"""The terms of DETR's criterion, made of its settings, and the losses that they give."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hungarian_core import SetLoss
from hungarian_core.losses.results import SetLosses
from hungarian_core.terms import Boxes, Classes, Masks, Pairs, Term
from hungarian_core.terms.class_losses import ClassLossName
from hungarian_torch._backend import backend
from hungarian_torch._matcher import CLASS_COSTS, MatchingCosts
from hungarian_torch._matchings import as_last_resort
from hungarian_torch._outputs import Batch, Outputs, masks_of
from hungarian_torch._transformers.masks import Comparison, of_objects


class CriterionSettings(NamedTuple):
    """What a `SetLoss` of `SetCriterion` is made of."""

    num_classes: int
    class_loss: ClassLossName
    eos_coef: float
    focal_alpha: float
    boxes: bool
    masks: bool
    dino: bool
    groups: int
    costs: MatchingCosts | None


@functools.lru_cache(maxsize=128)
def set_loss(settings: CriterionSettings) -> SetLoss:
    """Return the criterion with the terms of some settings."""
    asks = settings.costs is None
    costs = MatchingCosts(1.0, 0.0, 0.0) if settings.costs is None else settings.costs
    terms: list[Term] = [
        Classes(
            settings.num_classes, loss=settings.class_loss,
            cost=None if asks else CLASS_COSTS[costs.class_cost_form],
            cost_weight=costs.class_cost, no_object_weight=settings.eos_coef,
            alpha=settings.focal_alpha, cost_alpha=costs.alpha, cost_gamma=costs.gamma,
        )
    ]  # fmt: skip
    if settings.boxes or costs.by_boxes:
        terms.append(
            Boxes(
                bbox_weight=1.0, giou_weight=1.0, bbox_cost=costs.bbox_cost,
                giou_cost=costs.giou_cost,
            )
        )  # fmt: skip
        if settings.dino:
            terms += [
                Pairs(name, None, part, on="boxes") for name, part in (("xy", _xy), ("hw", _hw))
            ]
    if settings.masks:
        terms.append(Masks("focal", resize="bilinear"))
    return SetLoss(
        terms, groups=settings.groups, nan="forbid", solver=costs.solver, log=False,
        backend=backend,
    )  # fmt: skip


def losses_of(
    criterion: SetLoss,
    read: Mapping[str, Tensor],
    padded: Mapping[str, Tensor],
    assignment: Tensor | None,
    number: Tensor,
) -> SetLosses:
    """Return the losses of a criterion; see `hungarian_torch._matchings.solved`."""
    try:
        return criterion(read, padded, assignment=assignment, num_objects=number)
    except ValueError as error:
        if assignment is not None:
            raise
        failed = error
    row4col = as_last_resort(criterion, read, padded, failed)
    row4col = row4col.reshape(read["logits"].shape[:3])
    return criterion(read, padded, assignment=row4col, num_objects=number)


def masks_at_points(
    layers: Sequence[Outputs],
    batch: Batch,
    row4col: Tensor,
    number: Tensor,
    ratio: int,
) -> dict[str, Tensor]:
    """Return the losses `(L,)` of masks at points, most of which are where a mask is uncertain.

    Args:
        layers: What the layers said.
        batch: The objects.
        row4col: Whose query is whose, `(L, B, Q)`.
        number: What losses are divided by.
        ratio: For how many pixels of a predicted mask there is a point.
    """
    truths = [target["masks"] for target in batch.targets]
    losses = []
    for outputs, objects in zip(layers, row4col, strict=True):
        masks = masks_of(outputs)
        height, width = masks.shape[-2:]
        points = max(height, height * width // ratio)
        compared = Comparison("bce", loss_points=points, truth_mode="nearest", padding="border")
        found = of_objects(compared.losses(truths, masks, objects), batch.padded, number)
        losses.append(torch.stack(found))
    mask, dice = torch.stack(losses).unbind(1)
    return {"loss_mask_ce": mask, "loss_mask_dice": dice}


def _xy(xp: Any, truth: Tensor, prediction: Tensor) -> Tensor:
    """The distance of centres, for logging."""
    return xp.sum(xp.abs(truth - prediction.detach())[..., :2], axis=-1)


def _hw(xp: Any, truth: Tensor, prediction: Tensor) -> Tensor:
    """The distance of sides, for logging."""
    return xp.sum(xp.abs(truth - prediction.detach())[..., 2:], axis=-1)
