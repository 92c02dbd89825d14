"""`assign`, its result, and `linear_sum_assignment`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing import checks
from hungarian_core.testing.cases import CASES, CROWDED, WIDE, Case
from hungarian_core.testing.driver import Driver

SOLVERS = ("core", "native", "scipy")
by_name = {case.name: case for case in CASES}


def _prepare(driver: Driver, case: Case, solver: str) -> None:
    checks.need(driver, case.dtype)
    checks.need_solver(driver, solver)
    if not case.essential and not (solver == "native" and driver.thorough_native):
        checks.skip_slow(driver)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_optimal_and_certified(driver: Driver, case: Case, solver: str) -> None:
    _prepare(driver, case, solver)
    if case.bad is not None and driver.raises:
        with pytest.raises(ValueError, match=case.error):
            checks.run(driver, case, solver)
        return
    cost, found = checks.run(driver, case, solver)
    checks.check(driver, case, cost, checks.on_host(driver, found))


@pytest.mark.parametrize("case", CROWDED, ids=str)
def test_shortlists_of_the_native_solver(driver: Driver, case: Case) -> None:
    """Optimal and certified too where it does not look at all columns at every step."""
    _prepare(driver, case, "native")
    cost, found = checks.run(driver, case, "native")
    checks.check(driver, case, cost, checks.on_host(driver, found))


@pytest.mark.parametrize("name", ["wide", "masks", "priced"])
def test_auto_agrees(driver: Driver, name: str) -> None:
    """The solver of choice is optimal too; generic costs have only one optimum."""
    if name == "wide":
        checks.skip_slow(driver)
    _prepare(driver, by_name[name], "auto")
    cost, found = checks.run(driver, by_name[name], "auto")
    checks.check(driver, by_name[name], cost, checks.on_host(driver, found))
    _, core = checks.run(driver, by_name[name], "core")
    np.testing.assert_array_equal(driver.to_numpy(found.col4row), driver.to_numpy(core.col4row))


@pytest.mark.parametrize("name", ["wide", "tall", "masks", "priced"])
def test_results_lie_where_the_input_lies(driver: Driver, name: str) -> None:
    _prepare(driver, by_name[name], "core")
    (x, *_), _, _ = checks.arguments(driver, by_name[name])
    _, found = checks.run(driver, by_name[name], "core")
    for y in found:
        assert type(y) is type(x)
        assert driver.device(y) == driver.device(x)
    info = driver.resolve(x).namespace(x).__array_namespace_info__()
    index = info.default_dtypes()["indexing"]
    assert found.col4row.dtype == index
    assert found.row4col.dtype == index
    for y in (found.cost, found.u, found.v):
        assert driver.dtype(y) == "float32"


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", ["ties", "generic"])
def test_equal_inputs_give_equal_outputs(driver: Driver, kind: str, solver: str) -> None:
    """Neither the place in the batch nor its other members change a result."""
    rng = np.random.default_rng(3)
    cost = rng.uniform(size=(7, 6, 8))
    cost = np.round(cost * 3) if kind == "ties" else cost
    cost[[3, 6]] = cost[0]  # at an odd and an even place
    case = Case(kind, cost, essential=True)
    _prepare(driver, case, solver)
    _, found = checks.run(driver, case, solver)
    _, alone = checks.run(driver, Case("alone", cost[:1]), solver)
    for x, single in zip(checks.on_host(driver, found), checks.on_host(driver, alone), strict=True):
        for at in (0, 3, 6):
            np.testing.assert_array_equal(x[at], single[0])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("part", [1, 0.125], ids=["largest", "eighth"])
def test_costs_near_the_largest_number(
    driver: Driver, part: float, dtype: str, solver: str
) -> None:
    """The matching is that of smaller costs; up to an eighth, so are total and duals."""
    checks.need(driver, dtype)
    checks.need_solver(driver, solver)
    if part < 1:
        checks.skip_slow(driver)
    rng = np.random.default_rng(4)
    cost = rng.uniform(-1, 1, size=(5, 6, 7))
    cost[:3] = np.sign(cost[:3])  # differences beyond the largest number
    cost = (np.where(rng.uniform(size=cost.shape) < 0.2, 0.5**20 * cost, cost) * part).astype(dtype)
    largest = np.finfo(dtype).max
    _, small = checks.run(driver, Case("small", cost, dtype=dtype, essential=True), solver)
    _, large = checks.run(
        driver, Case("large", cost * largest, dtype=dtype, essential=True), solver
    )
    few, many = checks.on_host(driver, small), checks.on_host(driver, large)
    for b in range(5):
        rows = np.flatnonzero(few.col4row[b] >= 0)
        exact = cost[b].astype(float)
        best = exact[rows, few.col4row[b][rows]].sum()
        assert (many.row4col[b] >= 0).sum() == 6
        assert exact[rows, many.col4row[b][rows]].sum() == pytest.approx(best, abs=1e-5)
        if part < 1:
            assert np.isfinite(many.u[b]).all()
            assert np.isfinite(many.v[b]).all()
            assert many.cost[b] / largest == pytest.approx(best, abs=1e-5)
            slack = cost[b] - many.u[b][:, None] / largest - many.v[b] / largest
            assert slack.min() > -1e-5


@pytest.mark.parametrize("name", ["two_batch_axes", "surplus_rows", "no_rows", "no_columns"])
def test_mask(driver: Driver, name: str) -> None:
    case = by_name[name]
    _prepare(driver, case, "core")
    _, found = checks.run(driver, case, "core")
    mask = driver.to_numpy(found.mask())
    assert mask.dtype == np.bool_
    columns = np.arange(case.cost.shape[-1])
    expected = driver.to_numpy(found.col4row)[..., None] == columns
    np.testing.assert_array_equal(mask, expected)


def test_gap(driver: Driver) -> None:
    _, found = checks.run(driver, by_name["masks"], "core")
    cost, u, v = (driver.to_numpy(x).astype(np.float64) for x in found[2:])
    gap = driver.to_numpy(found.gap())
    assert gap.shape == (3,)
    np.testing.assert_allclose(gap, cost - u.sum(-1) - v.sum(-1), rtol=0, atol=2e-6)


def test_indices_of_one_problem(driver: Driver) -> None:
    case = Case("one", np.array([[9.0, 1.0], [2.0, 9.0], [3.0, 3.0]]), essential=True)
    _, found = checks.run(driver, case, "core")
    row_ind, col_ind = found.indices()
    np.testing.assert_array_equal(driver.to_numpy(row_ind), [0, 1])
    np.testing.assert_array_equal(driver.to_numpy(col_ind), [1, 0])


def test_indices_of_a_batch(driver: Driver) -> None:
    _, found = checks.run(driver, by_name["wide"], "core")
    with pytest.raises(ValueError, match="for one problem"):
        found.indices()


BATCHES = {"tall": (2, 5, 3), "wide": (2, 3, 3, 5), "rows": (2, 0, 3), "none": (0, 2, 2)}


def _batch(driver: Driver, name: str) -> tuple[list[Any], Any]:
    """Return a cost with masks, and the program that matches it."""
    shape = BATCHES[name]
    rng = np.random.default_rng(1)
    cost = rng.uniform(size=shape).astype(np.float32)
    rows, cols = rng.random(shape[:-1]) < 0.7, rng.random((*shape[:-2], shape[-1])) < 0.8

    def match(cost: Any, rows: Any, cols: Any) -> hc.Assignment:
        return hc.assign(cost, row_mask=rows, col_mask=cols, solver="core", backend=driver.backend)

    return [driver.from_numpy(x) for x in (cost, rows, cols)], match


@pytest.mark.parametrize("name", BATCHES)
def test_padded_indices(driver: Driver, name: str) -> None:
    """First what is matched, rows ascending, then -1, in arrays of one shape."""
    if not driver.thorough and name != "tall":
        pytest.skip(f"{driver.name} compiles each shape, and one has all that the text has")
    arrays, match = _batch(driver, name)

    def program(*arrays: Any) -> Any:
        found = match(*arrays)
        return (*found.padded_indices(), found.col4row)

    row_ind, col_ind, col4row = map(driver.to_numpy, driver.trace(program)(*arrays))
    *batch, n, m = BATCHES[name]
    assert row_ind.shape == col_ind.shape == (*batch, min(n, m))
    assert row_ind.dtype == col_ind.dtype == col4row.dtype
    for b in np.ndindex(*batch):
        (rows,) = np.nonzero(col4row[b] >= 0)
        padding = np.full(min(n, m) - len(rows), -1)
        np.testing.assert_array_equal(row_ind[b], [*rows, *padding])
        np.testing.assert_array_equal(col_ind[b], [*col4row[b][rows], *padding])


@pytest.mark.parametrize("name", BATCHES)
def test_pairs_of_a_batch(driver: Driver, name: str) -> None:
    checks.skip_programs(driver)
    arrays, match = _batch(driver, name)
    found = match(*arrays)
    pairs = found.pairs()
    columns = driver.to_numpy(found.col4row)
    *batch, n, _ = BATCHES[name]
    assert len(pairs) == np.prod(batch)
    for (rows, cols), expected in zip(pairs, columns.reshape(len(pairs), n), strict=True):
        np.testing.assert_array_equal(driver.to_numpy(rows), np.nonzero(expected >= 0)[0])
        np.testing.assert_array_equal(driver.to_numpy(cols), expected[expected >= 0])


def test_pairs_in_a_program(driver: Driver) -> None:
    arrays, match = _batch(driver, "tall")
    if driver.trace(match) is match:
        pytest.skip(f"{driver.name} is eager")
    if not driver.thorough_eager:
        pytest.skip(f"{driver.name} says what others of the framework say")
    if driver.resolve(arrays[0]).name == "array_api_strict":
        pytest.skip(f"{driver.name} has values in its programs")
    # Frameworks wrap what is raised while they trace; PyTorch 2.8 tells of what kind it was alone.
    with pytest.raises(Exception, match=r"padded_indices\(\)|exception .*<class 'ValueError'>"):
        driver.trace(lambda *x: match(*x).pairs()[0])(*arrays)


COUNTED = [(False, [0, 2, 1]), (True, [0, 1, 1])]


@pytest.mark.parametrize(("maximize", "expected"), COUNTED, ids=["min", "max"])
def test_count_invalid(driver: Driver, maximize: bool, expected: list[int]) -> None:
    cost = np.zeros(WIDE)
    cost[1, 2, 3], cost[1, 0, 0] = np.nan, -np.inf
    cost[2, 0, 0] = cost[2, 1, 1] = np.nan  # one of them in a masked row
    row_mask = np.ones((3, 4), bool)
    row_mask[2, 1] = False
    count = functools.partial(hc.count_invalid, maximize=maximize, backend=driver.backend)

    def program(cost: Any, row_mask: Any) -> Any:
        return count(cost, row_mask=row_mask)

    found = driver.trace(program)(driver.from_numpy(cost, "float32"), driver.from_numpy(row_mask))
    np.testing.assert_array_equal(driver.to_numpy(found), expected)


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
@pytest.mark.parametrize("maximize", [False, True], ids=["min", "max"])
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (0, 3), (1, 1)], ids=str)
def test_linear_sum_assignment(
    driver: Driver, shape: tuple[int, int], maximize: bool, solver: Any
) -> None:
    from scipy.optimize import linear_sum_assignment

    checks.need_solver(None, solver)
    if not driver.thorough and (maximize or solver != "core" or 0 in shape):
        pytest.skip(f"{driver.name} compiles, and this is never compiled")
    cost = np.random.default_rng(shape).uniform(size=shape)
    expected = linear_sum_assignment(cost, maximize)
    found = hc.linear_sum_assignment(
        driver.from_numpy(cost, "float32"), maximize, solver=solver, backend=driver.backend
    )
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_array_equal(driver.to_numpy(x), y)
