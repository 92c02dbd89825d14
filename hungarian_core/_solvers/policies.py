"""The nan policy, maximize and the status of each sample, around a solver that only minimises.

Such a solver gets costs that are finite or +inf.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from hungarian_core._backend import Array, Namespace, Problem, Solution

_INF, _NAN = float("inf"), float("nan")

INVALID, INFEASIBLE = 1, 2  # of Solution.status
_ROOM = 2.0**-24  # times the largest number: what costs may be without scaling


class Matching(NamedTuple):
    """What a solver returns that minimises `cost[b, n, m]`, without NaN and -inf."""

    col4row: Array  # [b, n] index, -1 = unmatched
    row4col: Array  # [b, m] index, -1 = unmatched
    u: Array  # [b, n] row duals
    v: Array  # [b, m] column duals
    feasible: Array  # [b] bool; where False the other fields mean nothing


# Of cost[b, n, m], row_mask[b, n], col_mask[b, m] and unmatched_cost[b, n].
Minimiser = Callable[[Array, Array | None, Array | None, Array | None], Matching]


def solve_by_minimiser(
    problem: Problem, minimise: Minimiser, shape: tuple[Any, ...], xp: Namespace
) -> Solution:
    """Solve a problem whose cost has `shape` by a solver that only minimises valid costs."""
    *batch, n, m = shape
    size = math.prod(batch)
    cost, rows, cols, unmatched_cost, maximize, nan = problem
    cost = xp.reshape(cost, (size, n, m))
    rows, cols, unmatched_cost = (
        None if x is None else xp.reshape(x, (size, extent))
        for x, extent in ((rows, n), (cols, m), (unmatched_cost, n))
    )
    if maximize:
        cost, unmatched_cost = -cost, None if unmatched_cost is None else -unmatched_cost
    empty = _without_entries(n, m)
    cost, has_invalid = apply_nan_policy(cost, rows, cols, unmatched_cost, nan, empty, xp)

    # A solver meets no NaN, not even in a sample that fails.
    cost = xp.where(is_invalid(cost, xp), _INF, cost)
    if unmatched_cost is not None:
        unmatched_cost = xp.where(is_invalid(unmatched_cost, xp), _INF, unmatched_cost)
    cost, unmatched_cost, scale = _with_room(cost, unmatched_cost, empty, xp)
    col4row, row4col, u, v, feasible = minimise(cost, rows, cols, unmatched_cost)
    total = _total(cost, col4row, row4col, rows, unmatched_cost, (n, m), xp)
    total, u, v = (
        _unscaled(x, by, xp) for x, by in ((total, scale), (u, scale[:, None]), (v, scale[:, None]))
    )

    if maximize:
        total, u, v = -total, -u, -v
    failed = has_invalid | ~feasible
    status = xp.where(feasible, xp.zeros_like(feasible, dtype=xp.uint8), INFEASIBLE)
    col4row, row4col = (xp.where(failed[:, None], -1, x) for x in (col4row, row4col))
    u, v = (xp.where(failed[:, None], _NAN, x) for x in (u, v))
    found = (
        (col4row, (n,)), (row4col, (m,)), (xp.where(failed, _NAN, total), ()), (u, (n,)), (v, (m,)),
        (xp.where(has_invalid, INVALID, status), ()),
    )  # fmt: skip
    return Solution(*(xp.reshape(x, (*batch, *own)) for x, own in found))


def is_invalid(cost: Array, xp: Namespace) -> Array:
    """Say which costs no matching can be compared by.

    Not `~(cost > -inf)`: TensorFlow's graph optimiser turns that into `<=`, false for NaN. And no
    constant of -inf, which `tf.debugging.enable_check_numerics` would find.
    """
    return xp.isnan(cost) | (~xp.isfinite(cost) & (cost < 0))


def _with_room(
    cost: Array, unmatched_cost: Array | None, empty: bool, xp: Namespace
) -> tuple[Array, Array | None, Array]:
    """Return all costs scaled so that no sum of differences overflows, and by what, `[b]`.

    The scale is 1, or a power of two for problems near the largest number there is: exact, but
    for entries so much smaller than the largest that they cannot matter beside it.
    """
    if empty:
        return cost, unmatched_cost, xp.ones_like(xp.sum(cost, axis=(1, 2)))
    peak = xp.max(xp.where(cost < _INF, xp.abs(cost), 0), axis=(1, 2))
    if unmatched_cost is not None:
        peak_unmatched = xp.max(xp.where(unmatched_cost < _INF, xp.abs(unmatched_cost), 0), axis=1)
        peak = xp.where(peak < peak_unmatched, peak_unmatched, peak)
    scale = xp.where(peak > float(xp.finfo(cost.dtype).max) * _ROOM, _ROOM, xp.ones_like(peak))
    unmatched_cost = None if unmatched_cost is None else unmatched_cost * scale[:, None]
    return cost * scale[:, None, None], unmatched_cost, scale


def _unscaled(x: Array, scale: Array, xp: Namespace) -> Array:
    """Return ``x / scale``, infinite beyond the largest number, of which NumPy would warn."""
    beyond = xp.abs(x) > float(xp.finfo(x.dtype).max) * scale
    infinite = xp.where(x < 0, -_INF, xp.zeros_like(x) + _INF)
    return xp.where(beyond, infinite, xp.where(beyond, 0, x) / scale)


def _without_entries(n: Any, m: Any) -> bool:
    return (isinstance(n, int) and n == 0) or (isinstance(m, int) and m == 0)


def apply_nan_policy(
    cost: Array,
    rows: Array | None,
    cols: Array | None,
    unmatched_cost: Array | None,
    nan: str,
    empty: bool,
    xp: Namespace,
) -> tuple[Array, Array]:
    """Apply the nan policy to `cost[..., n, m]`; return it and which samples stay invalid."""
    if nan == "forbid":
        cost = xp.where(xp.isnan(cost), _INF, cost)
    invalid = is_invalid(cost, xp)
    if nan == "worst" and not empty:
        finite = among_valid(xp.isfinite(cost), rows, cols)
        some = xp.any(finite, axis=(-2, -1), keepdims=True)
        best = xp.min(xp.where(finite, cost, _INF), axis=(-2, -1), keepdims=True)
        worst = xp.max(xp.where(finite, cost, -_INF), axis=(-2, -1), keepdims=True)
        repaired = xp.where(xp.isnan(cost), xp.where(some, worst, 0), xp.where(some, best, 0))
        cost, invalid = xp.where(invalid, repaired, cost), xp.zeros_like(invalid)
    has_invalid = xp.any(among_valid(invalid, rows, cols), axis=(-2, -1))
    if unmatched_cost is not None:
        invalid = is_invalid(unmatched_cost, xp)
        has_invalid = has_invalid | xp.any(invalid if rows is None else invalid & rows, axis=-1)
    return cost, has_invalid


def among_valid(flags: Array, rows: Array | None, cols: Array | None) -> Array:
    """Return flags[..., n, m] at valid entries and False elsewhere."""
    if rows is not None:
        flags = flags & rows[..., :, None]
    return flags if cols is None else flags & cols[..., None, :]


def _total(
    cost: Array,
    col4row: Array,
    row4col: Array,
    rows: Array | None,
    unmatched_cost: Array | None,
    extents: tuple[Any, Any],
    xp: Namespace,
) -> Array:
    """Return the cost of the matching and of the rows that paid to stay unmatched, `[b]`."""
    matched = col4row >= 0
    if _without_entries(*extents):
        total = xp.sum(cost, axis=(1, 2))  # of nothing
    elif all(isinstance(extent, int) for extent in extents):
        at = xp.where(matched, col4row, 0)[:, :, None]
        total = xp.sum(xp.where(matched, xp.take_along_axis(cost, at, axis=2)[:, :, 0], 0), axis=1)
    else:  # a side may turn out to be empty, with no entry to gather
        columns = xp.cumulative_sum(xp.ones_like(row4col), axis=1) - 1
        pairs = col4row[:, :, None] == columns[:, None, :]
        total = xp.sum(xp.where(pairs, cost, 0), axis=(1, 2))
    if unmatched_cost is not None:
        paying = ~matched if rows is None else ~matched & rows
        total = total + xp.sum(xp.where(paying, unmatched_cost, 0), axis=1)
    return total
