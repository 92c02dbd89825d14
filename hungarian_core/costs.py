"""Pairwise matching costs.

A cost is a function ``cost(xp, a, b)`` of two arrays of feature vectors that broadcast against
each other; it reduces the last axis. On ``a[B, n, 1, d]`` and ``b[B, 1, m, d]`` it is the
matrix `[B, n, m]` to match on, and on the matched pairs ``a[B, n, d]`` and ``b[B, n, d]`` their
loss `[B, n]`: one text for both, so that what is minimised is what is measured.
"""

from __future__ import annotations

from collections.abc import Callable

from hungarian_core._backend import Array, Namespace

CostFunction = Callable[[Namespace, Array, Array], Array]


def _norm(xp: Namespace, squares: Array) -> Array:
    """Return sqrt with the gradient 0 at 0, where that of `xp.sqrt` is infinite.

    The inner `where` keeps the infinite branch out of the backward pass, which would
    otherwise multiply it by 0 and give NaN. NaN stays NaN, for `assign` to judge.
    """
    zero = squares == 0
    return xp.where(zero, 0, xp.sqrt(xp.where(zero, 1, squares)))


def sqeuclidean(xp: Namespace, a: Array, b: Array) -> Array:
    """Return the squared Euclidean distance, ``sum((a - b)**2)``."""
    difference = a - b
    return xp.sum(difference * difference, axis=-1)


def euclidean(xp: Namespace, a: Array, b: Array) -> Array:
    """Return the Euclidean distance, free of cancellation, with gradient 0 at distance 0.

    Differences are squared in the dtype of the inputs: in float32, those below 1e-22 vanish.
    """
    return _norm(xp, sqeuclidean(xp, a, b))


def l1(xp: Namespace, a: Array, b: Array) -> Array:
    """Return the Manhattan distance, ``sum(|a - b|)``, with gradient 0 where a equals b."""
    difference = a - b
    # JAX gives `abs` the slope 1 at 0.
    return xp.sum(xp.where(difference == 0, 0, xp.abs(difference)), axis=-1)


def cosine(xp: Namespace, a: Array, b: Array) -> Array:
    """Return ``1 - cos(a, b)``; a zero vector is at distance 1 of everything, with gradient 0."""
    norms = _norm(xp, xp.sum(a * a, axis=-1)) * _norm(xp, xp.sum(b * b, axis=-1))
    zero = norms == 0
    return 1 - xp.where(zero, 0, xp.sum(a * b, axis=-1) / xp.where(zero, 1, norms))


COSTS: dict[str, CostFunction] = {
    "euclidean": euclidean,
    "sqeuclidean": sqeuclidean,
    "l1": l1,
    "cosine": cosine,
}
