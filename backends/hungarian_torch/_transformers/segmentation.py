"""What segmenters hand their losses: classes, boxes, and masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hungarian_core import DetrLoss
from hungarian_torch._backend import backend
from hungarian_torch._transformers import _checks
from hungarian_torch._transformers.layers import (
    Labels,
    Result,
    Settings,
    auxiliary,
    before_last,
    by_ends,
    criterion,
    joined,
    number_of,
)
from hungarian_torch._transformers.masks import Comparison, of_objects

OfConfig = Callable[[Any], Settings]
_PIXELS = Comparison("focal")


def evaluate(
    of_config: OfConfig,
    changes: Settings,
    logits: Tensor,
    labels: Labels,
    device: Any,
    pred_boxes: Tensor,
    pred_masks: Tensor,
    config: Any,
    outputs_class: Any = None,
    outputs_coord: Any = None,
    **others: Any,
) -> Result:
    """Evaluate DETR and Conditional DETR with masks, of the last layer, that are not matched by."""
    settings = {**of_config(config), **changes}
    _checks.one_query_each(settings)
    between = before_last(config, outputs_class, outputs_coord)
    layers = by_ends((logits, pred_boxes), between)
    outputs = joined([*layers.values()], "logits", "boxes")
    loss = criterion(settings)
    targets = loss.pad_targets(labels, logits)
    found = loss.evaluate(outputs, targets, assignment=_by_softmax(settings, outputs, targets))
    truths = [t["masks"] for t in labels]
    objects = found.assignment.row4col[0]
    mask, dice = of_objects(
        _PIXELS.losses(truths, pred_masks, objects), targets, number_of(targets)
    )
    total, reported = loss.report(
        found, [*layers], more={"": {"loss_mask": mask, "loss_dice": dice}}
    )
    total = total + config.mask_loss_coefficient * mask + config.dice_loss_coefficient * dice
    return total, reported, auxiliary(config, between, "logits", "pred_boxes")


def evaluate_at_points(
    of_config: OfConfig,
    changes: Settings,
    logits: Tensor,
    labels: Labels,
    device: Any,
    pred_boxes: Tensor,
    pred_masks: Tensor,
    config: Any,
    outputs_class: Any = None,
    outputs_coord: Any = None,
    outputs_masks: Any = None,
    enc_outputs_class: Any = None,
    enc_outputs_coord: Any = None,
    enc_outputs_masks: Any = None,
    **others: Any,
) -> Result:
    """Evaluate RF-DETR, whose layers all have masks, compared at points, and groups of queries."""
    settings = {**of_config(config), **changes}
    _checks.one_query_each(settings)
    groups = logits.shape[1] // config.num_queries  # 1 in evaluation
    ratio = config.mask_point_sample_ratio
    weights = config.mask_class_loss_coefficient, config.mask_dice_loss_coefficient
    between = before_last(config, outputs_class, outputs_coord, outputs_masks)
    layers = by_ends((logits, pred_boxes, pred_masks), between)
    layers["_enc"] = enc_outputs_class, enc_outputs_coord, enc_outputs_masks
    loss = criterion(settings)
    targets = loss.pad_targets(labels, logits)
    # Each group is an image of its own, with the same objects.
    targets = {name: x.repeat_interleave(groups, 0) for name, x in targets.items()}
    truths = [t["masks"] for t in labels for _ in range(groups)]
    count, size = number_of(targets), targets["mask"].shape[1]
    totals: list[Tensor] = []
    reported: dict[str, Tensor] = {}
    for end, layer in layers.items():
        # The published number of points for matching is that of four numbers per box.
        points = layer[1].numel() // ratio
        x, y, masks = (z.unflatten(1, (groups, -1)).flatten(0, 1) for z in layer)
        height, width = masks.shape[-2:]
        compared = Comparison(
            "bce", points, max(height, height * width // ratio), truth_mode="nearest",
            one_for_all=True,
        )  # fmt: skip
        found = loss.evaluate(
            joined([(x, y)], "logits", "boxes"), targets,
            extra_cost=compared.costs(truths, masks, weights, size),
        )  # fmt: skip
        both = of_objects(
            compared.losses(truths, masks, found.assignment.row4col[0]), targets, count
        )
        names = "loss_mask_ce" + end, "loss_mask_dice" + end
        total, of_layer = loss.report(found, [end], more={end: dict(zip(names, both, strict=True))})
        reported |= of_layer
        if end != "_enc" or config.auxiliary_loss:  # as published
            totals.append(total + weights[0] * both[0] + weights[1] * both[1])
    aux = auxiliary(config, between, "logits", "pred_boxes", "pred_masks")
    return torch.stack(totals).sum(), reported, aux


def _by_softmax(settings: Settings, outputs: dict[str, Tensor], targets: Any) -> Any:
    """Return the matching of Conditional DETR with masks, by the softmax of sigmoids' logits.

    None for the one that the criterion has by itself, that of DETR.
    """
    if settings.get("class_loss", "softmax") == "softmax":
        return None
    options = ("num_classes", "class_cost", "bbox_cost", "giou_cost", "form", "nan", "solver")
    matcher = DetrLoss(**{k: settings[k] for k in options if k in settings}, backend=backend)
    logits = torch.nn.functional.pad(outputs["logits"], (0, 1), value=-torch.inf)
    return matcher.match(logits, outputs["boxes"], targets)
