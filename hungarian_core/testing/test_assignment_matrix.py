"""What all ways through a matching have in common: what they refuse, lose, mask and return."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing import checks, examples
from hungarian_core.testing.driver import Driver

INF, NAN = float("inf"), float("nan")
SOLVED = ("blackbox", "perturbed")
METHODS: Any = tuple(k for k in hc.relaxations.METHODS if k != "hnet")


def _need_known_shapes(driver: Driver, name: str) -> None:
    """Skip a relaxation on shapes unknown to its program, which has tests of its own for them."""
    if name in METHODS and name not in SOLVED and not driver.static_shapes:
        pytest.skip("the tests of the relaxations look at this")


NAMES = ("assignment_cost", "fenchel_young_loss", *METHODS)


@pytest.mark.parametrize("name", NAMES)
def test_lost_samples(driver: Driver, name: str) -> None:
    """Eagerly an error; elsewhere NaN, without a gradient, and the others as without them."""
    if name != "blackbox":
        checks.skip_long(driver)
    _need_known_shapes(driver, name)
    cost, *_ = examples.Example("", (4, 3, 3)).data()
    cost[1, 2, 1] = NAN
    cost[3, 0] = INF
    program = examples.programs(driver)[name]
    if driver.raises:
        for k, message in ((1, "invalid numeric entries"), (3, "is infeasible")):
            with pytest.raises(ValueError, match=message):
                driver.trace(program)(driver.from_numpy(cost[[0, k]]))
        return
    shape = cost.shape if name in METHODS else (4,)
    value, *grads = examples.run(driver, program, examples.upstream(shape), cost)
    assert np.isnan(value[[1, 3]]).all()
    assert np.isfinite(value[[0, 2]]).all()
    for grad in grads:
        np.testing.assert_array_equal(grad[[1, 3]], 0)
        assert np.isfinite(grad).all()


@pytest.mark.parametrize("name", SOLVED)
def test_infeasible_together(driver: Driver, name: str) -> None:
    """Each row has a pair, and two rows the same one."""
    checks.skip_long(driver)
    cost, *_ = examples.Example("", (2, 3, 3)).data()
    cost[1, :2, 1:] = INF
    program = examples.programs(driver)[name]
    if driver.raises:
        with pytest.raises(ValueError, match=r"is infeasible.*\(first at batch index 1\)"):
            driver.trace(program)(driver.from_numpy(cost))
        return
    value, *grads = examples.run(driver, program, examples.upstream(cost.shape), cost)
    assert np.isnan(value[1]).all()
    assert np.isfinite(value[0]).all()
    for grad in grads:
        np.testing.assert_array_equal(grad[1], 0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(2, 0, 3), (2, 3, 0), (0, 2, 3)], ids=str)
def test_empty(driver: Driver, name: str, shape: tuple[int, ...]) -> None:
    """Empty sets are fine, and in the graph."""
    checks.skip_long(driver)
    _need_known_shapes(driver, name)
    cost = np.zeros(shape, np.float32)
    value = shape if name in METHODS else shape[:1]
    found = examples.run(driver, examples.programs(driver)[name], examples.upstream(value), cost)
    for x, expected in zip(found, (value, shape)[: len(found)], strict=True):
        np.testing.assert_array_equal(x, np.zeros(expected))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32"])
@pytest.mark.parametrize("name", ["assignment_cost", "fenchel_young_loss", *SOLVED])
def test_dtypes(driver: Driver, name: str, dtype: str) -> None:
    """Totals have the dtype of `assign`, everything else that of the cost, if it is floating."""
    checks.need(driver, dtype)
    checks.skip_long(driver)
    cost = np.round(examples.Example("").data()[0] * 8)
    found = driver.trace(examples.programs(driver)[name])(driver.from_numpy(cost, dtype))
    expected = checks.solving_dtype(driver, dtype)
    if name != "assignment_cost" and dtype != "int32":
        expected = dtype
    assert driver.dtype(found) == expected
    if name == "blackbox":
        np.testing.assert_array_equal(driver.to_numpy(found), examples.match(cost))


@pytest.mark.parametrize("name", METHODS)
def test_masked_entries_are_zero(driver: Driver, name: str) -> None:
    """And what they hold is not read: not by the values, and not by the gradients."""
    checks.skip_long(driver)
    _need_known_shapes(driver, name)
    cost, rows, cols = examples.Example("", (3, 5, 6), masked=True).data()
    assert rows is not None
    assert cols is not None
    options = {"row_mask": driver.from_numpy(rows), "col_mask": driver.from_numpy(cols)}
    found = examples.run(
        driver, examples.programs(driver, **options)[name], examples.upstream(cost.shape), cost
    )
    valid = rows[:, :, None] & cols[:, None, :]
    for x in found:
        assert np.isfinite(x).all()
        np.testing.assert_array_equal(x[~valid], 0)
    np.testing.assert_allclose(
        found[0].sum((1, 2)), np.minimum(rows.sum(1), cols.sum(1)), atol=2e-2
    )


@pytest.mark.parametrize("name", SOLVED)
def test_info(driver: Driver, name: str) -> None:
    checks.skip_slow(driver)
    cost, *_ = examples.Example("").data()
    found = driver.trace(examples.programs(driver, return_info=True)[name])(driver.from_numpy(cost))
    assert driver.to_numpy(found.matrix).shape == cost.shape
    np.testing.assert_array_equal(driver.to_numpy(found.iterations), [0, 0, 0])
    np.testing.assert_array_equal(driver.to_numpy(found.residual), [0, 0, 0])


def test_by_a_network(driver: Driver) -> None:
    """What `hnet.associate` says of finite costs; 0 for a forbidden pair, and the sums measured."""
    checks.skip_long(driver)
    params = hc.hnet.init_params(width=4, layers=2, seed=1)
    cost = np.abs(examples.Example("", (2, 3, 4)).data()[0])
    run = driver.trace(examples.programs(driver, return_info=True, params=params)["hnet"])
    found = run(driver.from_numpy(cost))
    expected = hc.hnet.associate(cost, params)
    matrix = driver.to_numpy(found.matrix)
    np.testing.assert_allclose(matrix, expected, rtol=1e-5, atol=1e-6)
    sums = expected.sum(2), expected.sum(1)
    off = np.maximum(np.abs(sums[0] - 1).max(1), (sums[1] - 1).max(1))
    np.testing.assert_allclose(driver.to_numpy(found.residual), off, atol=1e-5)
    cost[0, 1, 2] = INF
    forbidden = driver.to_numpy(run(driver.from_numpy(cost)).matrix)
    assert forbidden[0, 1, 2] == 0
    assert np.isfinite(forbidden).all()
    np.testing.assert_allclose(forbidden[1], matrix[1], atol=1e-6)


ERRORS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"method": "hungarian"}, "method is 'hungarian'; expected one of 'blackbox', 'perturbed'"),
    ({"method": "blackbox", "temperature": 1.0},
     "temperature came, and method='blackbox' has no such option; it has interpolation=10.0"),
    ({"method": "perturbed", "temperature": 0.0}, "temperature is 0.0; expected a finite number"),
    ({"method": "perturbed", "samples": 1}, "samples is 1; expected an integer of at least 2"),
    ({"method": "perturbed", "noise": "white"}, "noise is 'white'; expected one of 'gaussian'"),
    ({"method": "perturbed", "seed": -1}, "seed is -1; expected an integer from 0 to 2"),
    ({"method": "perturbed", "seed": np.float32(0)}, r"seed is an array of shape \(\) and dtype"),
    ({"method": "blackbox", "interpolation": np.ones(2, np.float32)},
     r"interpolation is an array of shape \(2,\)"),
    ({"method": "blackbox", "row_mask": np.ones((3, 2), bool)}, r"row_mask has shape \(3, 2\)"),
    ({"method": "blackbox", "nan": "skip"}, "nan is 'skip'; expected one of"),
    ({"method": "hnet"}, "params is NoneType; method='hnet' expects the parameters of a network"),
)  # fmt: skip


@pytest.mark.parametrize(("options", "message"), ERRORS, ids=[e[1][:24] for e in ERRORS])
def test_errors(driver: Driver, options: dict[str, Any], message: str) -> None:
    checks.skip_slow(driver)
    options = {
        key: driver.from_numpy(np.asarray(x)) if isinstance(x, (np.ndarray, np.generic)) else x
        for key, x in options.items()
    }
    cost = driver.from_numpy(examples.Example("").data()[0])
    with pytest.raises(ValueError, match=message):
        hc.assignment_matrix(cost, **options, backend=driver.backend)


def test_errors_of_the_loss(driver: Driver) -> None:
    checks.skip_slow(driver)
    cost = driver.from_numpy(examples.Example("").data()[0])
    with pytest.raises(ValueError, match=r"target has shape \(4, 4\) and cost \(3, 4, 4\)"):
        hc.fenchel_young_loss(cost, cost[0, ...], backend=driver.backend)
    with pytest.raises(ValueError, match="samples is 0; expected an integer of at least 1"):
        hc.fenchel_young_loss(cost, cost, samples=0, backend=driver.backend)
