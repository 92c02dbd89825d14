"""SciPy's solver for a batch of problems in host memory, with the duals it keeps to itself."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hungarian_core._backend import Backend, Problem, Solution
from hungarian_core._solvers.policies import Matching, solve_by_minimiser

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]


_installed = importlib.util.find_spec("scipy") is not None


def available() -> bool:
    """Say whether SciPy is installed."""
    return _installed


def load() -> Callable[..., Solution]:
    """Return SciPy's solver as a host solver."""
    if not _installed:
        raise ImportError('solver="scipy" needs SciPy: pip install scipy, or choose solver="core"')
    importlib.import_module("scipy.optimize")  # now, not in the middle of the first call
    return solve_by_scipy


def solve_by_scipy(
    cost: Floats,
    row_mask: Bools | None,
    col_mask: Bools | None,
    unmatched_cost: Floats | None,
    maximize: bool,
    nan: str,
) -> Solution:
    """Solve the problem of these fields, one sample after the other."""
    problem = Problem(cost, row_mask, col_mask, unmatched_cost, maximize, nan)
    return solve_by_minimiser(problem, _minimise, cost.shape, Backend().namespace(cost))


def _minimise(
    table: Floats, rows: Bools | None, cols: Bools | None, unmatched_cost: Floats | None
) -> Matching:
    from scipy.optimize import linear_sum_assignment

    size, n, m = table.shape
    col4row = np.full((size, n), -1, np.int64)
    row4col = np.full((size, m), -1, np.int64)
    feasible = np.ones(size, np.bool_)
    for b in range(size):
        problem = table[b]
        if rows is not None:
            problem = problem[rows[b]]
        if cols is not None:
            problem = problem[:, cols[b]]
        width = problem.shape[1]
        if unmatched_cost is not None:
            ways_out = np.full((len(problem),) * 2, np.inf)
            np.fill_diagonal(
                ways_out, unmatched_cost[b] if rows is None else unmatched_cost[b][rows[b]]
            )
            problem = np.hstack([problem, ways_out])
        try:
            i, j = linear_sum_assignment(problem)
        except ValueError:  # entries are valid by now, so the problem is infeasible
            feasible[b] = False
            continue
        if unmatched_cost is not None:
            i, j = i[j < width], j[j < width]
        if rows is not None:
            i = np.flatnonzero(rows[b])[i]
        if cols is not None:
            j = np.flatnonzero(cols[b])[j]
        col4row[b, i] = j
        row4col[b, j] = i
    u, v = _duals(table, rows, cols, unmatched_cost, col4row, row4col)
    return Matching(col4row, row4col, u.astype(table.dtype), v.astype(table.dtype), feasible)


def _duals(
    table: Floats,
    rows: Bools | None,
    cols: Bools | None,
    unmatched_cost: Floats | None,
    col4row: np.ndarray,
    row4col: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Recover duals `u[b, n]`, `v[b, m]` from an optimal matching.

    Either the rows are the smaller side here, or they have prices; otherwise the matrix is turned.
    """
    size, n, m = table.shape
    if n > m and unmatched_cost is None:
        transposed = table.transpose(0, 2, 1)
        v, u = _duals(transposed, cols, rows, None, row4col, col4row)
        return u, v
    valid_rows = np.ones((size, n), np.bool_) if rows is None else rows
    valid_cols = np.ones((size, m), np.bool_) if cols is None else cols
    way_out = np.zeros((size, n)) if unmatched_cost is None else unmatched_cost.astype(np.float64)
    if n == 0 or m == 0:
        return np.where(valid_rows, way_out, 0), np.zeros((size, m))
    matched = col4row >= 0
    # Columns have duals of at most 0; a row that left at its price keeps that price as dual.
    left = valid_rows & ~matched & np.isfinite(way_out)
    paid = np.where(left, way_out, np.nan)
    surplus = (valid_rows.sum(1) > valid_cols.sum(1)) & (unmatched_cost is None)
    if n > m:
        open_columns = row4col >= 0
        u, v = _potentials(
            table, np.where(matched, col4row, 0), valid_rows, open_columns, matched, paid, surplus
        )
        return u, np.where(open_columns, v, 0)
    # Only matched columns need a dual, and there are at most n: column k is that of row k here.
    partner = np.where(matched, col4row, 0)
    table = np.take_along_axis(table, partner[:, None, :], axis=2)
    home = np.broadcast_to(np.arange(n), (size, n))
    u, v = _potentials(table, home, valid_rows, matched, matched, paid, surplus)
    full = np.zeros((size, m))
    sample, row = np.nonzero(matched)
    full[sample, col4row[sample, row]] = v[sample, row]
    return u, full


def _potentials(
    table: Floats,
    home: np.ndarray,
    valid_rows: Bools,
    open_columns: Bools,
    matched: Bools,
    paid: Floats,
    surplus: Bools,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the duals of the rows and of the open columns, as shortest distances.

    A matched row i is tight, ``u[i] = c[i, s(i)] - v[s(i)]``, so dual feasibility reads
    ``v[s(k)] <= c[i, s(k)] - c[i, s(i)] + v[s(i)]``: the largest such v under its upper bounds
    are distances in a graph without negative cycles, because the matching is optimal.

    Args:
        table: `[b, n, k]`, the costs.
        home: `[b, n]`, the column s(i) of each row that is matched, any for others.
        valid_rows: `[b, n]`.
        open_columns: `[b, k]`, those that are matched.
        matched: `[b, n]`, which rows are.
        paid: `[b, n]`, the price at which a row left, NaN for one that did not.
        surplus: `[b]`, where rows without a price are left over.
    """
    usable = valid_rows[:, :, None] & open_columns[:, None, :]
    edges = np.where(usable, table, np.inf).astype(np.float64)
    own = np.take_along_axis(table, home[:, :, None], axis=2)[:, :, 0].astype(np.float64)
    own = np.where(matched, own, 0)
    # Rounding can make a cycle of length 0 look negative by an ulp: smaller gains do not count.
    scale = np.max(np.abs(edges), axis=(1, 2), where=np.isfinite(edges), initial=0)
    tolerance = (4 * np.finfo(np.float64).eps * scale)[:, None]

    left = ~np.isnan(paid)
    paid = np.where(left, paid, 0)
    bounds = np.where(left[:, :, None], edges, np.inf) - paid[:, :, None]
    steps = np.where(matched[:, :, None], edges - own[:, :, None], np.inf)
    v = _distances(np.minimum(bounds.min(axis=1), 0), steps, home, tolerance)
    u = np.where(matched, own - np.take_along_axis(v, home, axis=1), paid)
    if surplus.any():
        # There the rows have duals of at most 0, those left over 0: the same, transposed.
        steps = edges.transpose(0, 2, 1) - own[:, :, None]
        u_surplus = _distances(np.zeros_like(own), steps, home, tolerance)
        u = np.where(surplus[:, None], np.where(matched, u_surplus, 0), u)
        v = np.where(surplus[:, None], own - u, v)
    return u, v


def _distances(
    start: np.ndarray, steps: np.ndarray, home: np.ndarray, tolerance: np.ndarray
) -> np.ndarray:
    """Return the largest `d <= start` with ``d[k] <= steps[i, k] + d[home[i]]`` (Bellman-Ford)."""
    d = start
    for _ in range(steps.shape[1]):
        shorter = (steps + np.take_along_axis(d, home, axis=1)[:, :, None]).min(axis=1)
        if not (shorter < d - tolerance).any():
            break
        d = np.minimum(d, shorter)
    return d
