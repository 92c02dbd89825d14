"""Ratios and maxima with sound slopes, of which overlaps are made, and the dtype for them."""

from __future__ import annotations

from hungarian_core._backend import Array, Namespace

# Below it a denominator counts as 0. Its square is a normal number of float32, and so is the
# greatest slope there is, 1 / TINY of a ratio in units of TINY.
TINY = 1e-18


def over(xp: Namespace, x: Array, y: Array, otherwise: float = 0) -> Array:
    """Return x / y; `otherwise` where y is too small to divide by."""
    small = y <= TINY
    # The inner `where` keeps the infinite branch out of the backward pass.
    return xp.where(small, otherwise, x / xp.where(small, 1, y))


def positive(xp: Namespace, x: Array) -> Array:
    """Return max(x, 0) with the slope 1 at 0, from which a box can grow."""
    return xp.where(x < 0, 0, x)


def ordered(xp: Namespace, x: Array, y: Array) -> tuple[Array, Array]:
    """Return the minimum and the maximum, of slope 1/2 if equal, which frameworks differ about."""
    less, more, middle = x < y, x > y, x * 0.5 + y * 0.5
    return (
        xp.where(less, x, xp.where(more, y, middle)),
        xp.where(more, x, xp.where(less, y, middle)),
    )
