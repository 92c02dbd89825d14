"""Equivalent orders of points, and the nearest of them."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from hungarian_core import _checks as core_checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._dtypes import common_dtype, index_dtype
from hungarian_core._inputs import both
from hungarian_core._registry import get_backend
from hungarian_core.polylines import _checks as checks

Reduce = Literal["sum", "mean"]
REDUCTIONS = ("sum", "mean")


class Alignment(NamedTuple):
    """Two lines in the order in which they are nearest.

    Attributes:
        distance: `[...]`, the L1 distance in this order.
        order: `[...]` index, the number of the order, see :mod:`hungarian_core.polylines`.
        points: `[..., K, d]`, the points of the second line in this order.
    """

    distance: Array
    order: Array
    points: Array


def align(
    a: Array,
    b: Array,
    *,
    closed: bool | Array = False,
    repeated: bool = False,
    directed: bool = False,
    reduce: Reduce = "sum",
    backend: str | Backend | None = None,
) -> Alignment:
    """Return the order of the points of `b` in which they are nearest to those of `a`.

    Args:
        a: `(..., K, d)`, K points of a line.
        b: `(..., K, d)`; the axes before the last two broadcast against those of `a`.
        closed: Whether the lines of `b` are closed: for all, or bool `(...)` for each.
        repeated: Whether the last point of closed lines repeats the first, as in MapTR; if not,
            the edge from the last to the first point is understood.
        directed: Whether lines have a direction, as lanes have. Then the reverse is no equivalent.
        reduce: ``"sum"`` of the L1 distances of all points, or their ``"mean"``.
        backend: A backend's name or instance, to which other arrays are converted; by default
            the one of the arrays.

    Returns:
        The distance, the order and the points, in the broadcast shape; in the dtype of the lines,
        or float32 for float16 and bfloat16, in which nothing is computed.

    Raises:
        ValueError: An option is unknown, or shapes or dtypes do not fit.

    Reference:
        Liao et al., MapTR: Structured Modeling and Learning for Online Vectorized HD Map
        Construction, ICLR 2023, equations 1, 2 and 5.

    Examples:
        >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> found = hc.polylines.align(square, square[[2, 1, 0, 3]], closed=True)
        >>> float(found.distance), int(found.order)
        (0.0, 5)
        >>> found.points.tolist() == square.tolist()
        True
    """
    core_checks.one_of("reduce", reduce, REDUCTIONS)
    backend = get_backend(backend, a=a, b=b)
    a, b, xp = lines(a, b, backend)
    closed = flags(closed, b, backend, xp)
    shape, stop = backend.shape, backend.stop_gradient
    apart, codes = of_orders(stop(a), stop(b), closed, repeated, directed, reduce, backend, xp)
    nearest = xp.argmin(apart, axis=-1)
    order = xp.reshape(xp.take(codes, xp.reshape(nearest, (-1,)), axis=0), shape(nearest))
    points = reordered(b, order, repeated, backend, xp)
    return Alignment(distance(a, points, reduce, xp), order, points)


def reorder(
    points: Array,
    order: Array,
    *,
    repeated: bool = False,
    backend: str | Backend | None = None,
) -> Array:
    """Return what the points of lines have in an order that `align` has taken.

    Args:
        points: `(..., K, d)`, anything that K points have.
        order: `(...)` integers, the number of the order, see :mod:`hungarian_core.polylines`; it
            broadcasts against the first axes of `points`.
        repeated: As for `align`.
        backend: As for `align`.

    Returns:
        `(..., K, d)` in the broadcast shape, in the dtype of `points`.

    Raises:
        ValueError: Shapes or dtypes do not fit.

    Examples:
        >>> kerb = np.array([[[1.0], [2.0], [3.0], [4.0]]])
        >>> hc.polylines.reorder(kerb, np.array([5]))[0, :, 0]
        array([3., 2., 1., 4.])
    """
    backend = get_backend(backend, points=points)
    points = backend.asarray(points)
    order, xp = backend.asarray(order, like=points), backend.namespace(points)
    checks.lines(backend.shape(points), backend.shape(points))
    checks.order(order, xp)
    order = xp.astype(order, index_dtype(xp), copy=False)
    missing = points.ndim - 2 - order.ndim
    return reordered(points, order[(*(None,) * missing, ...)], repeated, backend, xp)


def lines(
    a: Array, b: Array, backend: Backend, *, equally_many: bool = True
) -> tuple[Array, Array, Namespace]:
    """Return two lines in the dtype to compute in, of equally many axes, and the namespace."""
    a, b = both(a, b, backend)
    xp = backend.namespace(a, b)
    checks.lines(backend.shape(a), backend.shape(b), equally_many=equally_many)
    for name, x in (("a", a), ("b", b)):
        core_checks.real(name, x, xp)
    wide = common_dtype(a, b, xp)
    a, b = xp.astype(a, wide, copy=False), xp.astype(b, wide, copy=False)
    rank = max(a.ndim, b.ndim)
    a, b = (x[(*(None,) * (rank - x.ndim), ...)] for x in (a, b))
    return a, b, xp


def flags(closed: bool | Array, b: Array, backend: Backend, xp: Namespace) -> bool | Array:
    """Return which lines are closed: for all, or `[...]` with as many axes as there are of them."""
    if isinstance(closed, bool):
        return closed
    closed = backend.asarray(closed, like=b)
    checks.closed(closed, backend.shape(closed), backend.shape(b), xp)
    return closed[(*(None,) * (b.ndim - 2 - closed.ndim), ...)]


def places(points: Array, backend: Backend, xp: Namespace) -> Array:
    """Return 0 to K - 1 as indices `[K]`, of `[..., K, d]`."""
    *_, count, coordinates = backend.shape(points)
    nothing = xp.zeros_like(xp.reshape(points, (-1, count, coordinates))[:0, :, 0])
    line = xp.cumulative_sum(xp.sum(nothing, axis=0) + 1) - 1
    return xp.astype(line, index_dtype(xp), copy=False)


def order_codes(
    points: Array, closed: bool | Array, directed: bool, backend: Backend, xp: Namespace
) -> Array:
    """Return the numbers `[O]` of the orders that there are, the first being 0."""
    codes = places(points, backend, xp)
    if isinstance(closed, bool) and not closed:
        codes = codes[:1]
    return codes if directed else xp.concat([codes, codes + backend.shape(points)[-2]], axis=0)


def in_orders(
    points: Array, codes: Array, repeated: bool, backend: Backend, xp: Namespace
) -> Array:
    """Return `[..., O, K, d]`: the points `[..., K, d]` in the orders `[O]`."""
    *lead, count, coordinates = backend.shape(points)
    at = _points_of(codes, places(points, backend, xp), count, repeated, xp)
    found = xp.take(points, xp.reshape(at, (-1,)), axis=points.ndim - 2)
    return xp.reshape(found, (*lead, backend.shape(codes)[0], count, coordinates))


def reordered(
    points: Array, order: Array, repeated: bool, backend: Backend, xp: Namespace
) -> Array:
    """Return the points `[..., K, d]` in the orders `[...]` of as many axes, which broadcast."""
    count = backend.shape(points)[-2]
    at = _points_of(order, places(points, backend, xp), count, repeated, xp)
    return gathered(points, at, backend, xp)


def gathered(points: Array, at: Array, backend: Backend, xp: Namespace) -> Array:
    """Return the points `[..., J]` of lines `[..., K, d]`; the axes before broadcast."""
    # Written out: of extents that a program does not know nobody can tell which one is stretched.
    shape = backend.shape
    lead = shape(xp.zeros_like(at[..., 0]) + xp.zeros_like(points[..., 0, 0], dtype=at.dtype))
    points = xp.broadcast_to(points, (*lead, *shape(points)[-2:]))
    at = xp.broadcast_to(at, (*lead, shape(at)[-1]))
    return xp.take_along_axis(points, at[..., None], axis=points.ndim - 2)


def _points_of(order: Array, places: Array, count: Any, repeated: bool, xp: Namespace) -> Array:
    """Return which points `[..., K]` are at the places `[K]` in an order `[...]`."""
    order, places = order[..., None], places[(*(None,) * order.ndim, ...)]
    reverse = order >= count
    at = xp.where(reverse, order - count, order) + places
    # A line that repeats its first point comes round after K - 1 points.
    at = xp.where(at >= count, at - (count - 1 if repeated else count), at)
    return xp.where(reverse, count - 1 - at, at)


def of_orders(
    a: Array,
    b: Array,
    closed: bool | Array,
    repeated: bool,
    directed: bool,
    reduce: str,
    backend: Backend,
    xp: Namespace,
) -> tuple[Array, Array]:
    """Return the distances `[..., O]` of lines in all orders, constants, and their numbers `[O]`.

    Where some lines are open and others closed, orders that an open line has not are at infinity.
    """
    codes = order_codes(b, closed, directed, backend, xp)
    apart = distances(a, in_orders(b, codes, repeated, backend, xp), reduce, xp)
    if not isinstance(closed, bool):
        whole = (codes == 0) | (codes == backend.shape(b)[-2])
        whole = whole[(*(None,) * (b.ndim - 2), ...)]
        apart = xp.where(whole | closed[..., None], apart, float("inf"))
    return apart, codes


def distances(a: Array, candidates: Array, reduce: str, xp: Namespace) -> Array:
    """Return the L1 distances `[..., O]` of `[..., K, d]` and `[..., O, K, d]`, constants."""
    each = xp.sum(xp.abs(a[..., None, :, :] - candidates), axis=-1)
    return xp.mean(each, axis=-1) if reduce == "mean" else xp.sum(each, axis=-1)


def nearest_of(a: Array, candidates: Array, backend: Backend, xp: Namespace) -> Array:
    """Return that one of `[..., O, K, d]` which is nearest to `[..., K, d]`."""
    stop = backend.stop_gradient
    nearest = xp.argmin(distances(stop(a), stop(candidates), "sum", xp), axis=-1)
    at = nearest[..., None, None, None]
    return xp.take_along_axis(candidates, at, axis=candidates.ndim - 3)[..., 0, :, :]


def distance(a: Array, b: Array, reduce: str, xp: Namespace) -> Array:
    """Return the L1 distance `[...]` of `[..., K, d]`, with the gradient 0 where it is 0."""
    difference = a - b
    # JAX gives `abs` the slope 1 at 0.
    each = xp.sum(xp.where(difference == 0, 0, xp.abs(difference)), axis=-1)
    return xp.mean(each, axis=-1) if reduce == "mean" else xp.sum(each, axis=-1)
