"""Published criteria that are made of other terms than `hungarian_core.DetrLoss` holds."""

from __future__ import annotations

from typing import Any

from hungarian_core.losses.set_loss import SetLoss
from hungarian_core.terms.classes import Classes
from hungarian_core.terms.rotated_boxes import RotatedBoxes

__all__ = ["obb"]
__dir__ = __all__.copy


def obb(num_classes: int, *, period: float | None = None, **options: Any) -> SetLoss:
    """Return the criterion of Rotated Deformable DETR, for oriented bounding boxes.

    Outputs are ``"logits"`` `(B, Q, num_classes)` and ``"boxes"`` `(B, Q, 5)`, targets ``"labels"``
    and ``"boxes"``: (cx, cy, w, h, angle) as in :mod:`hungarian_core.boxes.rotated`, relative to
    the image, with the angles in radians. Matching costs and losses are those of Deformable DETR,
    with the weights 2, 5 and 2: focal, L1, of the angle divided by pi too, and in place of the
    GIoU ``1 - 1 / (1 + ln(1 + KLD))`` of the boxes' Gaussians.

    Published targets have the longer side first and angles from 0 to pi. What is not included: the
    queries that the two-stage variant picks from the encoder; and where an image is not square,
    relative boxes are not the turned rectangles that the published KLD has in pixels: give boxes in
    a unit that is the same along both axes, such as the longer side of the image.

    Args:
        num_classes: The number of classes.
        period: As for `hungarian_core.terms.RotatedBoxes`; None is published, and compares the
            angles as numbers.
        **options: Those of `hungarian_core.SetLoss`.

    Reference:
        The configuration rotated_deformable-detr_r50_16xb2-50e_dota of Lee et al., Hausdorff
        Distance Matching with Adaptive Query Denoising for Rotated Detection Transformer, 2023;
        the divergence is that of Yang et al., NeurIPS 2021.

    Examples:
        >>> box = np.array([0.5, 0.5, 0.4, 0.2, 0.3])
        >>> outputs = {"logits": np.zeros((1, 2, 15)), "boxes": np.stack([box + 0.1, box])[None]}
        >>> targets = [{"labels": np.array([3]), "boxes": box[None]}]
        >>> losses = hc.criteria.obb(15)(outputs, targets)
        >>> losses.assignment.col4row
        array([[1]])
        >>> sorted(losses.losses)
        ['angle', 'bbox', 'class', 'kld']
    """
    boxes = RotatedBoxes(
        "kld", bbox_weight=5.0, angle_weight=5.0, overlap_weight=2.0, period=period
    )
    return SetLoss([Classes(num_classes, loss="focal", weight=2.0), boxes], **options)
