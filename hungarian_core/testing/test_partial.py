"""The most pairs and then the least cost, beside every matching tried, in exact arithmetic."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.assignment import Nan
from hungarian_core.testing import checks, reference
from hungarian_core.testing.driver import Driver

SOLVERS = ("core", "native", "scipy")
INF, NAN = np.inf, np.nan
SHAPE = (6, 4, 5)


def _gated(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Return whole costs of which most are forbidden, of the first problem none."""
    rng = np.random.default_rng(seed)
    cost = rng.integers(-4, 9, shape).astype(float)
    cost[1:] = np.where(rng.uniform(size=cost[1:].shape) < 0.7, INF, cost[1:])
    cost[2] = INF
    return cost


# A problem whose rows 0 and 1 want one column, which both sides of the cut have to see; one in
# which columns are left over and rows too; costs beside which others vanish.
HARD = np.full((3, 4, 5), INF)
HARD[0, :2, 3], HARD[0, 2, :], HARD[0, 3, 0] = [1, 2], [5, 1, 4, 0, 3], 7
HARD[1, :3, 0], HARD[1, 3, 1:] = [2, 1, 3], [4, 3, 2, 1]
HARD[2, 0, :2], HARD[2, 1, :2], HARD[2, 2, 0] = [1e30, 1], [1e-30, 1e30], 1
HARD[2, 3, 0] = 1


@functools.cache
def _program(
    driver: Driver, solver: str, maximize: bool, nan: Nan, masked: bool
) -> Callable[..., Any]:
    def run(cost: Any, *masks: Any) -> Any:
        rows, cols = masks if masked else (None, None)
        return hc.assign(
            cost, row_mask=rows, col_mask=cols, maximize=maximize, partial=True, nan=nan,
            solver=solver, backend=driver.backend,
        )  # fmt: skip

    return driver.trace(run)


def _found(
    driver: Driver,
    cost: np.ndarray,
    *masks: np.ndarray,
    solver: str = "core",
    maximize: bool = False,
    nan: Nan = "raise",
) -> hc.Assignment:
    program = _program(driver, solver, maximize, nan, bool(masks))
    found = program(driver.from_numpy(cost, "float32"), *map(driver.from_numpy, masks))
    return hc.Assignment(*(driver.to_numpy(x) for x in found))


def _check(cost: np.ndarray, rows: np.ndarray, cols: np.ndarray, found: hc.Assignment) -> None:
    """Check one problem of least cost: its pairs, its total and what its duals prove."""
    cost = np.where(rows[:, None] & cols, cost.astype(np.float64), INF)
    i = np.flatnonzero(found.col4row >= 0)
    j = found.col4row[i]
    np.testing.assert_array_equal(found.row4col[j], i)
    assert (found.row4col >= 0).sum() == len(i)
    pairs, total = reference.partial(cost)
    assert len(i) == pairs
    tolerance = 1e-5 * np.abs(cost[np.isfinite(cost)]).max(initial=0)
    assert cost[i, j].sum() == pytest.approx(total, rel=0, abs=tolerance)
    assert float(found.cost) == pytest.approx(total, rel=0, abs=tolerance)
    u, v = found.u.astype(np.float64), found.v.astype(np.float64)
    assert (u[found.col4row < 0] == 0).all()
    assert (v[found.row4col < 0] == 0).all()
    assert u.sum() + v.sum() == pytest.approx(total, rel=0, abs=4 * tolerance)
    for a, b in np.argwhere(np.isfinite(cost)):
        other = cost.copy()
        other[a], other[:, b] = INF, INF
        if reference.partial(other)[0] == pairs - 1:  # a best matching may have this pair
            assert u[a] + v[b] <= cost[a, b] + 4 * tolerance


def _every(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    return np.ones(shape[:-1], bool), np.ones((*shape[:-2], shape[-1]), bool)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shape", [SHAPE, (6, 5, 4), (6, 4, 4)], ids=["wide", "tall", "square"])
def test_most_pairs_then_least_cost(driver: Driver, shape: tuple[int, ...], solver: str) -> None:
    checks.need_solver(driver, solver)
    if shape != SHAPE or solver == "scipy":
        checks.skip_slow(driver)
    cost = _gated(shape)
    if shape == SHAPE:
        cost[3:] = HARD
    found = _found(driver, cost, solver=solver)
    rows, cols = _every(shape)
    for b in range(len(cost)):
        _check(cost[b], rows[b], cols[b], hc.Assignment(*(x[b] for x in found)))
    assert (found.col4row[2] == -1).all()
    assert found.cost[2] == 0


@pytest.mark.parametrize("maximize", [False, True], ids=["min", "max"])
@pytest.mark.parametrize("nan", ["forbid", "worst"])
def test_masks_and_nan(driver: Driver, nan: Nan, maximize: bool) -> None:
    """What is not valid is never read; NaN is what its policy says, of the whole matrix."""
    checks.skip_slow(driver)
    rng = np.random.default_rng(7)
    cost = _gated(SHAPE, seed=1)
    cost = -cost if maximize else cost
    rows, cols = rng.uniform(size=SHAPE[:-1]) < 0.8, rng.uniform(size=(6, 5)) < 0.8
    cost[rng.uniform(size=SHAPE) < 0.15] = NAN
    if nan == "forbid":
        cost = np.where(rows[:, :, None] & cols[:, None, :], cost, rng.choice([NAN, INF, -INF]))
    found = _found(driver, cost, rows, cols, maximize=maximize, nan=nan)
    for b in range(len(cost)):
        one = hc.Assignment(*(x[b] for x in found))
        turned = -cost[b] if maximize else cost[b]
        repaired = reference.repaired(turned, rows[b][:, None] & cols[b], nan)
        if maximize:
            one = hc.Assignment(one.col4row, one.row4col, -one.cost, -one.u, -one.v)
        _check(repaired, rows[b], cols[b], one)


def test_complete_matchings_are_those_of_assign(driver: Driver) -> None:
    """Also beside problems without one, and where optima tie."""
    checks.skip_slow(driver)
    cost = np.random.default_rng(2).integers(0, 3, SHAPE).astype(float)
    cost[:, 0, 1] = INF
    whole = hc.assign(driver.from_numpy(cost, "float32"), solver="core", backend=driver.backend)
    cost[[1, 4], :, 1:] = INF
    found = _found(driver, cost)
    kept = [0, 2, 3, 5]
    for x, y in zip(found, whole, strict=True):
        np.testing.assert_array_equal(x[kept], driver.to_numpy(y)[kept])
    assert ((found.col4row[[1, 4]] >= 0).sum(-1) == 1).all()


def test_invalid_entries_are_no_missing_pairs(driver: Driver) -> None:
    cost = _gated(SHAPE)
    cost[4, 1, 1] = NAN
    if driver.raises:
        with pytest.raises(ValueError, match="matrix contains invalid numeric entries"):
            _found(driver, cost)
        return
    found = _found(driver, cost)
    assert np.isnan(found.cost[4])
    assert (found.col4row[4] == -1).all()
    assert np.isfinite(found.cost[[0, 1, 2, 3, 5]]).all()


@pytest.mark.parametrize("shape", [(4, 5), (5, 4)], ids=["wide", "tall"])
def test_linear_sum_assignment(driver: Driver, shape: tuple[int, int]) -> None:
    """The pairs alone, rows sorted, where values can be read; elsewhere also those missing."""
    checks.skip_long(driver)
    cost = _gated((3, *shape), seed=3)[1]
    given = driver.from_numpy(cost, "float32")
    found = hc.linear_sum_assignment(given, partial=True, backend=driver.backend)
    rows, cols = map(driver.to_numpy, found)
    pairs, total = reference.partial(cost)
    assert len(rows) == (pairs if driver.raises else min(shape))
    np.testing.assert_array_equal(rows < 0, cols < 0)
    rows, cols = rows[rows >= 0], cols[cols >= 0]
    assert len(rows) == pairs
    assert (np.diff(rows) > 0).all()
    assert cost[rows, cols].sum() == total


def test_no_price_beside_it(driver: Driver) -> None:
    cost = driver.from_numpy(np.ones((2, 2), np.float32))
    with pytest.raises(ValueError, match="partial is True, and unmatched_cost is given"):
        hc.assign(cost, partial=True, unmatched_cost=1.0, backend=driver.backend)
    with pytest.raises(ValueError, match="partial is 'yes'; expected True or False"):
        hc.assign(cost, partial="yes", backend=driver.backend)  # type: ignore[arg-type]  # the mistake under test
