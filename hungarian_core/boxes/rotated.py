"""Rotated boxes: their corners, how much two of them overlap, and how far apart they are.

A rotated box is five numbers along the last axis of an array, (cx, cy, w, h, angle): centre, sides,
and the angle in radians by which its width is turned from the x-axis towards the y-axis. That is
clockwise on an image, whose y-axis points down, as in OpenCV, MMRotate and Ultralytics; for boxes
that turn the other way, change the sign of the angle. Any angle will do: a box is the same after
half a turn, and with its sides exchanged after a quarter.

`iou` and `giou` are exact, by the polygons. `gwd`, `kld` and `probiou` compare the boxes' Gaussians
instead, which have a slope wherever the boxes lie. All take boxes `a[..., 5]` and `b[..., 5]`,
which broadcast against each other, or with ``pairwise=True`` every box of `a[..., n, 5]` with every
one of `b[..., m, 5]`, into `[..., n, m]`. They are differentiable in both, and finite with finite
slopes for all finite boxes. A negative side counts as 0, at the centre of the box; NaN stays NaN.
Lengths are seen beside the largest one in a pair, of half sides and of the distance of centres:
areas below 1e-18 of its square do not overlap, and for the Gaussians half a side below 1e-6 of it
counts as that. All but `kld` are the same with the boxes exchanged, to rounding.
"""

from __future__ import annotations

from hungarian_core import _checks as core_checks
from hungarian_core._backend import Array, Backend
from hungarian_core._dtypes import solving_dtype
from hungarian_core._registry import get_backend
from hungarian_core.boxes import _checks as checks
from hungarian_core.boxes import _gaussians as gaussians
from hungarian_core.boxes import _polygons as polygons
from hungarian_core.boxes._arithmetic import over, positive
from hungarian_core.boxes._polygons import Rotated

__all__ = ["corners", "giou", "gwd", "iou", "kld", "probiou"]
__dir__ = __all__.copy


def corners(boxes: Array, *, backend: str | Backend | None = None) -> Array:
    """Return the corners of rotated boxes.

    Args:
        boxes: `(..., 5)`, see :mod:`hungarian_core.boxes.rotated`.
        backend: A backend's name or instance, by default the one of the array.

    Returns:
        `(..., 4, 2)`, x and y: of the box before its turn, the corner of least coordinates, that
        at the end of the width, the one across, and the last. In the dtype of `boxes`, or float32
        for float16 and bfloat16, float64 for integers.

    Raises:
        ValueError: `boxes` are no boxes.

    Examples:
        >>> hc.boxes.rotated.corners(np.array([1.0, 1.0, 4.0, 2.0, np.pi / 2])).round(4) + 0.0
        array([[ 2., -1.],
               [ 2.,  3.],
               [ 0.,  3.],
               [ 0., -1.]])
    """
    backend = get_backend(backend, boxes=boxes)
    boxes = backend.asarray(boxes)
    xp = backend.namespace(boxes)
    checks.boxes("boxes", backend.shape(boxes), 5)
    core_checks.real("boxes", boxes, xp)
    boxes = xp.astype(boxes, solving_dtype(boxes.dtype, xp), copy=False)
    cos, sin = xp.cos(boxes[..., 4]), xp.sin(boxes[..., 4])
    width, height = (positive(xp, boxes[..., k]) * 0.5 for k in (2, 3))
    x, y = boxes[..., 0], boxes[..., 1]
    along, across = (width * cos, width * sin), (-height * sin, height * cos)
    points = []
    for right, up in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        point = [x + right * along[0] + up * across[0], y + right * along[1] + up * across[1]]
        points.append(xp.stack(point, axis=-1))
    return xp.stack(points, axis=-2)


def iou(
    a: Array, b: Array, *, pairwise: bool = False, backend: str | Backend | None = None
) -> Array:
    """Return the intersection of two rotated boxes over their union, in [0, 1].

    The area of the intersection is exact. Where boxes or edges coincide, the slope is the mean of
    those on both sides, so that it is 0 at ``a == b``.

    Args:
        a: `(..., 5)`, or `(..., n, 5)` with `pairwise`, see :mod:`hungarian_core.boxes.rotated`.
        b: `(..., 5)`, or `(..., m, 5)` with `pairwise`.
        pairwise: Compare every box of `a` with every box of `b`.
        backend: A backend's name or instance, to which other arrays are converted; by default
            the one of the arrays.

    Returns:
        The broadcast shape without the last axis, or `(..., n, m)` with `pairwise`; in the dtype
        of the boxes, or float32 for float16 and bfloat16, in which nothing is computed.

    Raises:
        ValueError: Shapes or dtypes do not fit.

    Examples:
        >>> square = np.array([0.0, 0.0, 2.0, 2.0, 0.0])  # and itself, turned by 45 degrees
        >>> b = np.array([0.0, 0.0, 2.0, 2.0, np.pi / 4])
        >>> round(float(hc.boxes.rotated.iou(square, b)), 4)
        0.7071
    """
    pair = _pair(a, b, pairwise, backend)
    common = polygons.intersection(pair)
    return _ratio(pair, common, _union(pair, common))


def giou(
    a: Array, b: Array, *, pairwise: bool = False, backend: str | Backend | None = None
) -> Array:
    """Return the generalised IoU of two rotated boxes, in [-1, 1].

    It is ``IoU - (C - union) / C``, where C is the area of the smallest convex polygon around both,
    their hull. (A rectangle around both, rotated or not, would be larger; for upright boxes too, so
    this is not the GIoU of :func:`hungarian_core.boxes.giou` unless their hull is a rectangle.)
    Where edges of both lie on one line, the slope lies between those of both sides; it is 0 at
    ``a == b``. Arguments, result and errors are those of `iou`.

    Reference:
        Rezatofighi et al., Generalized Intersection over Union, CVPR 2019, algorithm 1, for convex
        shapes.

    Examples:
        >>> a = np.array([[0.0, 0.0, 2.0, 2.0, 0.0]])
        >>> b = np.array([[0.0, 0.0, 2.0, 2.0, np.pi / 4], [4.0, 0.0, 2.0, 2.0, 0.0]])
        >>> hc.boxes.rotated.giou(a, b, pairwise=True).round(4)
        array([[ 0.5355, -0.3333]])
    """
    pair = _pair(a, b, pairwise, backend)
    common, hull = polygons.intersection(pair), polygons.hull(pair)
    union = _union(pair, common)
    return _ratio(pair, common, union) - over(pair.xp, positive(pair.xp, hull - union), hull)


def gwd(
    a: Array,
    b: Array,
    *,
    pairwise: bool = False,
    normalize: bool = False,
    backend: str | Backend | None = None,
) -> Array:
    """Return the Gaussian Wasserstein distance of two rotated boxes, in their unit of length.

    The Gaussian of a box has its centre as mean, and along its sides the standard deviations w / 2
    and h / 2. Two squares have no angle to each other. At distance 0 the slope is 0. Arguments,
    result and errors are those of `iou`.

    Args:
        a: As for `iou`.
        b: As for `iou`.
        pairwise: As for `iou`.
        normalize: Divide by the geometric mean of the four sides, as MMRotate does: the same in
            any unit.
        backend: As for `iou`.

    Reference:
        Yang et al., Rethinking Rotated Object Detection with Gaussian Wasserstein Distance Loss,
        ICML 2021: the root of the squared distance there.

    Examples:
        >>> a = np.array([0.0, 0.0, 4.0, 2.0, 0.0])
        >>> b = np.array([3.0, 0.0, 2.0, 4.0, 0.0])
        >>> round(float(hc.boxes.rotated.gwd(a, b)), 4)
        3.3166
    """
    pair = _pair(a, b, pairwise, backend)
    distance = gaussians.wasserstein(pair)
    if normalize:
        return distance / gaussians.mean_side(pair)
    return distance * pair.unit * 8  # the unit is of an eighth of each length


def kld(
    a: Array, b: Array, *, pairwise: bool = False, backend: str | Backend | None = None
) -> Array:
    """Return the Kullback-Leibler divergence of a box `a` from a box `b`, 0 or more.

    That is ``KL(N_a || N_b)`` of their Gaussians, which are those of `gwd`; it depends on the order
    and on no unit. Arguments, result and errors are those of `iou`.

    Reference:
        Yang et al., Learning High-Precision Bounding Box for Rotated Object Detection via
        Kullback-Leibler Divergence, NeurIPS 2021.

    Examples:
        >>> a = np.array([0.0, 0.0, 4.0, 2.0, 0.0])
        >>> b = np.array([3.0, 0.0, 4.0, 2.0, np.pi / 2])
        >>> round(float(hc.boxes.rotated.kld(a, b)), 4)
        5.625
    """
    return gaussians.divergence(_pair(a, b, pairwise, backend))


def probiou(
    a: Array, b: Array, *, pairwise: bool = False, backend: str | Backend | None = None
) -> Array:
    """Return the ProbIoU of two rotated boxes, in [0, 1]: one less their Hellinger distance.

    The Gaussian of a box has the mean and the covariance of a uniform distribution over it. At
    ``a == b`` the slope is 0. Arguments, result and errors are those of `iou`.

    Reference:
        Llerena et al., Gaussian Bounding Boxes and Probabilistic Intersection-over-Union for
        Object Detection, 2021; without the epsilons of the published code.

    Examples:
        >>> a = np.array([0.0, 0.0, 4.0, 2.0, 0.0])
        >>> b = np.array([1.0, 0.0, 4.0, 2.0, 0.5])
        >>> round(float(hc.boxes.rotated.probiou(a, b)), 4)
        0.602
    """
    return 1 - gaussians.hellinger(_pair(a, b, pairwise, backend))


def _pair(a: Array, b: Array, pairwise: bool, backend: str | Backend | None) -> Rotated:
    return polygons.compared(*polygons.read(a, b, 5, pairwise, backend))


def _union(pair: Rotated, common: Array) -> Array:
    of_a, of_b = polygons.areas(pair)
    return of_a + of_b - common


def _ratio(pair: Rotated, common: Array, union: Array) -> Array:
    """Return the IoU, of which rounding makes no more than 1."""
    overlap = over(pair.xp, common, union)
    return pair.xp.where(overlap > 1, 1, overlap)
