"""Published criteria that are made of other terms than `hungarian_core.DetrLoss` holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hungarian_core.losses.set_loss import SetLoss
from hungarian_core.terms.classes import Classes
from hungarian_core.terms.polylines import Polylines
from hungarian_core.terms.rotated_boxes import RotatedBoxes

__all__ = ["map_tr", "obb"]
__dir__ = __all__.copy


def map_tr(
    num_classes: int,
    *,
    closed: bool | str = "closed",
    given: bool = False,
    scale: Sequence[float] = (30.0, 60.0),
    **options: Any,
) -> SetLoss:
    """Return the criterion of MapTR, for maps of lanes, crossings and kerbs.

    Outputs are ``"logits"`` `(..., C)` and ``"points"`` `(..., K, 2)`, relative to the map.
    Targets are ``"labels"``, ``"points"`` and, by default, ``"closed"``, `(B, M)` bool. The last
    point of a closed element repeats the first.

    The loss is ``2 * focal + 5 * L1 + 0.005 * (1 - cos)``: the sums over points, and over edges in
    metres, in the nearest order. Matching costs ``2 * focal + 5 * L1``. That is the configuration
    `maptr_tiny_r50_24e` of the authors, whose terms of boxes weigh 0. By default equivalent orders
    are shifts and reverses of the points as they are, its pattern ``"v4"``; its own pattern,
    ``"v2"``, goes round an element from each of its vertices anew, which is known where the data
    are read. With `given`, targets hold such orders, `(B, M, O, K, 2)`, and no ``"closed"``.

    Args:
        num_classes: The number of classes.
        closed: As for `hungarian_core.terms.Polylines`.
        given: Likewise.
        scale: How long and wide the map is, in the order of the coordinates.
        **options: Those of `hungarian_core.SetLoss`.

    Reference:
        Liao et al., MapTR: Structured Modeling and Learning for Online Vectorized HD Map
        Construction, ICLR 2023, section 3.2.

    Examples:
        >>> criterion = hc.criteria.map_tr(3)
        >>> rng = np.random.default_rng(0)
        >>> outputs = {"logits": np.zeros((1, 50, 3)), "points": rng.random((1, 50, 20, 2))}
        >>> kerbs = outputs["points"][0, [7, 4], ::-1]
        >>> targets = [{"labels": np.array([2, 2]), "points": kerbs, "closed": np.zeros(2, bool)}]
        >>> losses = criterion(outputs, targets)
        >>> losses.assignment.col4row.tolist(), sorted(losses.losses)
        ([[7, 4]], ['class', 'direction', 'points'])
    """
    classes = Classes(num_classes, loss="focal", weight=2.0)
    lines = Polylines(closed=not given and closed, repeated=True, given=given, scale=scale)
    return SetLoss([classes, lines], **options)


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
