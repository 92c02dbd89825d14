"""Rows that may have several columns, beside every choice tried and SciPy on repeated rows."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import hungarian_core as hc
from hungarian_core.testing import checks
from hungarian_core.testing.driver import Driver

COST = np.random.default_rng(0).normal(size=(4, 3, 7)).astype(np.float32)
CAPACITY = np.array([[2, 0, 3], [4, 4, 4], [1, 1, 1], [9, 2, 1]])
ROWS = np.array([[True, True, True], [True, False, True], [True, True, True], [False, True, True]])
COLS = np.arange(7) < np.array([[7], [7], [7], [2]])


def _least(cost: np.ndarray, capacity: Any, price: Any = None) -> tuple[float, int]:
    """Return the least cost and the number of pairs, by trying a row or none for each column."""
    n, m = cost.shape
    wanted = min(sum(capacity), m)
    best = np.inf, 0
    for rows in itertools.product(range(-1, n), repeat=m):
        taken = np.bincount(np.array(rows) + 1, minlength=n + 1)[1:]
        pairs = sum(taken)
        if (taken > capacity).any() or (price is None and pairs < wanted):
            continue
        total = sum(cost[i, j] for j, i in enumerate(rows) if i >= 0)
        total += 0.0 if price is None else (price * (np.array(capacity) - taken)).sum()
        best = min(best, (float(total), -int(pairs)))
    return best[0], -best[1]


def _check(
    cost: np.ndarray, capacity: np.ndarray, found: hc.ManyAssignment, price: Any = None
) -> None:
    """Check that it is a matching within the capacities, and that its duals prove it."""
    counts = (found.cols4row >= 0).sum(-1)
    assert (counts <= capacity).all()
    assert counts.sum() == (found.row4col >= 0).sum()
    for i, cols in enumerate(found.cols4row):
        taken = cols[cols >= 0]
        assert (np.diff(taken) > 0).all()
        assert (cols[len(taken) :] == -1).all()
        assert (found.row4col[taken] == i).all()
    places = np.arange(found.u.shape[-1]) < capacity[:, None]
    tight = np.where(places, found.u, -np.inf).max(-1)
    assert (tight[:, None] + found.v <= cost + 1e-5).all()
    if price is not None:
        assert (found.u <= price + 1e-5).all()
    np.testing.assert_allclose(found.gap(), 0, atol=1e-5)


def _on_host(driver: Driver, found: Any) -> hc.ManyAssignment:
    return hc.ManyAssignment(*(driver.to_numpy(x) for x in found))


def _at(found: hc.ManyAssignment, k: int) -> hc.ManyAssignment:
    return hc.ManyAssignment(*(x[k] for x in found))


@pytest.mark.parametrize("price", [None, 0.3])
def test_of_each_row(driver: Driver, price: float | None) -> None:
    """Capacities of each row and masks, in one program."""
    if price is None:
        checks.skip_programs(driver)

    def program(cost: Any, capacity: Any, rows: Any, cols: Any) -> Any:
        return hc.assign_many(
            cost, capacity, max_capacity=5, row_mask=rows, col_mask=cols, unmatched_cost=price,
            backend=driver.backend,
        )  # fmt: skip

    capacity = np.where(ROWS, np.minimum(CAPACITY, 5), -3)  # of no row: never read
    inputs = [driver.from_numpy(x) for x in (COST, capacity, ROWS, COLS)]
    found = _on_host(driver, driver.trace(program)(*inputs))
    assert found.cols4row.shape == found.u.shape == (4, 3, 5)
    for k, cost in enumerate(COST.astype(float)):
        room = np.where(ROWS[k], capacity[k], 0)
        one = _at(found, k)
        cols = np.flatnonzero(COLS[k])
        total, pairs = _least(cost[:, cols], room, price)
        np.testing.assert_allclose(one.cost, total, rtol=1e-5)
        assert (one.row4col >= 0).sum() == pairs
        assert (one.row4col[~COLS[k]] == -1).all()
        _check(cost[:, cols], room, one._replace(row4col=one.row4col[cols], v=one.v[cols]), price)


@pytest.mark.parametrize("solver", ["auto", "core"])
@pytest.mark.parametrize("maximize", [False, True])
def test_beside_scipy(driver: Driver, maximize: bool, solver: str) -> None:
    """Of a capacity for all, on matrices with each row so many times."""
    checks.skip_long(driver)
    rng = np.random.default_rng(1)
    for n, m, capacity in ((2, 9, 3), (4, 6, 2), (3, 4, 5), (5, 5, 1)):
        cost = rng.normal(size=(2, n, m)).astype(np.float32)
        found = _on_host(
            driver,
            hc.assign_many(
                driver.from_numpy(cost), capacity, maximize=maximize, solver=solver,
                backend=driver.backend,
            ),
        )  # fmt: skip
        assert found.cols4row.shape == (2, n, capacity)
        for k, one in enumerate(cost.astype(float)):
            wide = np.repeat(one, capacity, axis=0)
            rows, cols = linear_sum_assignment(wide, maximize)
            np.testing.assert_allclose(found.cost[k], wide[rows, cols].sum(), rtol=1e-5)
            sign = -1 if maximize else 1
            turned = _at(found, k)
            turned = turned._replace(cost=sign * turned.cost, u=sign * turned.u, v=sign * turned.v)
            _check(sign * one, np.full(n, capacity), turned)
            mask = _at(found, k).mask()
            assert mask.sum() == len(rows)
            np.testing.assert_allclose(one[mask].sum(), found.cost[k], rtol=1e-5)


def test_partial(driver: Driver) -> None:
    """Where pairs are forbidden, the most pairs and then the least cost, by every choice tried."""
    checks.skip_slow(driver)
    rng = np.random.default_rng(3)
    gated = rng.integers(-4, 9, (5, 3, 5)).astype(np.float32)
    gated[1:][rng.uniform(size=gated[1:].shape) < 0.6] = np.inf
    gated[2] = np.inf
    room = np.array([[2, 1, 3], [2, 1, 1], [1, 1, 1], [0, 3, 2], [1, 2, 2]])

    def program(cost: Any, capacity: Any) -> Any:
        return hc.assign_many(
            cost, capacity, max_capacity=3, partial=True, backend=driver.backend
        )  # fmt: skip

    given = (driver.from_numpy(x) for x in (gated, room))
    found = _on_host(driver, driver.trace(program)(*given))
    for k, cost in enumerate(gated.astype(float)):
        best = 0, 0.0
        for rows in itertools.product(range(-1, 3), repeat=5):
            taken = np.bincount(np.array(rows) + 1, minlength=4)[1:]
            total = sum(cost[i, j] for j, i in enumerate(rows) if i >= 0)
            if (taken <= room[k]).all() and total < np.inf:
                best = min(best, (-int(sum(taken)), total))
        one = _at(found, k)
        assert (-(one.row4col >= 0).sum(), one.cost) == best
        assert cost[one.mask()].sum() == one.cost
        for i, cols in enumerate(one.cols4row):
            np.testing.assert_array_equal(cols[cols >= 0], np.flatnonzero(one.row4col == i))
        assert ((one.cols4row >= 0).sum(-1) <= room[k]).all()
        np.testing.assert_allclose(one.gap(), 0, atol=1e-5)
    assert (found.row4col[2] == -1).all()


def test_prices_of_rows(driver: Driver) -> None:
    """A place stays free where its price is less, of each row at its own."""
    checks.skip_programs(driver)
    prices = np.array([0.5, -0.5, -9.0], np.float32)
    found = _on_host(
        driver,
        hc.assign_many(
            driver.from_numpy(COST), 2, backend=driver.backend,
            unmatched_cost=driver.from_numpy(np.broadcast_to(prices, (4, 3)).copy()),
        ),
    )  # fmt: skip
    for k, cost in enumerate(COST.astype(float)):
        total, _ = _least(cost, [2, 2, 2], prices.astype(float))
        np.testing.assert_allclose(found.cost[k], total, rtol=1e-5)
        _check(cost, np.array([2, 2, 2]), _at(found, k), prices[:, None])
        assert (found.row4col[k] != 2).all()


def test_one_is_assign(driver: Driver) -> None:
    checks.skip_programs(driver)
    cost = driver.from_numpy(COST)
    many = _on_host(driver, hc.assign_many(cost, 1, backend=driver.backend))
    one = hc.assign(cost, backend=driver.backend)
    assert (many.cols4row[..., 0] == driver.to_numpy(one.col4row)).all()
    for name in ("row4col", "cost", "v"):
        np.testing.assert_array_equal(getattr(many, name), driver.to_numpy(getattr(one, name)))


def test_given_to_a_loss(driver: Driver) -> None:
    """The pairs are those of the matching, and where there is none the loss is NaN."""
    checks.skip_programs(driver)
    rng = np.random.default_rng(2)
    boxes, truth = rng.uniform(0.2, 0.5, (2, 6, 4)), rng.uniform(0.2, 0.5, (2, 2, 4))
    criterion = hc.SetLoss([hc.terms.Boxes()], backend=driver.backend, reduction="none")
    outputs = {"boxes": driver.from_numpy(boxes.astype(np.float32))}
    targets = {"boxes": driver.from_numpy(truth.astype(np.float32))}
    cost = sum(criterion.costs(outputs, targets).values())
    match = hc.assign_many(cost, 2, backend=driver.backend)
    out = criterion(outputs, targets, assignment=match)
    rows = driver.to_numpy(match.row4col)
    assert (rows >= 0).sum() == 8
    chosen = np.take_along_axis(truth, np.maximum(rows, 0)[..., None], axis=1)
    apart = np.where(rows >= 0, np.abs(boxes - chosen).sum(-1), 0)
    np.testing.assert_allclose(
        driver.to_numpy(out.losses["bbox"]), 5 * apart.sum(-1) / 8, rtol=1e-5
    )


def test_wrong_capacities(driver: Driver) -> None:
    if not driver.raises:
        pytest.skip("values are not read")
    checks.skip_programs(driver)
    cost = driver.from_numpy(COST)
    cases: tuple[tuple[Any, Any, str], ...] = (
        (-1, {}, "capacity is -1; expected how many columns"),
        (np.array([1, -2, 1]), {}, "capacity holds -2; expected 0 or more"),
        (np.array([1, 3, 1]), {"max_capacity": 2}, "capacity holds 3; expected 0 to max_capacity"),
        (np.array([1.0, 3.0, 1.0]), {}, "capacity has dtype"),
        (np.array([1, 3]), {}, r"shape \(2,\); expected an integer, or integers of a shape"),
    )
    for capacity, options, message in cases:
        given = driver.from_numpy(capacity) if isinstance(capacity, np.ndarray) else capacity
        with pytest.raises(ValueError, match=message):
            hc.assign_many(cost, given, **options, backend=driver.backend)
    with pytest.raises(ValueError, match="infeasible"):
        hc.assign_many(
            driver.from_numpy(np.full((2, 3), np.inf, np.float32)), 2, backend=driver.backend
        )


def test_nothing_to_match(driver: Driver) -> None:
    checks.skip_programs(driver)
    for n, m, capacity in ((0, 3, 2), (2, 0, 2), (2, 3, 0)):
        cost = driver.from_numpy(np.ones((2, n, m), np.float32))
        found = _on_host(driver, hc.assign_many(cost, capacity, backend=driver.backend))
        assert found.cols4row.shape == (2, n, max(capacity, 1))
        assert (found.cols4row == -1).all()
        assert (found.row4col == -1).all()
        assert (found.cost == 0).all()
