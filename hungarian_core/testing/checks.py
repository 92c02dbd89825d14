"""What must hold of an assignment: it is a matching, it is optimal, and its duals prove it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing import reference
from hungarian_core.testing.cases import Case
from hungarian_core.testing.driver import Driver

# Of the largest cost. In 12,000 problems by hypothesis, gaps came to 1.1 per row and the duals
# exceeded a cost by 2.8.
ULPS = 4


def need(driver: Driver, dtype: str) -> None:
    """Skip a test of a dtype that the framework does not have."""
    if dtype not in driver.dtypes:
        pytest.skip(f"{driver.name} has no {dtype}")


def need_solver(driver: Driver | None, solver: str) -> None:
    """Skip a test of a solver that is not there, or that a program of the driver cannot call."""
    if solver == "native":
        try:
            hc.host_solver(solver)
        except ImportError as error:
            pytest.skip(str(error))
    if solver in ("native", "scipy") and driver is not None and not driver.host_solvers:
        pytest.skip(f"{driver.name} cannot solve on the host in its programs")


def skip_slow(driver: Driver) -> None:
    """Skip a test that is not essential on a driver that compiles slowly."""
    if not driver.thorough:
        pytest.skip(f"{driver.name} compiles too slowly for every case")


def skip_lengthy(driver: Driver) -> None:
    """Skip a test of tens of operations that is not essential, but on those who do it fastest."""
    thorough = driver.thorough if driver.thorough_lengthy is None else driver.thorough_lengthy
    if not thorough:
        pytest.skip(f"{driver.name} compiles what another driver of the framework does sooner")


def skip_long(driver: Driver) -> None:
    """Skip a test of a long loss that is not essential, where that takes seconds."""
    skip_slow(driver)
    if not driver.thorough_eager:
        pytest.skip(f"{driver.name} compiles every operation for every shape")


def skip_programs(driver: Driver) -> None:
    """Skip a case of many of a long loss where each is traced; one of them stands for all there."""
    skip_long(driver)
    if driver.trace(skip_programs) is not skip_programs:
        pytest.skip(f"{driver.name} traces one case, and the others have the same text")


@functools.cache
def program(
    driver: Driver, names: tuple[str, ...], options: tuple[tuple[str, Any], ...]
) -> Callable[..., hc.Assignment]:
    """Return `assign` with `options`, of a cost and the arrays `names`, compiled once."""

    def run(cost: Any, *arrays: Any) -> hc.Assignment:
        named = dict(zip(names, arrays, strict=True))
        return hc.assign(cost, **named, **dict(options), backend=driver.backend)

    return driver.trace(run)


def arguments(driver: Driver, case: Case) -> tuple[list[Any], tuple[str, ...], dict[str, Any]]:
    """Return the arrays of a case, the names of those after the cost, and its options."""
    cost = driver.from_numpy(case.cost, case.dtype)
    arrays, names, options = [cost], [], {}
    for name in ("row_mask", "col_mask", "unmatched_cost"):
        value = getattr(case, name)
        if isinstance(value, np.ndarray):
            dtype = "float32" if name == "unmatched_cost" else "bool"
            arrays.append(driver.from_numpy(value, dtype))
            names.append(name)
        elif value is not None:
            options[name] = value
    options |= {"maximize": case.maximize, "nan": case.nan}
    return arrays, tuple(names), options


def run(driver: Driver, case: Case, solver: str) -> tuple[np.ndarray, hc.Assignment]:
    """Return the cost as the driver holds it, and the assignment in the driver's arrays."""
    arrays, names, options = arguments(driver, case)
    fixed = tuple({**options, "solver": solver}.items())
    return driver.to_numpy(arrays[0]), program(driver, names, fixed)(*arrays)


def on_host(driver: Driver, found: hc.Assignment) -> hc.Assignment:
    """Return an assignment in NumPy arrays."""
    return hc.Assignment(*(driver.to_numpy(x) for x in found))


def solving_dtype(driver: Driver, dtype: str) -> str:
    """Return the dtype of the totals and duals of costs of `dtype`."""
    if dtype in ("float16", "bfloat16", "float32") or "float64" not in driver.dtypes:
        return "float32"
    return "float64"


def check(driver: Driver, case: Case, cost: np.ndarray, found: hc.Assignment) -> None:
    """Check the assignment `found` of a case whose cost the driver holds as `cost`."""
    *batch, n, m = cost.shape
    wide = solving_dtype(driver, case.dtype)
    assert found.col4row.shape == (*batch, n)
    assert found.row4col.shape == (*batch, m)
    assert found.cost.shape == tuple(batch)
    assert found.u.shape == (*batch, n)
    assert found.v.shape == (*batch, m)
    assert found.col4row.dtype == found.row4col.dtype
    assert found.cost.dtype == found.u.dtype == found.v.dtype == np.dtype(wide)

    rows = np.ones((*batch, n), bool) if case.row_mask is None else case.row_mask
    cols = np.ones((*batch, m), bool) if case.col_mask is None else case.col_mask
    prices: Any = case.unmatched_cost
    if prices is not None:
        prices = np.asarray(prices, np.float32).astype(np.float64)
        prices = prices[..., None] if prices.ndim == len(batch) else prices
        prices = np.broadcast_to(prices, (*batch, n))
    bad = np.zeros(batch, bool) if case.bad is None else case.bad
    for at in np.ndindex(*batch):
        one = hc.Assignment(*(x[at] for x in found))
        if bad[at]:
            _check_lost(one)
        else:
            price = None if prices is None else prices[at]
            _check_one(cost[at].astype(np.float64), rows[at], cols[at], price, one, case)
    if case.col4row is not None:
        np.testing.assert_array_equal(found.col4row, case.col4row)


def _check_lost(found: hc.Assignment) -> None:
    """Check a sample that has no answer and could not raise."""
    assert (found.col4row == -1).all()
    assert (found.row4col == -1).all()
    for values in (found.cost, found.u, found.v):
        assert np.isnan(values).all()


def _check_one(
    cost: np.ndarray,
    rows: np.ndarray,
    cols: np.ndarray,
    price: np.ndarray | None,
    found: hc.Assignment,
    case: Case,
) -> None:
    """Check one problem, turned so that it minimises."""
    eps = np.finfo(found.cost.dtype).eps
    sign = -1.0 if case.maximize else 1.0
    cost, price = sign * cost, None if price is None else sign * price
    total = sign * float(found.cost)
    u, v = sign * found.u.astype(np.float64), sign * found.v.astype(np.float64)
    valid = rows[:, None] & cols
    cost = reference.repaired(cost, valid, case.nan)

    # A matching: one to one, of valid rows and columns, along finite edges.
    i = np.flatnonzero(found.col4row >= 0)
    j = found.col4row[i]
    assert ((found.col4row >= -1) & (found.col4row < cost.shape[1])).all()
    np.testing.assert_array_equal(found.row4col[j], i)
    assert (found.row4col >= 0).sum() == len(i)
    assert valid[i, j].all()
    assert np.isfinite(cost[i, j]).all()

    # Optimal, by an independent solver.
    finite = np.abs(cost[valid & np.isfinite(cost)])
    scale = finite.max(initial=0.0)
    if price is not None:
        scale = max(scale, np.abs(price[rows & np.isfinite(price)]).max(initial=0.0))
    tolerance = ULPS * eps * scale * max(rows.sum(), 1)
    best = reference.solve(cost, rows, cols, price)
    paid = 0.0 if price is None else price[rows & (found.col4row < 0)].sum()
    assert cost[i, j].sum() + paid == pytest.approx(best.total, rel=0, abs=tolerance)
    assert total == pytest.approx(best.total, rel=0, abs=tolerance)
    if best.pairs is not None:
        assert len(i) == best.pairs

    # Certified: the duals are feasible and there is no gap.
    assert (u[~rows] == 0).all()
    assert (v[~cols] == 0).all()
    # Who is left over has exactly the dual that it must have.
    left = rows & (found.col4row < 0)
    assert (u[left] == (0 if price is None else price.astype(found.u.dtype)[left])).all()
    assert (v[found.row4col < 0] == 0).all()
    ulp = ULPS * eps * scale
    assert ((u[:, None] + v <= cost + ulp) | ~valid).all()
    if price is not None:
        assert (u[rows] <= price[rows] + ulp).all()
    if price is not None or rows.sum() < cols.sum():
        assert (v <= ulp).all()
    elif rows.sum() > cols.sum():
        assert (u <= ulp).all()
    assert abs(total - u.sum() - v.sum()) <= tolerance
