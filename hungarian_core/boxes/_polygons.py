"""Two rotated boxes beside each other: the areas of their intersection and of their hull."""

from __future__ import annotations

from typing import Any, NamedTuple

from hungarian_core import _checks as core_checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._dtypes import common_dtype
from hungarian_core._inputs import both
from hungarian_core._registry import get_backend
from hungarian_core.boxes import _checks as checks
from hungarian_core.boxes._arithmetic import TINY, positive


class Rotated(NamedTuple):
    """Boxes a as those of b see them, which are upright at the origin; `[...]` each.

    Lengths are in a unit in which none is more than 1: no ratio of areas depends on it.
    """

    x: Array  # the centre of a
    y: Array
    cos: Array  # of the angle from b to a
    sin: Array
    a_width: Array  # half of each side
    a_height: Array
    b_width: Array
    b_height: Array
    unit: Array  # a constant
    backend: Backend
    xp: Namespace


def read(
    a: Array, b: Array, size: int, pairwise: bool, backend: str | Backend | None
) -> tuple[Array, Array, Backend, Namespace]:
    """Check two sets of boxes of so many numbers, and return them in a common dtype."""
    backend = get_backend(backend, a=a, b=b)
    a, b = both(a, b, backend)
    b = backend.asarray(b)
    a = backend.asarray(a, like=b)
    xp = backend.namespace(a)
    for name, x in (("b", b), ("a", a)):
        checks.boxes(name, backend.shape(x), size)
        core_checks.real(name, x, xp)
    checks.paired(backend.shape(a), backend.shape(b), size, pairwise)
    wide = common_dtype(a, b, xp)
    a, b = xp.astype(a, wide, copy=False), xp.astype(b, wide, copy=False)
    if pairwise:
        a, b = a[..., :, None, :], b[..., None, :, :]
    return a, b, backend, xp


def compared(a: Array, b: Array, backend: Backend, xp: Namespace) -> Rotated:
    """Return boxes (cx, cy, w, h, angle) side by side; a negative side counts as 0."""
    # So that no difference of coordinates overflows.
    lengths = a[..., :4] * 0.125, b[..., :4] * 0.125
    x = lengths[0][..., 0] - lengths[1][..., 0]
    y = lengths[0][..., 1] - lengths[1][..., 1]
    sides = [positive(xp, half[..., k] * 0.5) for half in lengths for k in (2, 3)]
    unit = xp.maximum(xp.abs(x), xp.abs(y))
    for side in sides:
        unit = xp.maximum(unit, side)
    unit = backend.stop_gradient(unit)
    unit = xp.where(unit <= TINY, 1, unit)
    x, y = x / unit, y / unit
    cos, sin = xp.cos(b[..., 4]), xp.sin(b[..., 4])
    # By half of the angle, so that of equal angles it is 0 and its cosine 1, however large they
    # are: boxes that are the same, or share an edge, are known for that.
    half = a[..., 4] * 0.5 - b[..., 4] * 0.5
    half_cos, half_sin = xp.cos(half), xp.sin(half)
    return Rotated(
        x * cos + y * sin,
        y * cos - x * sin,
        1 - 2 * half_sin * half_sin,
        2 * half_sin * half_cos,
        sides[0] / unit,
        sides[1] / unit,
        sides[2] / unit,
        sides[3] / unit,
        unit,
        backend,
        xp,
    )


def areas(pair: Rotated) -> tuple[Array, Array]:
    """Return the areas of a and b."""
    return 4 * pair.a_width * pair.a_height, 4 * pair.b_width * pair.b_height


def intersection(pair: Rotated) -> Array:
    """Return the area of the intersection, exactly 0 for boxes that are apart.

    By Green's theorem it is the integral along the outline of a of x dy, with x drawn into the
    width of b and y into its height. Unlike a walk along the outline of the intersection it has no
    cases: it is continuous in all that it reads, so no rounding makes it wrong by more than that.
    """
    xp, x, y, cos, sin = pair.xp, pair.x, pair.y, pair.cos, pair.sin
    width, height = pair.b_width[None, ...], pair.b_height[None, ...]
    x0 = _corners(xp, x, pair.a_width * cos, -pair.a_height * sin)
    y0 = _corners(xp, y, pair.a_width * sin, pair.a_height * cos)
    x1, drop = _next(xp, x0), _next(xp, y0) - y0
    # Each edge is cut where it leaves the height of b.
    low = _within(xp, y0, height)
    high = _next(xp, low)
    cut = (low - y0), (high - (y0 + drop))
    start = x0 + (x1 - x0) * _ratio(xp, cut[0], drop)
    end = x1 + (x1 - x0) * _ratio(xp, cut[1], drop)
    # The mean of x along the rest, drawn into the width of b: what is beyond counts as the edge.
    first, last = _within(xp, start, width), _within(xp, end, width)
    beyond = (start - first) + (end - last)
    mean = (first + last) * 0.5 + beyond * 0.5 * _ratio(xp, last - first, end - start)
    area = positive(xp, xp.sum((high - low) * mean, axis=0))
    return xp.where(_apart(pair), 0, area)


def hull(pair: Rotated) -> Array:
    """Return the area of the smallest convex polygon around both.

    The normals of the edges of a and b take turns around the circle, and between two of them each
    box has one corner that is farthest out. Which of the two corners is farther is asked at the
    eight normals; between two answers that differ lies an edge from one box to the other. Where
    both are as far, the point between them is taken, so that the slope is one between both.
    """
    xp = pair.xp
    # A turn by a right angle exchanges the sides of a; what is left is no more than one.
    turned = pair.cos * pair.sin < 0
    sign = xp.where(xp.where(turned, pair.sin, pair.cos) < 0, -xp.ones_like(pair.cos), 1)
    cos = sign * xp.where(turned, pair.sin, pair.cos)
    sin = sign * xp.where(turned, -pair.cos, pair.sin)
    along = xp.where(turned, pair.a_height, pair.a_width)
    across = xp.where(turned, pair.a_width, pair.a_height)

    zero, one = xp.zeros_like(cos), xp.ones_like(cos)
    # Where edges of a and b are parallel, their normals have no order. Between them lie the
    # middles of the edges then, so that the slope by the angle favours no order.
    between = xp.where(sin == 0, 0.5 * one, zero)
    a_x = _corners(xp, pair.x, along * cos, -across * sin)
    a_y = _corners(xp, pair.y, along * sin, across * cos)
    b_x = _corners(xp, zero, pair.b_width * one, zero)
    b_y = _corners(xp, zero, zero, pair.b_height * one)
    between = between[None, ...]
    # Sectors by turns begin at a normal of b, where a still has the corner before, and of a.
    a_x, a_y = (_by_turns(xp, _last(xp, x), x, between) for x in (a_x, a_y))
    b_x, b_y = (_by_turns(xp, x, _last(xp, x), between, x) for x in (b_x, b_y))
    normal_x = xp.stack([one, cos, zero, -sin, -one, -cos, zero, sin], axis=0)
    normal_y = xp.stack([zero, sin, one, cos, zero, -sin, -one, -cos], axis=0)
    off_x, off_y = a_x - b_x, a_y - b_y
    gap = off_x * normal_x + off_y * normal_y
    share = xp.where(
        gap > 0, xp.ones_like(gap), xp.where(gap < 0, xp.zeros_like(gap), 0.5 * xp.ones_like(gap))
    )
    following = _next(xp, share)
    x0, y0 = b_x + share * off_x, b_y + share * off_y
    x1, y1 = b_x + following * off_x, b_y + following * off_y
    x2, y2 = _next(xp, x0), _next(xp, y0)
    return 0.5 * xp.sum((x0 * y1 - x1 * y0) + (x1 * y2 - x2 * y1), axis=0)


def _apart(pair: Rotated) -> Array:
    """Say which boxes a line parallel to an edge separates."""
    xp, x, y = pair.xp, pair.x, pair.y
    cos, sin = xp.abs(pair.cos), xp.abs(pair.sin)
    of_a, of_b = (pair.a_width, pair.a_height), (pair.b_width, pair.b_height)
    along, across = x * pair.cos + y * pair.sin, y * pair.cos - x * pair.sin
    return (
        (xp.abs(x) > of_b[0] + of_a[0] * cos + of_a[1] * sin)
        | (xp.abs(y) > of_b[1] + of_a[0] * sin + of_a[1] * cos)
        | (xp.abs(along) > of_a[0] + of_b[0] * cos + of_b[1] * sin)
        | (xp.abs(across) > of_a[1] + of_b[0] * sin + of_b[1] * cos)
    )


def _corners(xp: Namespace, centre: Array, along: Array, across: Array) -> Array:
    """Return a coordinate of the corners of a box `[4, ...]`, one after the other."""
    return xp.stack(
        [
            centre + along + across,
            centre - along + across,
            centre - along - across,
            centre + along - across,
        ],
        axis=0,
    )


def _next(xp: Namespace, ring: Array) -> Array:
    """Return what comes after each of a ring `[k, ...]`."""
    return xp.concat([ring[1:, ...], ring[:1, ...]], axis=0)


def _last(xp: Namespace, ring: Array) -> Array:
    """Return what comes before each of a ring `[4, ...]`."""
    return xp.concat([ring[3:, ...], ring[:3, ...]], axis=0)


def _by_turns(xp: Namespace, even: Array, other: Array, share: Array, odd: Any = None) -> Array:
    """Return even 0, odd 0, even 1, odd 1 and so on, even ones a share of the way to the other."""
    even, odd = even + share * (other - even), other if odd is None else odd
    return xp.stack([x[k, ...] for k in (0, 1, 2, 3) for x in (even, odd)], axis=0)


def _within(xp: Namespace, x: Array, limit: Array) -> Array:
    """Return x drawn into [-limit, limit], at whose ends the slope is the mean of both sides."""
    inside = xp.where(x == limit, (x + limit) * 0.5, xp.where(x == -limit, (x - limit) * 0.5, x))
    return xp.where(x > limit, limit, xp.where(x < -limit, -limit, inside))


def _ratio(xp: Namespace, x: Array, y: Array) -> Array:
    """Return x / y, 0 where y is too small to divide by."""
    small = xp.abs(y) <= TINY
    return xp.where(small, 0, x / xp.where(small, 1, y))
