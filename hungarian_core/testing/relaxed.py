"""Regularised matchings by plain algorithms, and their gradients by finite differences.

Nothing here is shared with what is tested. All works on `cost[k, n, m]` of one set of valid rows
and columns, in float64, and runs so long that rounding is all that is left.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_ROUNDS = 1500
_STEP = 1e-4


def solution(
    method: str, case: Any, temperature: float, upstream: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrices `[b, n, m]` of a case and the slopes of ``sum(upstream * matrix)``."""
    solve = dykstra if method == "dykstra" else sinkhorn
    value, slopes = np.zeros((2, *case.cost.shape))
    for b, cost in enumerate(case.cost):
        rows = np.arange(cost.shape[0]) if case.rows is None else np.flatnonzero(case.rows[b])
        cols = np.arange(cost.shape[1]) if case.cols is None else np.flatnonzero(case.cols[b])
        at = np.ix_(rows, cols)
        moves = np.eye(len(rows) * len(cols)).reshape(-1, len(rows), len(cols))
        moves = _STEP * np.concatenate([[0 * moves[0]], moves, -moves, 2 * moves, -2 * moves])
        found = solve(cost[at] + moves, temperature)
        value[b][at] = found[0]
        near, back, far, far_back = np.sum(upstream[b][at] * found[1:], axis=(1, 2)).reshape(4, -1)
        slope = (8 * (near - back) - (far - far_back)) / (12 * _STEP)
        slopes[b][at] = slope.reshape(len(rows), len(cols))
    return value, slopes


def allowed(case: Any) -> np.ndarray:
    """Return which pairs `[b, n, m]` may be matched."""
    flags = np.isfinite(case.cost)
    flags = flags if case.rows is None else flags & case.rows[:, :, None]
    return flags if case.cols is None else flags & case.cols[:, None, :]


def sinkhorn(cost: np.ndarray, temperature: float, rounds: int = _ROUNDS) -> np.ndarray:
    """Return matrices of least cost less entropy; each surplus row or column has a dummy."""
    k, n, m = cost.shape
    size = max(n, m)
    kernel = np.ones((k, size, size))
    kernel[:, :n, :m] = np.exp(-(cost - np.where(np.isfinite(cost), cost, 0).mean()) / temperature)
    u = np.ones((k, size, 1))
    for _ in range(rounds):
        v = 1 / np.sum(kernel * u, axis=1, keepdims=True)
        u = 1 / np.sum(kernel * v, axis=2, keepdims=True)
    return (u * kernel * v)[:, :n, :m]


def dykstra(cost: np.ndarray, temperature: float, rounds: int = _ROUNDS) -> np.ndarray:
    """Return the projections of -cost / temperature by Dykstra's algorithm."""
    _, n, m = cost.shape
    open_ = np.isfinite(cost)
    x = np.where(open_, -np.where(open_, cost, 0) / temperature, 0)
    taken_rows = taken_cols = np.zeros_like(x)
    for _ in range(rounds):
        before = x + taken_rows
        x = _onto_rows(before, open_, n <= m)
        taken_rows = before - x
        before = x + taken_cols
        x = _onto_rows(before.swapaxes(1, 2), open_.swapaxes(1, 2), m <= n).swapaxes(1, 2)
        taken_cols = before - x
    return x


def _onto_rows(x: np.ndarray, open_: np.ndarray, even: bool) -> np.ndarray:
    """Project each row onto what is not negative, 0 where not open, and sums to (at most) 1."""
    low = np.where(open_, x, -np.inf)
    order = -np.sort(-low, axis=2)
    finite = np.isfinite(order)
    sums = np.cumsum(np.where(finite, order, 0), axis=2) - 1
    count = np.arange(1, x.shape[2] + 1)
    support = finite & (order * count > sums)
    last = np.maximum(support.sum(axis=2, keepdims=True), 1)
    shift = np.take_along_axis(sums, last - 1, axis=2) / last
    shift = shift if even else np.maximum(shift, 0)
    return np.maximum(low - shift, 0)
