"""Boxes: their formats, areas, and how much two of them overlap.

A box is four numbers along the last axis of an array, in one of three formats:

- ``"cxcywh"``: centre, width and height, as in DETR;
- ``"xyxy"``: the corner of least and the corner of greatest coordinates;
- ``"xywh"``: the corner of least coordinates, width and height, as in COCO.

A span of time is a box of one axis, two numbers, and a box in space has three axes, six numbers:

- ``"cxw"``: centre and width, as in Moment-DETR; ``"xx"``: start and end;
- ``"cxcyczwhd"``: centre and sides along x, y and z; ``"xyzxyz"``: two corners.

`iou`, `giou`, `diou` and `ciou` compare boxes `a[..., 4]` and `b[..., 4]`, which broadcast
against each other, or with ``pairwise=True`` every box of `a[..., n, 4]` with every one of
`b[..., m, 4]`, into `[..., n, m]`. They are differentiable in both boxes. They come in two forms:

- ``form="safe"``, the default, is finite with a finite gradient for all finite boxes. A negative
  side counts as 0, at the centre of the box; a ratio whose denominator is 0 counts as 0, so two
  boxes without area have the IoU 0. Sides below about 1e-17, and boxes whose areas are
  below 1e-18 of the smallest box around both, count as 0. NaN stays NaN.
- ``form="published"`` is the published formula as it stands, without any epsilon, as in DETR and
  transformers: two boxes without area give NaN.

For boxes with positive sides both are equal to rounding. Where corners coincide, the gradient is
the mean of the slopes on both sides, so the gradient of IoU, GIoU and DIoU is 0 at ``a == b``.

Boxes with an angle are in :mod:`hungarian_core.boxes.rotated`, and boxes in space that are turned
about the vertical in :mod:`hungarian_core.boxes.solid`. Boxes by distributions of where their edges
are, as detectors predict them that refine boxes, are in :mod:`hungarian_core.boxes.distributions`.
"""

from hungarian_core.boxes import distributions, rotated, solid
from hungarian_core.boxes.axis_aligned import Form, Format, area, ciou, convert, diou, giou, iou

__all__ = [
    "Form",
    "Format",
    "area",
    "ciou",
    "convert",
    "diou",
    "distributions",
    "giou",
    "iou",
    "rotated",
    "solid",
]
__dir__ = __all__.copy
