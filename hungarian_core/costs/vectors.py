"""Pairwise matching costs.

A cost is a function ``cost(xp, a, b)`` of two arrays of feature vectors that broadcast against
each other; it reduces the last axis. On ``a[B, n, 1, d]`` and ``b[B, 1, m, d]`` it is the
matrix `[B, n, m]` to match on, and on the matched pairs ``a[B, n, d]`` and ``b[B, n, d]`` their
loss `[B, n]`: one text for both, so that what is minimised is what is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from hungarian_core import _checks
from hungarian_core._backend import Array, Namespace
from hungarian_core._extents import features

CostFunction = Callable[[Namespace, Array, Array], Array]


def _norm(xp: Namespace, squares: Array) -> Array:
    """Return sqrt with the gradient 0 at 0, where that of `xp.sqrt` is infinite.

    The inner `where` keeps the infinite branch out of the backward pass, which would
    otherwise multiply it by 0 and give NaN. NaN stays NaN, for `assign` to judge.
    """
    zero = squares == 0
    return xp.where(zero, 0, xp.sqrt(xp.where(zero, 1, squares)))


def sqeuclidean(xp: Namespace, a: Array, b: Array) -> Array:
    """Return the squared Euclidean distance, ``sum((a - b)**2)``.

    Examples:
        >>> hc.costs.sqeuclidean(np, np.array([[0.0, 1.0]]), np.array([[3.0, 5.0]])).round(4)
        array([25.])
    """
    difference = a - b
    return xp.sum(difference * difference, axis=-1)


def euclidean(xp: Namespace, a: Array, b: Array) -> Array:
    """Return the Euclidean distance, free of cancellation, with gradient 0 at distance 0.

    Differences are squared in the dtype of the inputs: in float32, those below 1e-22 vanish.

    Examples:
        >>> hc.costs.euclidean(np, np.array([[0.0, 1.0]]), np.array([[3.0, 5.0]])).round(4)
        array([5.])
    """
    return _norm(xp, sqeuclidean(xp, a, b))


def l1(xp: Namespace, a: Array, b: Array) -> Array:
    """Return the Manhattan distance, ``sum(|a - b|)``, with gradient 0 where a equals b.

    Examples:
        >>> hc.costs.l1(np, np.array([[0.0, 1.0]]), np.array([[3.0, 5.0]])).round(4)
        array([7.])
    """
    difference = a - b
    # JAX gives `abs` the slope 1 at 0.
    return xp.sum(xp.where(difference == 0, 0, xp.abs(difference)), axis=-1)


def cosine(xp: Namespace, a: Array, b: Array) -> Array:
    """Return ``1 - cos(a, b)``; a zero vector is at distance 1 of everything, with gradient 0.

    Examples:
        >>> hc.costs.cosine(np, np.array([[0.0, 1.0]]), np.array([[3.0, 5.0]])).round(4)
        array([0.1425])
    """
    (a, a_is_zero), (b, b_is_zero) = _unit(xp, a), _unit(xp, b)
    return 1 - xp.where(a_is_zero | b_is_zero, 0, xp.sum(a * b, axis=-1))


def angular(xp: Namespace, a: Array, b: Array) -> Array:
    """Return the angle between two directions in radians, in [0, pi].

    The directions are vectors of any length, in any number of dimensions. The error is a few
    roundings of 1 however small the angle or its complement to pi, where an arc cosine loses
    half of the digits. A zero vector is at a right angle to everything. The gradient is 0 at the
    angles 0 and pi and for a zero vector.

    Reference:
        Kahan, How Futile are Mindless Assessments of Roundoff in Floating-Point Computation?,
        2006, section 12.

    Examples:
        >>> hc.costs.angular(np, np.array([[0.0, 1.0]]), np.array([[3.0, 5.0]])).round(4)
        array([0.5404])
    """
    (a, a_is_zero), (b, b_is_zero) = _unit(xp, a), _unit(xp, b)
    undefined = a_is_zero | b_is_zero
    # A rhombus of side 1 has these diagonals, and their ratio is the tangent of half the angle.
    across, along = euclidean(xp, a, b), euclidean(xp, a, -b)
    angle = 2 * xp.atan2(across, xp.where(undefined, 1, along))
    return xp.where(undefined, math.pi / 2, angle)


def great_circle(xp: Namespace, a: Array, b: Array) -> Array:
    """Return the angle between (azimuth, elevation) and (azimuth, elevation), all in radians.

    That is the distance on the unit sphere, in [0, pi]; longitude and latitude are such angles
    too. Accuracy and gradient are those of `angular`.

    Examples:
        >>> hc.costs.great_circle(np, np.array([[0.0, 0.0]]), np.array([[np.pi, 0.0]])).round(4)
        array([3.1416])
    """
    return angular(xp, _direction(xp, a), _direction(xp, b))


def _unit(xp: Namespace, a: Array) -> tuple[Array, Array]:
    """Return vectors of length 1, and where there is none because all is 0, `[...]`."""
    # The greatest coordinate is read at its place: of a maximum, the slope is shared between what
    # equals it, and in a program that rounds one value in two ways nothing does.
    at = xp.argmax(xp.abs(a), axis=-1, keepdims=True)
    largest = xp.take_along_axis(xp.abs(a), at, axis=-1)
    zero = largest == 0
    # So that no square overflows or vanishes: first, by a power of e that is a normal number and,
    # with its floor, a constant, to near 1, where the slopes of what follows are numbers too.
    power = xp.floor(xp.log(xp.where(zero, 1, largest)))
    most = math.floor(0.9 * math.log(float(xp.finfo(a.dtype).max)))
    power = xp.where(power > most, most, xp.where(power < -most, -most, power))
    a = a * xp.exp(-power)
    a = a / xp.where(zero, 1, xp.take_along_axis(xp.abs(a), at, axis=-1))
    squares = xp.sum(a * a, axis=-1, keepdims=True)
    return a / xp.sqrt(xp.where(zero, 1, squares)), zero[..., 0]


def _direction(xp: Namespace, angles: Array) -> Array:
    _checks.numbers("great_circle", features(angles), 2, "azimuth and elevation")
    azimuth, elevation = angles[..., 0], angles[..., 1]
    level = xp.cos(elevation)
    x, y, z = level * xp.cos(azimuth), level * xp.sin(azimuth), xp.sin(elevation)
    return xp.stack([x, y, z], axis=-1)


def points(xp: Namespace, a: Array, b: Array) -> Array:
    """Return the mean Euclidean distance of K points, ``(x1, y1, x2, y2, ...)`` along the axis.

    It compares polylines, such as lanes, and outlines sampled at K points in order. A point at
    distance 0 has the gradient 0.

    Examples:
        >>> hc.costs.points(np, np.array([[0.0, 0.0, 1.0, 1.0]]), np.array([[3.0, 4.0, 1.0, 1.0]]))
        array([2.5])
    """
    difference = a - b
    _checks.numbers("points", features(difference), 2, "x and y of every point", times=True)
    x, y = difference[..., 0::2], difference[..., 1::2]
    return xp.mean(_norm(xp, x * x + y * y), axis=-1)


COSTS: dict[str, CostFunction] = {
    "euclidean": euclidean,
    "sqeuclidean": sqeuclidean,
    "l1": l1,
    "cosine": cosine,
    "angular": angular,
    "great_circle": great_circle,
    "points": points,
}
