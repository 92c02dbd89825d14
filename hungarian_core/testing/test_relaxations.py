"""Regularised matchings against plain algorithms in NumPy, values and gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.relaxations import assignment_matrix
from hungarian_core.relaxations.noise import noise_like
from hungarian_core.testing import checks, relaxed
from hungarian_core.testing.driver import Driver

METHODS = ("sinkhorn", "sinkhorn_implicit", "dykstra")
STEPS = {"sinkhorn": 25, "gumbel_sinkhorn": 25, "sinkhorn_implicit": 30, "dykstra": 60}
TEMPERATURE = 0.5
INF = float("inf")


class Case(NamedTuple):
    """Costs `[b, n, m]`, and the masks if there are any."""

    cost: np.ndarray
    rows: np.ndarray | None = None
    cols: np.ndarray | None = None


_STEP = 1e-5  # of differences


def _cases() -> dict[str, Case]:
    rng = np.random.default_rng(11)
    # Of float32, so that every dtype solves the same problems.
    cost = rng.uniform(size=(4, 5, 6)).astype(np.float32).astype(np.float64)
    rows = np.array([[1, 1, 1, 0, 1], [1, 0, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 1, 0]], bool)
    cols = np.array([[1, 0, 1, 0, 0, 1], [1, 1, 1, 1, 0, 1], [1, 1, 0, 1, 1, 1], [1] * 6], bool)
    forbidden = cost.copy()
    forbidden[0, 0, 0] = forbidden[0, 4, 2] = forbidden[1, 2, 1] = forbidden[2, 3, :4] = INF
    forbidden[0, 3], forbidden[1, :, 4] = INF, -5  # not valid
    return {
        "masks": Case(forbidden, rows, cols),
        "square": Case(cost[:2, :, 1:]),
        "wide": Case(cost[:2, :3] + 100),
        "tall": Case(np.concatenate([cost[2, :, :2], forbidden[0, 3:5, 1:3]])[None]),
        "one": Case(cost[:1, :1, :1]),
    }


CASES = _cases()


@functools.cache
def _program(
    driver: Driver, method: Any, names: tuple[str, ...], options: tuple[tuple[str, Any], ...]
) -> Callable[..., Any]:
    """Return `assignment_matrix` of the costs and the arrays `names`."""

    def run(cost: Any, *arrays: Any) -> Any:
        named = dict(zip(names, arrays, strict=True))
        return assignment_matrix(
            cost,
            method,
            **named,
            **dict(options),
            backend=driver.backend,
        )

    return run


def _arrays(driver: Driver, case: Case, dtype: str) -> tuple[list[Any], tuple[str, ...]]:
    masks = {"row_mask": case.rows, "col_mask": case.cols}
    given = {name: x for name, x in masks.items() if x is not None}
    arrays = [driver.from_numpy(case.cost, dtype), *map(driver.from_numpy, given.values())]
    return arrays, tuple(given)


def _options(method: str, **options: Any) -> tuple[tuple[str, Any], ...]:
    known = {"temperature": TEMPERATURE, "iterations": STEPS[method], "tolerance": 1e-6}
    return tuple((known | options).items())


def _value_and_grad(
    driver: Driver, method: Any, case: Case, dtype: str, upstream: np.ndarray, **options: Any
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the matrix, and the gradient by the costs if the framework has gradients."""
    (cost, *masks), names = _arrays(driver, case, dtype)
    program = _program(driver, method, names, _options(method, **options))
    if not driver.differentiable:
        return driver.to_numpy(driver.trace(program)(cost, *masks)), None
    # Masks do not change in any axis that a driver maps, so they may be constants of the program.
    value, grads = driver.value_and_grad(
        lambda cost: program(cost, *masks), [cost], driver.from_numpy(upstream, dtype)
    )
    return driver.to_numpy(value), driver.to_numpy(grads[0])


@functools.cache
def _expected(method: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrices of a case and the gradient of their sum times `_upstream`."""
    case = CASES[name]
    return relaxed.solution(method, case, TEMPERATURE, _upstream(case))


def _upstream(case: Case) -> np.ndarray:
    return np.random.default_rng(3).normal(size=case.cost.shape) + 0.5


def _run(driver: Driver, method: Any, case: Case, dtype: str, **options: Any) -> Any:
    """Return matrix, iterations and residual as arrays of NumPy."""
    arrays, names = _arrays(driver, case, dtype)
    program = _program(driver, method, names, _options(method, **options, return_info=True))
    found = driver.trace(program)(*arrays)
    return type(found)(*(driver.to_numpy(x) for x in found))


def _skip_long(driver: Driver) -> None:
    """Skip a case that is not essential where it makes a program of its own."""
    checks.skip_long(driver)
    if not driver.static_shapes:
        pytest.skip(f"{driver.name} compiles a program for every case")


def _widest(driver: Driver) -> str:
    return "float64" if "float64" in driver.dtypes else "float32"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("method", METHODS)
def test_value_and_gradient(driver: Driver, method: Any, name: str, dtype: str) -> None:
    """Against a plain algorithm, and finite differences of that."""
    checks.need(driver, dtype)
    if name != "masks" or dtype != _widest(driver):
        _skip_long(driver)
    case, upstream = CASES[name], _upstream(CASES[name])
    expected, slopes = _expected(method, name)
    # Iterations stop where sums are off by less than 1e-6, which in float32 is rounding.
    tolerance = 1e-5 if dtype == "float32" else 1e-6
    found, grad = _value_and_grad(driver, method, case, dtype, upstream)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    forbidden = ~relaxed.allowed(case)
    assert (found[forbidden] == 0).all()
    if grad is not None:
        np.testing.assert_allclose(grad, slopes, rtol=0, atol=10 * tolerance)
        assert (grad[forbidden] == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_sums_iterations_and_residual(driver: Driver, method: Any) -> None:
    """On the smaller side sums are 1; the residual says how far off they are on the larger."""
    _skip_long(driver)
    case = CASES["masks"]
    found = _run(driver, method, case, "float32", tolerance=1e-4)
    assert found.residual.shape == found.iterations.shape == (4,)
    assert ((found.iterations >= 1) & (found.iterations <= STEPS[method])).all()
    assert (found.residual <= 1e-4).all()
    assert case.rows is not None
    assert case.cols is not None
    for matrix, rows, cols in zip(found.matrix, case.rows, case.cols, strict=True):
        sums = matrix.sum(1), matrix.sum(0)
        few, many = sums if rows.sum() <= cols.sum() else sums[::-1]
        valid = rows if rows.sum() <= cols.sum() else cols
        np.testing.assert_allclose(few[valid], 1, rtol=0, atol=1e-6)
        assert (many <= 1 + 1.01e-4).all()
        assert (matrix >= 0).all()


def test_iterations_of_sinkhorn(driver: Driver) -> None:
    """As counted by the plain algorithm, one iteration at a time; without a count there is none."""
    _skip_long(driver)
    cost = CASES["square"].cost
    sums = np.array([relaxed.sinkhorn(cost, TEMPERATURE, k).sum(1) for k in range(1, 9)])
    off = np.abs(sums - 1).max(-1)
    found = _run(driver, "sinkhorn", CASES["square"], "float32", tolerance=1e-3, iterations=8)
    np.testing.assert_array_equal(found.iterations, 1 + (off > 1e-3).sum(0))
    np.testing.assert_allclose(found.residual, off[-1], rtol=0, atol=1e-6)
    found = _run(driver, "sinkhorn", CASES["square"], "float32", tolerance=1e-3, iterations=2)
    np.testing.assert_array_equal(found.iterations, 2)
    np.testing.assert_allclose(found.residual, off[1], rtol=1e-3)
    assert (found.residual > 1e-3).all()


@pytest.mark.parametrize("name", ["wide", "tall"])
def test_gradient_of_few_iterations(driver: Driver, name: str) -> None:
    """Of what three iterations give, not of their limit: by differences of values in NumPy."""
    checks.need(driver, "float64")
    _skip_long(driver)
    if not driver.differentiable:
        pytest.skip(f"{driver.name} has no gradients")
    case, upstream = CASES[name], _upstream(CASES[name])
    options: Any = {"temperature": 0.1, "iterations": 3}
    _, grad = _value_and_grad(driver, "sinkhorn", case, "float64", upstream, **options)
    moves = np.eye(case.cost.size).reshape(-1, *case.cost.shape) * _STEP
    near, far = (
        np.sum(upstream * hc.assignment_matrix(case.cost + d, "sinkhorn", **options), (-3, -2, -1))
        for d in (moves, -moves)
    )
    slopes = ((near - far) / (2 * _STEP)).reshape(case.cost.shape)
    assert grad is not None
    np.testing.assert_allclose(grad, slopes, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_implicit_is_unrolled(driver: Driver, dtype: str) -> None:
    """At convergence, which takes Sinkhorn's algorithm 36 iterations."""
    checks.need(driver, dtype)
    checks.skip_long(driver)
    if not driver.differentiable or not driver.static_shapes:
        pytest.skip(f"{driver.name} has no gradients, or compiles long")
    case = CASES["wide"]
    options = {"temperature": 0.1, "tolerance": 1e-6 if dtype == "float32" else 1e-12}
    found = [
        _value_and_grad(driver, method, case, dtype, _upstream(case), iterations=40, **options)
        for method in ("sinkhorn", "sinkhorn_implicit")
    ]
    for unrolled, implicit in zip(*found, strict=True):
        atol = 1e-4 if dtype == "float32" else 1e-9
        np.testing.assert_allclose(implicit, unrolled, rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["masks", "square", "wide", "tall"])
@pytest.mark.parametrize("method", METHODS)
def test_cold_in_float32(driver: Driver, method: Any, name: str) -> None:
    """At a temperature of 1e-3 all is finite, and the limit, the matching, is near."""
    if name != "masks" or method == "sinkhorn":
        _skip_long(driver)
    case = CASES[name]
    found, grad = _value_and_grad(
        driver, method, case, "float32", _upstream(case), temperature=1e-3
    )
    assert np.isfinite(found).all()
    assert grad is None or np.isfinite(grad).all()
    mask = hc.assign(case.cost, row_mask=case.rows, col_mask=case.cols).mask()
    if method == "dykstra":
        np.testing.assert_allclose(found, mask, rtol=0, atol=1e-4)
        assert (found[~mask] == 0).all()
    elif method == "sinkhorn_implicit":
        np.testing.assert_allclose(found, mask, rtol=0, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_temperature_is_an_array(driver: Driver, method: Any) -> None:
    """It may be traced, and has a gradient."""
    _skip_long(driver)
    case, upstream = CASES["square"], _upstream(CASES["square"])

    def program(heat: Any) -> Any:
        cost = driver.from_numpy(case.cost, dtype)
        return assignment_matrix(
            cost,
            method,
            temperature=heat,
            tolerance=1e-6,
            backend=driver.backend,
        )

    dtype = _widest(driver)
    heat = driver.from_numpy(np.array(TEMPERATURE), dtype)
    expected = _expected(method, "square")[0]
    if not driver.differentiable:
        found = driver.trace(program)(heat)
    else:
        found, (slope,) = driver.value_and_grad(program, [heat], driver.from_numpy(upstream, dtype))
        near, far = (
            np.sum(upstream * relaxed.solution(method, case, TEMPERATURE + h, upstream)[0])
            for h in (-1e-4, 1e-4)
        )
        assert driver.to_numpy(slope) == pytest.approx((far - near) / 2e-4, rel=1e-3)
    np.testing.assert_allclose(driver.to_numpy(found), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_order_does_not_matter(driver: Driver, method: Any) -> None:
    _skip_long(driver)
    case = CASES["masks"]
    assert case.rows is not None
    assert case.cols is not None
    i, j = [3, 0, 4, 1, 2], [5, 2, 0, 1, 4, 3]
    turned = Case(case.cost[:, i][:, :, j], case.rows[:, i], case.cols[:, j])
    found, other = (_run(driver, method, x, "float32").matrix for x in (case, turned))
    np.testing.assert_allclose(other, found[:, i][:, :, j], rtol=0, atol=1e-5)


def test_gumbel_sinkhorn(driver: Driver) -> None:
    """The mean over costs less noise, in value and gradient."""
    checks.skip_long(driver)
    scale, samples = 0.25, 3
    case, upstream = CASES["masks"], _upstream(CASES["masks"])
    noise = noise_like(case.cost, samples, 5, "gumbel", hc.get_backend("numpy"))
    parts = [
        relaxed.solution("sinkhorn", case._replace(cost=case.cost - scale * z), 1.0, upstream)
        for z in noise
    ]
    expected, slopes = np.mean(parts, axis=0)
    found, grad = _value_and_grad(
        driver, "gumbel_sinkhorn", case, _widest(driver), upstream,
        temperature=1.0, noise_scale=scale, samples=samples, seed=5,
    )  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    if grad is not None:
        np.testing.assert_allclose(grad, slopes, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_one_problem_without_a_batch(driver: Driver, method: Any) -> None:
    _skip_long(driver)
    cost = driver.from_numpy(CASES["wide"].cost[0], "float32")
    found = driver.trace(_program(driver, method, (), _options(method)))(cost)
    expected = _expected(method, "wide")[0][0]
    np.testing.assert_allclose(driver.to_numpy(found), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_without_a_complete_matching(driver: Driver, method: Any) -> None:
    """Two rows that share their one column: only the residual says so, and nothing overflows."""
    _skip_long(driver)
    case = Case(np.array([[[0, INF, INF], [1, INF, INF], [0, 1, 2]]]))
    found = _run(driver, method, case, "float32")
    assert np.isfinite(found.matrix).all()
    assert found.iterations == STEPS[method]
    assert found.residual > 0.4
