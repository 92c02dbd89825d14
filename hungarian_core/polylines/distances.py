"""Distances of lines other than that of their points in order."""

from __future__ import annotations

from collections.abc import Sequence

from hungarian_core import _checks as core_checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._registry import get_backend
from hungarian_core.costs.vectors import cosine, euclidean
from hungarian_core.polylines import _checks as checks
from hungarian_core.polylines.orders import REDUCTIONS, Reduce, flags, gathered, lines, places


def direction_loss(
    a: Array,
    b: Array,
    *,
    closed: bool | Array = False,
    scale: Sequence[float] | None = None,
    reduce: Reduce = "sum",
    backend: str | Backend | None = None,
) -> Array:
    """Return ``1 - cos`` of the angles between the edges of two lines, in [0, 2] per edge.

    Edge k goes from point k to the next. An edge without a length is at a right angle to
    everything, with gradient 0.

    Args:
        a: `(..., K, d)`, K points of a line.
        b: `(..., K, d)`, in the order that is to be compared; the axes before the last two
            broadcast against those of `a`.
        closed: Whether there is an edge from the last point to the first: for all, or bool `(...)`
            for each. Lines that repeat their first point have it without.
        scale: The units of the coordinates, d numbers, where they differ, such as (30, 60) for
            points relative to a map of 30 m by 60 m: angles are those in metres.
        reduce: ``"sum"`` over the edges, or their ``"mean"``.
        backend: As for `align`.

    Returns:
        The broadcast shape without the last two axes.

    Raises:
        ValueError: An option is unknown, or shapes or dtypes do not fit.

    Reference:
        Liao et al., MapTR, ICLR 2023, equation 6.

    Examples:
        >>> a = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
        >>> b = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 3.0]])
        >>> float(hc.polylines.direction_loss(a, b))
        1.0
    """
    core_checks.one_of("reduce", reduce, REDUCTIONS)
    backend = get_backend(backend, a=a, b=b)
    a, b, xp = lines(a, b, backend)
    closed = flags(closed, b, backend, xp)
    numbers = [1.0]
    if scale is not None:
        core_checks.positive("scale", *scale)
        numbers = [core_checks.number("scale", x) for x in scale]
        checks.scale(numbers, backend.shape(a)[-1])
    # No angle depends on the unit of length. In this one no difference of points overflows.
    unit = backend.asarray([x / max(numbers) * 0.125 for x in numbers], like=a)
    unit = xp.astype(unit, a.dtype, copy=False)[(*(None,) * (a.ndim - 1), ...)]
    a, b = a * unit, b * unit
    a, b = _edges(a, closed, xp), _edges(b, closed, xp)
    turns = cosine(xp, a, b)
    counted = xp.ones_like(turns)
    if not isinstance(closed, bool):
        at = places(a, backend, xp)
        last = (at == backend.shape(a)[-2] - 1)[(*(None,) * (b.ndim - 2), ...)]
        open_end = last & ~closed[..., None]
        turns, counted = xp.where(open_end, 0, turns), xp.where(open_end, 0, counted)
    total = xp.sum(turns, axis=-1)
    if reduce == "sum":
        return total
    number = xp.sum(counted, axis=-1)
    return total / xp.where(number > 0, number, 1)


def chamfer_distance(a: Array, b: Array, *, backend: str | Backend | None = None) -> Array:
    """Return the mean distance of the points of two lines from the nearest point of the other.

    That is half of ``mean_i min_j |a_i - b_j| + mean_j min_i |a_i - b_j|`` with Euclidean
    distances, whatever the order of the points, of which the lines may have different numbers. Of
    points that are equally near, the gradient goes through the first.

    Args:
        a: `(..., K, d)`, K points of a line.
        b: `(..., J, d)`; the axes before the last two broadcast against those of `a`.
        backend: As for `align`.

    Returns:
        The broadcast shape without the last two axes.

    Raises:
        ValueError: Shapes or dtypes do not fit.

    Reference:
        Li et al., HDMapNet, ICRA 2022, equations 5 and 6, halved as in the evaluation of
        VectorMapNet and MapTR.

    Examples:
        >>> a = np.array([[0.0, 0.0], [3.0, 0.0]])
        >>> b = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]])
        >>> round(float(hc.polylines.chamfer_distance(a, b)), 4)
        1.4167
    """
    backend = get_backend(backend, a=a, b=b)
    a, b, xp = lines(a, b, backend, equally_many=False)
    stop = backend.stop_gradient
    apart = stop(a)[..., :, None, :] - stop(b)[..., None, :, :]
    # So that no square overflows, and of those that matter none vanishes.
    apart = apart / _unit(xp.max(xp.abs(apart), axis=(-3, -2, -1), keepdims=True), xp)
    squares = xp.sum(apart * apart, axis=-1)
    of_a, of_b = xp.argmin(squares, axis=-1), xp.argmin(squares, axis=-2)
    there = gathered(b, of_a, backend, xp)
    back = gathered(a, of_b, backend, xp)
    forth = xp.mean(_length(a - there, backend, xp), axis=-1)
    return (forth + xp.mean(_length(b - back, backend, xp), axis=-1)) * 0.5


def _edges(points: Array, closed: bool | Array, xp: Namespace) -> Array:
    """Return from each point the step to the next, `[..., K - 1, d]`; K where some are closed."""
    if isinstance(closed, bool) and not closed:
        return points[..., 1:, :] - points[..., :-1, :]
    following = xp.concat([points[..., 1:, :], points[..., :1, :]], axis=-2)
    return following - points


def _length(x: Array, backend: Backend, xp: Namespace) -> Array:
    """Return the lengths of vectors, with the gradient 0 at 0."""
    # A constant of their size, so that no square overflows; the slopes stay as they are.
    unit = _unit(backend.stop_gradient(xp.max(xp.abs(x), axis=-1, keepdims=True)), xp)
    return euclidean(xp, x / unit, xp.zeros_like(x)) * unit[..., 0]


def _unit(size: Array, xp: Namespace) -> Array:
    """Return a size to divide by: 1 where it is no normal number, which some devices take for 0."""
    return xp.where(size < 4 / float(xp.finfo(size.dtype).max), 1, size)
