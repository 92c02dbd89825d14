"""Boxes whose sides are parallel to the axes, of any number of axes."""

# ruff: noqa: A002  (`format` is the field's word)

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from hungarian_core import _checks as core_checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._dtypes import common_dtype, solving_dtype
from hungarian_core._inputs import both
from hungarian_core._registry import get_backend
from hungarian_core.boxes import _checks as checks
from hungarian_core.boxes._arithmetic import TINY, ordered, over, positive

Format = Literal["cxcywh", "xyxy", "xywh", "cxw", "xx", "cxcyczwhd", "xyzxyz"]
Form = Literal["safe", "published"]

# What the first half of the numbers of a box is; the second half is the other corner or the sides.
_CORNER, _CORNERS = ("xywh",), ("xyxy", "xx", "xyzxyz")


def convert(
    boxes: Array, source: Format, target: Format, *, backend: str | Backend | None = None
) -> Array:
    """Return boxes in another format.

    Args:
        boxes: `(..., 4)`, or as many numbers as the format has.
        source: The format that they are in, see :mod:`hungarian_core.boxes`.
        target: The format to return, of as many axes.
        backend: A backend's name or instance, by default the one of the array.

    Returns:
        The shape of `boxes`, in their dtype; float64 for integers, float32 where a framework has
        no float64.

    Raises:
        ValueError: A format is unknown, or `boxes` are no boxes.

    Examples:
        >>> hc.boxes.convert(np.array([10.0, 20.0, 4.0, 6.0]), "xywh", "xyxy")
        array([10., 20., 14., 26.])
        >>> hc.boxes.convert(np.array([12.0, 4.0]), "cxw", "xx")
        array([10., 14.])
    """
    checks.formats(source, target)
    backend = get_backend(backend, boxes=boxes)
    boxes, xp = _checked("boxes", boxes, source, backend)
    wide = solving_dtype(boxes.dtype, xp)
    dtype = boxes.dtype if xp.isdtype(boxes.dtype, "real floating") else wide
    boxes = xp.astype(boxes, wide, copy=False)
    if source != target:
        low, high = _corners(boxes, source)
        if target in _CORNERS:
            boxes = xp.concat([low, high], axis=-1)
        else:
            axes = checks.FORMATS[source]
            sides = high - low if source in _CORNERS else boxes[..., axes:]
            start = low if target in _CORNER else (low + high) * 0.5
            boxes = xp.concat([start, sides], axis=-1)
    return xp.astype(boxes, dtype, copy=False)


def area(
    boxes: Array, *, format: Format, form: Form = "safe", backend: str | Backend | None = None
) -> Array:
    """Return the areas of boxes, or the lengths or volumes of such as have one or three axes.

    Args:
        boxes: `(..., 4)`, or as many numbers as the format has.
        format: Their format.
        form: ``"safe"`` takes negative sides as 0, ``"published"`` multiplies them as they are.
        backend: As for `convert`.

    Returns:
        `(...)` in the dtype of `boxes`, or float32 for float16 and bfloat16.

    Raises:
        ValueError: An option is unknown, or `boxes` are no boxes.

    Examples:
        >>> hc.boxes.area(np.array([[0.5, 0.5, 0.2, 0.1], [0.0, 0.0, 1.0, 1.0]]), format="cxcywh")
        array([0.02, 1.  ])
    """
    checks.options(format, form)
    backend = get_backend(backend, boxes=boxes)
    boxes, xp = _checked("boxes", boxes, format, backend)
    low, high = _corners(xp.astype(boxes, solving_dtype(boxes.dtype, xp), copy=False), format)
    sides = high - low
    return _product(positive(xp, sides) if form == "safe" else sides, checks.FORMATS[format])


def iou(
    a: Array,
    b: Array,
    *,
    format: Format,
    pairwise: bool = False,
    form: Form = "safe",
    backend: str | Backend | None = None,
) -> Array:
    """Return intersection over union, in [0, 1].

    Args:
        a: `(..., 4)`, or `(..., n, 4)` with `pairwise`; in place of the 4, as many numbers as the
            format has.
        b: `(..., 4)`, or `(..., m, 4)` with `pairwise`, likewise.
        format: The format of both, see :mod:`hungarian_core.boxes`.
        pairwise: Compare every box of `a` with every box of `b`.
        form: ``"safe"`` or ``"published"``, see :mod:`hungarian_core.boxes`.
        backend: A backend's name or instance, to which other arrays are converted; by default
            the one of the arrays.

    Returns:
        The broadcast shape without the last axis, or `(..., n, m)` with `pairwise`; in the dtype
        of the boxes, or float32 for float16 and bfloat16, in which nothing is computed.

    Raises:
        ValueError: An option is unknown, or shapes or dtypes do not fit.

    Examples:
        >>> a = np.array([[0.5, 0.5, 0.4, 0.4]])
        >>> b = np.array([[0.5, 0.5, 0.4, 0.2], [0.1, 0.1, 0.1, 0.1]])
        >>> hc.boxes.iou(a, b, format="cxcywh", pairwise=True)
        array([[0.5, 0. ]])
        >>> hc.boxes.iou(np.array([0.0, 2.0]), np.array([1.0, 4.0]), format="xx")  # spans of time
        array(0.25)
    """
    pair = _pair(a, b, format, pairwise, form, backend)
    intersection, union, _ = _areas(pair)
    return _over(pair, intersection, union)


def giou(
    a: Array,
    b: Array,
    *,
    format: Format,
    pairwise: bool = False,
    form: Form = "safe",
    backend: str | Backend | None = None,
) -> Array:
    """Return the generalised IoU, in [-1, 1]: IoU less the empty part of the hull of both boxes.

    With the smallest box C around both, ``IoU - (C - union) / C``. Arguments, result and errors
    are those of `iou`.

    Reference:
        Rezatofighi et al., Generalized Intersection over Union, CVPR 2019.

    Examples:
        >>> a = np.array([[0.5, 0.5, 0.4, 0.4]])
        >>> b = np.array([[0.5, 0.5, 0.4, 0.2], [0.1, 0.1, 0.1, 0.1]])
        >>> hc.boxes.giou(a, b, format="cxcywh", pairwise=True).round(4)
        array([[ 0.5   , -0.5976]])
    """
    pair = _pair(a, b, format, pairwise, form, backend)
    intersection, union, hull = _areas(pair)
    return _over(pair, intersection, union) - _over(pair, hull - union, hull)


def diou(
    a: Array,
    b: Array,
    *,
    format: Format,
    pairwise: bool = False,
    form: Form = "safe",
    backend: str | Backend | None = None,
) -> Array:
    """Return the distance IoU, in [-1, 1]: ``IoU - d**2 / c**2``.

    d is the distance of the centres and c the diagonal of the smallest box around both.
    Arguments, result and errors are those of `iou`.

    Reference:
        Zheng et al., Distance-IoU Loss, AAAI 2020, equations 5 to 7.

    Examples:
        >>> a, b = np.array([[0.5, 0.5, 0.4, 0.4]]), np.array([[0.5, 0.5, 0.4, 0.2]])
        >>> hc.boxes.diou(a, b, format="cxcywh").round(4)
        array([0.5])
    """
    pair = _pair(a, b, format, pairwise, form, backend)
    intersection, union, _ = _areas(pair)
    return _over(pair, intersection, union) - _distance(pair)


def ciou(
    a: Array,
    b: Array,
    *,
    format: Format,
    pairwise: bool = False,
    form: Form = "safe",
    backend: str | Backend | None = None,
) -> Array:
    """Return the complete IoU: ``DIoU - alpha * v``, which compares aspect ratios too.

    ``v = (2 / pi * (atan(w_b / h_b) - atan(w_a / h_a)))**2`` and ``alpha = v / (1 - IoU + v)``,
    a constant for gradients, as published. A box without sides counts as a square, and `alpha`
    is 0 at ``a == b``, where the published form gives NaN. Only boxes of two axes have one.
    Arguments, result and errors are those of `iou`.

    Reference:
        Zheng et al., Distance-IoU Loss, AAAI 2020, equations 8 to 12.

    Examples:
        >>> a, b = np.array([[0.5, 0.5, 0.4, 0.4]]), np.array([[0.5, 0.5, 0.4, 0.2]])
        >>> hc.boxes.ciou(a, b, format="cxcywh").round(4)
        array([0.4968])
    """
    checks.planar(format)
    pair = _pair(a, b, format, pairwise, form, backend)
    intersection, union, _ = _areas(pair)
    overlap = _over(pair, intersection, union)
    turn = (_angle(pair, pair.b) - _angle(pair, pair.a)) * (2 / math.pi)
    v = turn * turn
    alpha = pair.backend.stop_gradient(_over(pair, v, 1 - overlap + v))
    return overlap - _distance(pair) - alpha * v


class _Pair(NamedTuple):
    """Two sets of boxes, broadcast against each other, `[..., axes]` each: what overlaps need."""

    a: Array  # sides of a
    b: Array  # sides of b
    inner: Array  # sides of the intersection
    outer: Array  # sides of the smallest box around both
    offset: Array  # from the centre of a to that of b
    axes: int
    safe: bool
    backend: Backend
    xp: Namespace


def _pair(
    a: Array,
    b: Array,
    format: str,
    pairwise: bool,
    form: str,
    backend: str | Backend | None,
) -> _Pair:
    """Check two sets of boxes and compare their corners."""
    checks.options(format, form)
    backend = get_backend(backend, a=a, b=b)
    a, b = both(a, b, backend)
    b, _ = _checked("b", b, format, backend)
    a, xp = _checked("a", a, format, backend, like=b)
    checks.paired(backend.shape(a), backend.shape(b), 2 * checks.FORMATS[format], pairwise)
    wide = common_dtype(a, b, xp)
    a, b = xp.astype(a, wide, copy=False), xp.astype(b, wide, copy=False)
    if pairwise:
        a, b = a[..., :, None, :], b[..., None, :, :]
    safe = form == "safe"
    if safe:
        # No measure depends on the unit of length. In this one no difference of corners overflows.
        a, b = a * 0.125, b * 0.125
    (a_low, a_high), (b_low, b_high) = _corners(a, format), _corners(b, format)
    if safe:
        a_low, a_high = _upright(xp, a_low, a_high)
        b_low, b_high = _upright(xp, b_low, b_high)
    (lowest, low), (high, highest) = ordered(xp, a_low, b_low), ordered(xp, a_high, b_high)
    outer = highest - lowest
    return _Pair(
        a_high - a_low,
        b_high - b_low,
        positive(xp, high - low),
        outer if safe else positive(xp, outer),
        ((b_low + b_high) - (a_low + a_high)) * 0.5,
        checks.FORMATS[format],
        safe,
        backend,
        xp,
    )


def _areas(pair: _Pair) -> tuple[Array, Array, Array]:
    """Return the areas of intersection, union and hull, in a unit of their own if safe."""
    a, b, inner, outer = pair.a, pair.b, pair.inner, pair.outer
    if pair.safe:
        # A ratio of areas does not depend on the scale of either axis: with the hull as unit
        # nothing overflows or vanishes, and the unit is as good as constant for gradients.
        unit = _unit(pair, outer)
        a, b, inner, outer = a / unit, b / unit, inner / unit, outer / unit
    common, of_a, of_b, hull = (_product(x, pair.axes) for x in (inner, a, b, outer))
    return common, of_a + of_b - common, hull


def _distance(pair: _Pair) -> Array:
    """Return the squared distance of the centres over the squared diagonal of the hull."""
    xp, offset, outer = pair.xp, pair.offset, pair.outer
    if pair.safe:
        unit = _unit(pair, xp.max(outer, axis=-1, keepdims=True))
        offset, outer = offset / unit, outer / unit
    return _over(pair, xp.sum(offset * offset, axis=-1), xp.sum(outer * outer, axis=-1))


def _angle(pair: _Pair, sides: Array) -> Array:
    """Return atan(width / height)."""
    xp = pair.xp
    if not pair.safe:
        return xp.atan(sides[..., 0] / sides[..., 1])
    sides = sides / _unit(pair, xp.max(sides, axis=-1, keepdims=True))
    width, height = sides[..., 0], sides[..., 1]
    # Of the shorter by the longer side, which is never infinite.
    wide = width > height
    short, long = xp.where(wide, height, width), xp.where(wide, width, height)
    angle = xp.atan(_over(pair, short, long, otherwise=1))
    return xp.where(wide, math.pi / 2 - angle, angle)


def _unit(pair: _Pair, length: Array) -> Array:
    """Return a length as a constant to divide by."""
    length = pair.backend.stop_gradient(length)
    return pair.xp.where(length <= TINY, 1, length)


def _over(pair: _Pair, x: Array, y: Array, otherwise: float = 0) -> Array:
    """Return x / y; in the safe form, `otherwise` where y is too small to divide by."""
    return over(pair.xp, x, y, otherwise) if pair.safe else x / y


def _corners(boxes: Array, format: str) -> tuple[Array, Array]:
    """Return the corners of least and of greatest coordinates, `[..., axes]` each."""
    axes = checks.FORMATS[format]
    first, second = boxes[..., :axes], boxes[..., axes:]
    if format in _CORNERS:
        return first, second
    if format in _CORNER:
        return first, first + second
    return first - second * 0.5, first + second * 0.5


def _upright(xp: Namespace, low: Array, high: Array) -> tuple[Array, Array]:
    """Return corners with negative sides drawn together at their middle."""
    inverted = high < low
    middle = (low + high) * 0.5
    return xp.where(inverted, middle, low), xp.where(inverted, middle, high)


def _product(sides: Array, axes: int) -> Array:
    product = sides[..., 0]
    for axis in (1, 2)[: axes - 1]:
        product = product * sides[..., axis]
    return product


def _checked(
    name: str, boxes: Array, format: str, backend: Backend, like: Array | None = None
) -> tuple[Array, Namespace]:
    """Return boxes in the backend's arrays, and their namespace."""
    boxes = backend.asarray(boxes, like=like)
    xp = backend.namespace(boxes)
    checks.boxes(name, backend.shape(boxes), 2 * checks.FORMATS[format])
    core_checks.real(name, boxes, xp)
    return boxes, xp
