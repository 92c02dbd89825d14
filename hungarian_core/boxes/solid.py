"""Boxes in space that stand upright, turned about the vertical, and how much two of them overlap.

Such a box is seven numbers along the last axis of an array, (cx, cy, cz, w, l, h, yaw): the centre,
the sides along its own x-axis, its own y-axis and the vertical, and the angle in radians by which
its x-axis is turned from the x-axis towards the y-axis; where yaw turns the other way, change its
sign. Seen from above it is a box of :mod:`hungarian_core.boxes.rotated`, whose ways with slopes,
degenerate boxes and units these measures have. Boxes along the axes are those of
:mod:`hungarian_core.boxes` too, in the format ``"cxcyczwhd"``.
"""

from __future__ import annotations

from typing import NamedTuple

from hungarian_core._backend import Array, Backend
from hungarian_core.boxes import _polygons as polygons
from hungarian_core.boxes._arithmetic import TINY, ordered, over, positive

__all__ = ["giou", "iou"]
__dir__ = __all__.copy


def iou(
    a: Array, b: Array, *, pairwise: bool = False, backend: str | Backend | None = None
) -> Array:
    """Return the intersection of two boxes over their union, in [0, 1].

    The volume of the intersection is exact: that of the footprints times that of the heights.

    Args:
        a: `(..., 7)`, or `(..., n, 7)` with `pairwise`, see :mod:`hungarian_core.boxes.solid`.
        b: `(..., 7)`, or `(..., m, 7)` with `pairwise`.
        pairwise: Compare every box of `a` with every box of `b`.
        backend: A backend's name or instance, to which other arrays are converted; by default
            the one of the arrays.

    Returns:
        The broadcast shape without the last axis, or `(..., n, m)` with `pairwise`; in the dtype
        of the boxes, or float32 for float16 and bfloat16, in which nothing is computed.

    Raises:
        ValueError: Shapes or dtypes do not fit.

    Examples:
        >>> a = np.array([0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 0.0])
        >>> b = np.array([0.0, 0.0, 1.0, 2.0, 2.0, 2.0, np.pi / 4])  # higher, and turned
        >>> round(float(hc.boxes.solid.iou(a, b)), 4)
        0.2612
    """
    return _overlap(_pair(a, b, pairwise, backend))


def giou(
    a: Array, b: Array, *, pairwise: bool = False, backend: str | Backend | None = None
) -> Array:
    """Return the generalised IoU of two boxes, in [-1, 1].

    It is ``IoU - (C - union) / C``, where C is the volume of the smallest upright prism around
    both: the hull of their footprints, from the lower floor to the higher ceiling. (Their convex
    hull is smaller where footprints differ, a box around both larger.) Arguments, result and errors
    are those of `iou`.

    Reference:
        Rezatofighi et al., Generalized Intersection over Union, CVPR 2019, algorithm 1.

    Examples:
        >>> a = np.array([0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 0.0])
        >>> b = np.array([0.0, 0.0, 1.0, 2.0, 2.0, 2.0, np.pi / 4])
        >>> round(float(hc.boxes.solid.giou(a, b)), 4)
        0.0088
    """
    pair = _pair(a, b, pairwise, backend)
    around = polygons.hull(pair.footprints) * pair.span
    missing = positive(pair.footprints.xp, around - pair.union)
    return _overlap(pair) - over(pair.footprints.xp, missing, around)


class _Pair(NamedTuple):
    """Two sets of boxes beside each other, in units of their own along the ground and upwards."""

    footprints: polygons.Rotated
    span: Array  # from the lower floor to the higher ceiling
    common: Array  # volumes
    union: Array


def _pair(a: Array, b: Array, pairwise: bool, backend: str | Backend | None) -> _Pair:
    a, b, found, xp = polygons.read(a, b, 7, pairwise, backend)
    flat_a, flat_b = (xp.stack([x[..., k] for k in (0, 1, 3, 4, 6)], axis=-1) for x in (a, b))
    footprints = polygons.compared(flat_a, flat_b, found, xp)

    # Heights as lengths of the ground: so that no difference overflows, and in a unit.
    z = a[..., 2] * 0.125 - b[..., 2] * 0.125
    of_a, of_b = (positive(xp, x[..., 5] * 0.0625) for x in (a, b))
    unit = found.stop_gradient(xp.maximum(xp.abs(z), xp.maximum(of_a, of_b)))
    unit = xp.where(unit <= TINY, 1, unit)
    z, of_a, of_b = z / unit, of_a / unit, of_b / unit
    (lowest, low), (high, highest) = ordered(xp, z - of_a, -of_b), ordered(xp, z + of_a, of_b)
    common = polygons.intersection(footprints) * positive(xp, high - low)
    areas = polygons.areas(footprints)
    union = areas[0] * (2 * of_a) + areas[1] * (2 * of_b) - common
    return _Pair(footprints, highest - lowest, common, union)


def _overlap(pair: _Pair) -> Array:
    """Return the IoU, of which rounding makes no more than 1."""
    xp = pair.footprints.xp
    overlap = over(xp, pair.common, pair.union)
    return xp.where(overlap > 1, 1, overlap)
