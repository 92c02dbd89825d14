"""Choose who solves a batch of problems: the backend, SciPy, or the core's algorithm."""

from __future__ import annotations

from typing import Any

from hungarian_core import _assign, _scipy
from hungarian_core._backend import Array, Backend, DType, Namespace, Solution


def solve(
    cost: Array,
    row_mask: Array | None = None,
    col_mask: Array | None = None,
    unmatched_cost: Array | None = None,
    *,
    solver: str = "auto",
    backend: Backend,
) -> Solution:
    """Solve `cost[b, n, m]` by a solver's name: what `assign` does between its checks.

    A backend's `solve` hook may call it, with the arrays of its own framework.

    Args:
        cost: `[b, n, m]`, float32 or float64, no NaN or -inf at valid entries.
        row_mask: `[b, n]` bool or None.
        col_mask: `[b, m]` bool or None.
        unmatched_cost: `[b, n]` in the dtype of `cost`, no NaN or -inf, or None.
        solver: As for `assign`.
        backend: The backend of the arrays.
    """
    if solver == "auto":
        solver = "scipy" if backend.on_host(cost) and _scipy.available() else "core"
    solution = backend.solve(cost, row_mask, col_mask, unmatched_cost, solver=solver)
    if solution is not None:
        return solution
    shape = backend.shape(cost)
    if solver == "scipy":
        return _solve_by_scipy(cost, row_mask, col_mask, unmatched_cost, shape, backend)
    xp = backend.namespace(cost)
    if all(isinstance(extent, int) for extent in shape[1:]):
        return _assign.solve(
            cost, row_mask, col_mask, unmatched_cost,
            xp=xp, loop=backend.while_loop, shape=backend.shape,
        )  # fmt: skip
    return _solve_unknown_extents(cost, row_mask, col_mask, unmatched_cost, backend, xp)


def _solve_by_scipy(
    cost: Array,
    row_mask: Array | None,
    col_mask: Array | None,
    unmatched_cost: Array | None,
    shape: tuple[Any, ...],
    backend: Backend,
) -> Solution:
    size, n, m = shape
    given = {"row_mask": row_mask, "col_mask": col_mask, "unmatched_cost": unmatched_cost}
    options = {name: x for name, x in given.items() if x is not None}

    def on_host(cost: Any, *values: Any) -> tuple[Any, ...]:
        return _scipy.solve(cost, **dict(zip(options, values, strict=True)))

    info = backend.namespace(cost).__array_namespace_info__()
    index = info.default_dtypes()["indexing"]
    like = (
        ((size, n), index), ((size, m), index),
        ((size, n), cost.dtype), ((size, m), cost.dtype), ((size,), info.dtypes()["bool"]),
    )  # fmt: skip
    return Solution(*backend.host_call(on_host, cost, *options.values(), like=like))


def _solve_unknown_extents(
    cost: Array,
    row_mask: Array | None,
    col_mask: Array | None,
    unmatched_cost: Array | None,
    backend: Backend,
    xp: Namespace,
) -> Solution:
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
    found = _assign.solve(
        cost, rows, cols, unmatched_cost,
        xp=xp, loop=backend.while_loop, shape=backend.shape,
    )  # fmt: skip
    return Solution(
        found.col4row[:, :n], found.row4col[:, :m], found.u[:, :n], found.v[:, :m], found.feasible
    )


def solving_dtype(dtype: DType, xp: Namespace) -> DType:
    """Return the dtype to solve costs of `dtype` in: float32, or float64 for wider and integers.

    Integers become float64, which holds them exactly up to 2**53; where a framework
    has no float64, float32, exact up to 2**24.
    """
    if dtype == xp.float32 or dtype == xp.float64:
        return dtype
    if xp.isdtype(dtype, "real floating") and xp.finfo(dtype).bits < 32:
        return xp.float32
    floats = xp.__array_namespace_info__().dtypes(kind="real floating")
    return floats.get("float64", floats["float32"])
