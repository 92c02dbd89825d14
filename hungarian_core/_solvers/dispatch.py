"""Choose who solves a batch of problems: the backend, a solver on the host, or the core."""

from __future__ import annotations

from typing import Any

from hungarian_core._backend import Array, Backend, Namespace, Problem, Solution
from hungarian_core._dtypes import index_dtype
from hungarian_core._solvers import core
from hungarian_core._solvers.host import HostSolver, call_host_solver, host_solver
from hungarian_core._solvers.policies import Matching, solve_by_minimiser


def solve(
    problem: Problem, *, solver: str = "auto", backend: Backend, use_hook: bool = True
) -> Solution:
    """Solve a batch of problems: what `assign` does between its checks.

    A backend's `solve` hook may call it, with the arrays of its own framework.

    Args:
        problem: The batch, in arrays of one framework.
        solver: As for `assign`.
        backend: The backend of the arrays.
        use_hook: Whether to ask the backend's hook first; the hook itself passes False.

    Examples:
        >>> cost = np.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]])
        >>> backend = hc.get_backend("numpy")
        >>> solution = hc.solve(hc.Problem(cost[None]), solver="core", backend=backend)
        >>> solution.col4row
        array([[1, 0, 2]])
        >>> solution.status
        array([0], dtype=uint8)
    """
    found = backend.solve(problem, solver=solver) if use_hook else None
    if found is not None:
        return found
    host = None
    cost = problem.cost
    # On an accelerator too, unless a program is traced: one copy and one wait, where the core would
    # launch its operations one by one and read a flag back at every step.
    if solver != "auto" or backend.on_host(cost) or not backend.is_traced(cost):
        host = host_solver(solver)
    return _by_core(problem, backend) if host is None else _by_host(problem, host, backend)


def _by_host(problem: Problem, host: HostSolver, backend: Backend) -> Solution:
    fields = dict(zip(Problem._fields, problem[:4], strict=False))
    given = {name: x for name, x in fields.items() if x is not None}

    solved = False

    def on_host(*arrays: Any) -> tuple[Any, ...]:
        nonlocal solved
        found, solved = call_host_solver(
            host, problem._replace(**dict(zip(given, arrays, strict=True)))
        )
        return found

    cost = problem.cost
    *batch, n, m = backend.shape(cost)
    xp = backend.namespace(cost)
    index = index_dtype(xp)
    rows, cols, each = (*batch, n), (*batch, m), tuple(batch)
    like = (
        (rows, index), (cols, index), (each, cost.dtype), (rows, cost.dtype), (cols, cost.dtype),
        (each, xp.uint8),
    )  # fmt: skip
    found = Solution(*backend.host_call(on_host, *given.values(), like=like))
    # Known already if this was no program: nobody has to look at the status again.
    return found._replace(status=None) if solved else found


def _by_core(problem: Problem, backend: Backend) -> Solution:
    xp, shape = backend.namespace(problem.cost), backend.shape(problem.cost)

    def minimise(cost: Array, rows: Any, cols: Any, unmatched_cost: Any) -> Matching:
        if all(isinstance(extent, int) for extent in shape[-2:]):
            return core.minimise(
                cost, rows, cols, unmatched_cost,
                xp=xp, loop=backend.while_loop, shape=backend.shape,
            )  # fmt: skip
        return _by_core_with_unknown_extents(cost, rows, cols, unmatched_cost, backend, xp)

    return solve_by_minimiser(problem, minimise, shape, xp)


def _by_core_with_unknown_extents(
    cost: Array,
    row_mask: Array | None,
    col_mask: Array | None,
    unmatched_cost: Array | None,
    backend: Backend,
    xp: Namespace,
) -> Matching:
    """Run the core on extents that may turn out to be 0: append an invalid row and column."""
    _, n, m = backend.shape(cost)
    rows = xp.all(xp.ones_like(cost, dtype=xp.bool), axis=2) if row_mask is None else row_mask
    cols = xp.all(xp.ones_like(cost, dtype=xp.bool), axis=1) if col_mask is None else col_mask
    one = xp.any(rows, axis=1)[:, None]
    rows = xp.concat([rows, xp.zeros_like(one)], axis=1)
    cols = xp.concat([cols, xp.zeros_like(one)], axis=1)
    cost = xp.concat([cost, xp.zeros_like(xp.sum(cost, axis=1))[:, None, :]], axis=1)
    cost = xp.concat([cost, xp.zeros_like(xp.sum(cost, axis=2))[:, :, None]], axis=2)
    if unmatched_cost is not None:
        blank = xp.zeros_like(xp.sum(unmatched_cost, axis=1))[:, None]
        unmatched_cost = xp.concat([unmatched_cost, blank], axis=1)
    found = core.minimise(
        cost, rows, cols, unmatched_cost,
        xp=xp, loop=backend.while_loop, shape=backend.shape,
    )  # fmt: skip
    return Matching(
        found.col4row[:, :n], found.row4col[:, :m], found.u[:, :n], found.v[:, :m], found.feasible
    )
