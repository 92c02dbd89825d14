"""What a way of differentiating through a matching is given, and what it returns."""

from __future__ import annotations

from typing import NamedTuple

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._dtypes import solving_dtype
from hungarian_core._inputs import checked_masks, valid_pairs, warn_if_rounded
from hungarian_core._solvers.policies import (
    INFEASIBLE,
    INVALID,
    among_valid,
    apply_nan_policy,
    is_invalid,
)

_INF = float("inf")


class RelaxedProblem(NamedTuple):
    """A batch of problems to minimise, with sound costs, and what to compute them with.

    Samples that failed have costs of 0 here; what a method returns for them is replaced.
    """

    cost: Array  # [..., n, m] float32 or float64, never NaN or -inf; +inf forbids a pair
    rows: Array | None  # [..., n] bool, True = valid
    cols: Array | None  # [..., m] bool
    solver: str
    backend: Backend
    xp: Namespace


class Relaxation(NamedTuple):
    """A matrix of association, and how far the iterations that made it came.

    Attributes:
        matrix: `(..., n, m)`, from 0 to 1. Rows and columns sum to at most 1; the valid rows and
            columns of the side with fewer of them to exactly 1, both up to `residual`.
        iterations: `(...)` index, the iterations that each problem took to the tolerance, or all
            of them if it did not get there; 0 for methods that do not iterate.
        residual: `(...)`, the largest amount by which a row or column sum is off.
    """

    matrix: Array
    iterations: Array
    residual: Array


def checked_problem(
    cost: Array,
    row_mask: Array | None,
    col_mask: Array | None,
    maximize: bool,
    nan: str,
    solver: str,
    backend: Backend,
) -> tuple[RelaxedProblem, Array]:
    """Check a problem; return it and which samples failed, `[...]` bool.

    Raises:
        ValueError: As for `assign`, where values can be read.
    """
    _checks.one_of("nan", nan, _checks.NAN_POLICIES)
    _checks.solver(solver)
    maximize = _checks.flag("maximize", maximize)
    _checks.array("cost", cost)
    cost = backend.asarray(cost)
    xp = backend.namespace(cost)
    shape = backend.shape(cost)
    _checks.cost_shape(shape)
    _checks.real("cost", cost, xp)
    given = cost.dtype
    cost = xp.astype(cost, solving_dtype(given, xp), copy=False)
    rows, cols = checked_masks(row_mask, col_mask, cost, backend, xp)
    if xp.isdtype(given, "integral"):
        valid = valid_pairs(rows, cols, cost, xp)
        warn_if_rounded("cost", given, backend.stop_gradient(cost), valid, backend, xp)
    empty = any(isinstance(extent, int) and extent == 0 for extent in shape[-2:])
    cost = -cost if maximize else cost
    sound, status = _sound(backend.stop_gradient(cost), rows, cols, nan, empty, xp)
    _checks.raise_unless_solved(status, nan, backend, xp)
    failed = status != 0
    sound = xp.where(failed[..., None, None], 0, sound)
    # What the policy put in the place of an entry is a constant.
    finite = xp.isfinite(backend.stop_gradient(cost))
    cost = xp.where(finite & ~failed[..., None, None], cost, sound)
    return RelaxedProblem(cost, rows, cols, solver, backend, xp), failed


def allowed(problem: RelaxedProblem) -> Array:
    """Return which pairs `[..., n, m]` may be matched: valid, and not forbidden."""
    # Of a constant, as PyTorch would keep the costs.
    finite = problem.xp.isfinite(problem.backend.stop_gradient(problem.cost))
    return among_valid(finite, problem.rows, problem.cols)


def _sound(
    cost: Array, rows: Array | None, cols: Array | None, nan: str, empty: bool, xp: Namespace
) -> tuple[Array, Array]:
    """Apply the nan policy; return costs, and the status `[...]` of each sample as in `Solution`.

    A sample counts as infeasible here if a row or column that has to be matched has no pair. That
    the pairs left allow of no complete matching otherwise, only a residual shows.
    """
    cost, has_invalid = apply_nan_policy(cost, rows, cols, None, nan, empty, xp)
    # As in the solvers, NaN is read by nobody: it is replaced before any arithmetic.
    cost = xp.where(is_invalid(cost, xp), _INF, cost)
    failed = has_invalid
    if not empty:
        real = among_valid(xp.ones_like(cost, dtype=xp.bool), rows, cols)
        open_ = among_valid(xp.isfinite(cost), rows, cols)
        real_rows, real_cols = (xp.any(real, axis=axis) for axis in (-1, -2))
        needy_rows = real_rows & ~xp.any(open_, axis=-1)
        needy_cols = real_cols & ~xp.any(open_, axis=-2)
        n, m = (xp.sum(xp.astype(x, xp.float32), axis=-1) for x in (real_rows, real_cols))
        failed = failed | ((n <= m) & xp.any(needy_rows, axis=-1))
        failed = failed | ((m <= n) & xp.any(needy_cols, axis=-1))
    status = xp.where(failed, INFEASIBLE, xp.zeros_like(failed, dtype=xp.uint8))
    return cost, xp.where(has_invalid, INVALID, status)
