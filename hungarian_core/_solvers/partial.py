"""The most pairs there can be and then the least cost, where forbidden pairs leave rows over.

Two things are wanted, the first at any cost of the second, and no price stands for "at any cost":
one large enough would round the costs away. By Koenig's theorem none is needed. The duals of the
problem of the most pairs, in which a pair costs 0 and a row stays at the price 1, are whole: u is 0
or 1, v is 0 or -1, and ``u + v <= 0`` on every pair that is not forbidden. By complementary
slackness exactly those matchings have the most pairs that match every row with ``u = 0``, match
every column with ``v = -1``, and use pairs with ``u + v = 0`` only. So a problem falls into two,
each with a complete matching of its smaller side: the rows with ``u = 0`` and the columns with
``v = 0``, of which some are left over; and the columns with ``v = -1`` and the rows with ``u = 1``,
of which some are left over. Each is solved with the costs as they are.

Dulmage and Mendelsohn, Coverings of bipartite graphs, Canadian Journal of Mathematics 10, 1958.
"""

from __future__ import annotations

from hungarian_core._backend import Array, Backend, Problem, Solution
from hungarian_core._solvers.dispatch import solve
from hungarian_core._solvers.policies import INFEASIBLE, apply_nan_policy

_INF = float("inf")


def solve_partial(problem: Problem, *, solver: str, backend: Backend) -> Solution:
    """Solve a batch of problems without prices, in which rows may stay that cannot be matched.

    Where there is a complete matching, it is that of `solve`.
    """
    found = solve(problem, solver=solver, backend=backend)
    col4row, row4col, total, u, v, status = found
    if status is None:
        return found
    cost, row_mask, col_mask, _, maximize, nan = problem
    xp, shape = backend.namespace(cost), backend.shape(cost)
    short = status == INFEASIBLE  # whose entries are valid
    if backend.readable(status) and not bool(xp.any(short)):
        return found

    empty = any(isinstance(extent, int) and extent == 0 for extent in shape)
    cost, _ = apply_nan_policy(
        -cost if maximize else cost, row_mask, col_mask, None, nan, empty, xp
    )
    every = xp.ones_like(cost, dtype=xp.bool)
    rows = xp.all(every, axis=-1) if row_mask is None else row_mask
    cols = xp.all(every, axis=-2) if col_mask is None else col_mask
    rows, cols = rows & short[..., None], cols & short[..., None]

    def solved(
        cost: Array, rows: Array, cols: Array, unmatched_cost: Array | None = None
    ) -> Solution:
        part = Problem(cost, rows, cols, unmatched_cost, False, "raise")
        return solve(part, solver=solver, backend=backend)

    edges = xp.where(cost < _INF, xp.zeros_like(cost), _INF)
    most = solved(edges, rows, cols, xp.ones_like(rows, dtype=cost.dtype))
    # Rounded at a half, optimal duals that are not whole would do as well.
    surplus_cols = solved(cost, rows & (most.u <= 0.5), cols & (most.v >= -0.5))
    surplus_rows = solved(cost, rows & (most.u > 0.5), cols & (most.v < -0.5))

    def of_either(whole: Array, one: Array, other: Array) -> Array:
        return xp.where(short[..., None], xp.where(one < 0, other, one), whole)

    def of_both(whole: Array, one: Array, other: Array, short: Array) -> Array:
        total = one + other  # of duals one at most is not 0
        return xp.where(short, -total if maximize else total, whole)

    return Solution(
        of_either(col4row, surplus_cols.col4row, surplus_rows.col4row),
        of_either(row4col, surplus_cols.row4col, surplus_rows.row4col),
        of_both(total, surplus_cols.cost, surplus_rows.cost, short),
        of_both(u, surplus_cols.u, surplus_rows.u, short[..., None]),
        of_both(v, surplus_cols.v, surplus_rows.v, short[..., None]),
        xp.where(short, xp.zeros_like(status), status),
    )
