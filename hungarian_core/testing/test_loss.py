"""`loss`: values and gradients against an independent reference in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing import checks, reference
from hungarian_core.testing.driver import Driver

# The promise across frameworks: float32 to 1e-6 and float64 to 1e-12, relative to the largest.
RELATIVE = {"float32": 1e-6, "float64": 1e-12}
COSTS = ("euclidean", "sqeuclidean", "l1", "cosine")
REDUCTIONS = ("mean", "sum", "none", "sample")
TRUE = np.array([[[1.0, 2, 3, 4], [5, 6, 7, 8]]])
PRED = np.array([[[1.0, 1, 1, 1], [2, 2, 2, 2]]])


@dataclass(frozen=True, eq=False)
class Example:
    """One call of `loss`: n, m, and what else."""

    name: str
    n: int = 4
    m: int = 6
    d: int = 3
    dtype: str = "float32"
    masked: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    essential: bool = False

    def __str__(self) -> str:
        return self.name

    def data(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return y_true, y_pred and mask, exact in the dtype."""
        rng = np.random.default_rng([self.n, self.m])
        y_true = rng.normal(size=(3, self.n, self.d)).astype(np.float32)
        y_pred = rng.normal(size=(3, self.m, self.d)).astype(np.float32)
        mask = None
        if self.masked:
            mask = rng.uniform(size=(3, self.n)) > 0.4
            mask[1] = False
            y_true[~mask] = np.nan
        return y_true.astype(self.dtype), y_pred.astype(self.dtype), mask


EXAMPLES = (
    *(
        Example(f"{cost}_{dtype}", dtype=dtype, options={"cost": cost}, essential=cost == "l1")
        for cost in COSTS
        for dtype in RELATIVE
    ),
    Example("angular", dtype="float64", options={"cost": "angular"}),
    Example("great_circle", d=2, dtype="float64", options={"cost": "great_circle"}),
    Example("points", d=4, dtype="float64", options={"cost": "points"}),
    *(
        Example(f"{reduction}_masked", masked=True, options={"reduction": reduction},
                essential=reduction == "mean")
        for reduction in REDUCTIONS
    ),
    *(Example(reduction, options={"reduction": reduction}) for reduction in REDUCTIONS[1:]),
    Example("as_many", 5, 5),
    Example("more_truths", 6, 4),
    Example("more_truths_masked", 6, 4, masked=True),
    Example("no_truths", 0, 4, essential=True),
    Example("no_truths_none", 0, 4, options={"reduction": "none"}),
    Example("no_predictions", 4, 0),
    Example("no_predictions_sample", 4, 0, options={"reduction": "sample"}),
    Example("nothing", 0, 0),
    Example("pair_loss", options={"cost": "euclidean", "pair_loss": "l1"}),
    Example("pair_loss_float64", dtype="float64", masked=True,
            options={"cost": "l1", "pair_loss": "sqeuclidean", "reduction": "sum"}),
)  # fmt: skip


def _program(driver: Driver, mask: Any = None, **options: Any) -> Callable[..., Any]:
    """Return the loss as a function of y_true and y_pred."""

    def program(y_true: Any, y_pred: Any) -> Any:
        return hc.loss(y_true, y_pred, mask=mask, backend=driver.backend, **options)

    return program


def _close(driver: Driver, found: Any, expected: Any, dtype: str) -> None:
    found = driver.to_numpy(found)
    expected = np.asarray(expected)
    assert found.shape == expected.shape
    scale = np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=RELATIVE[dtype] * scale)


def _skip_unless_wanted(driver: Driver, example: Example) -> None:
    checks.need(driver, example.dtype)
    if not example.essential:
        checks.skip_lengthy(driver)


def _upstream(shape: tuple[int, ...]) -> np.ndarray:
    """Return a gradient from above that is not 1, exact in every dtype."""
    return 2.5 + np.arange(np.prod(shape, dtype=int)).reshape(shape) / 4


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_value(driver: Driver, example: Example) -> None:
    _skip_unless_wanted(driver, example)
    y_true, y_pred, mask = example.data()
    expected = _reference(example)

    def program(y_true: Any, y_pred: Any, *mask: Any) -> Any:
        return _program(driver, *mask, **example.options)(y_true, y_pred)

    arrays = [driver.from_numpy(x) for x in (y_true, y_pred, mask) if x is not None]
    found = driver.trace(program)(*arrays)
    assert driver.dtype(found) == example.dtype
    assert driver.device(found) == driver.device(arrays[0])
    _close(driver, found, expected.value, example.dtype)


def _reference(example: Example) -> reference.Loss:
    y_true, y_pred, mask = example.data()
    options = dict(example.options)
    reduction = options.get("reduction", "mean")
    shape = {"none": y_true.shape[:2], "sample": y_true.shape[:1]}.get(reduction, ())
    return reference.loss(
        y_true, y_pred, mask, cost=options.get("cost", "euclidean"), pair=options.get("pair_loss"),
        reduction=reduction, upstream=_upstream(shape),
    )  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_gradient(driver: Driver, example: Example) -> None:
    """The gradient by both inputs, with an upstream gradient; 0 and finite at NaN padding."""
    _skip_unless_wanted(driver, example)
    if not driver.differentiable:
        pytest.skip(f"{driver.name} is not differentiable")
    y_true, y_pred, mask = example.data()
    expected = _reference(example)
    program = _program(driver, None if mask is None else driver.from_numpy(mask), **example.options)
    upstream = driver.from_numpy(_upstream(expected.value.shape), example.dtype)
    arrays = [driver.from_numpy(y_true), driver.from_numpy(y_pred)]
    value, (grad_true, grad_pred) = driver.value_and_grad(program, arrays, upstream)
    _close(driver, value, expected.value, example.dtype)
    _close(driver, grad_true, expected.grad_true, example.dtype)
    _close(driver, grad_pred, expected.grad_pred, example.dtype)
    assert driver.dtype(grad_pred) == example.dtype
    assert driver.device(grad_pred) == driver.device(arrays[1])


def test_finite_differences(driver: Driver) -> None:
    """The gradient is the slope, measured in the framework itself."""
    if not driver.differentiable:
        pytest.skip(f"{driver.name} is not differentiable")
    checks.need(driver, "float64")
    checks.skip_lengthy(driver)
    rng = np.random.default_rng(0)
    y_true, y_pred = rng.normal(size=(1, 2, 2)), rng.normal(size=(1, 3, 2))
    program = _program(driver, cost="cosine", pair_loss="euclidean")
    traced = driver.trace(program)
    upstream = 3.0
    _, (_, grad) = driver.value_and_grad(
        program, [driver.from_numpy(y_true), driver.from_numpy(y_pred)],
        driver.from_numpy(np.asarray(upstream)),
    )  # fmt: skip
    slopes = np.zeros_like(y_pred)
    step = 1e-5
    for at in np.ndindex(y_pred.shape):
        ends = []
        for sign in (1, -1):
            moved = y_pred.copy()
            moved[at] += sign * step
            value = traced(driver.from_numpy(y_true), driver.from_numpy(moved))
            ends.append(float(driver.to_numpy(value)))
        slopes[at] = upstream * (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(driver.to_numpy(grad), slopes, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dtype", sorted(RELATIVE))
def test_documented_example(driver: Driver, dtype: str) -> None:
    """Matching by order of cost, the greedy one, would give 6.8372305."""
    checks.need(driver, dtype)
    if dtype == "float64":
        checks.skip_lengthy(driver)
    true, pred = driver.from_numpy(TRUE, dtype), driver.from_numpy(PRED, dtype)
    found = driver.trace(_program(driver))(true, pred)
    assert float(driver.to_numpy(found)) == pytest.approx(6.50763825, rel=1e-7)


@pytest.mark.parametrize("cost", COSTS)
def test_gradient_is_zero_at_the_truth(driver: Driver, cost: str) -> None:
    """Where a prediction equals its truth, the slope is taken as 0 and never NaN."""
    if not driver.differentiable:
        pytest.skip(f"{driver.name} is not differentiable")
    if cost != "euclidean":
        checks.skip_lengthy(driver)
    # Unit vectors: their cosine is exactly 1, and so is its gradient exactly 0.
    y = driver.from_numpy(np.eye(3)[None], "float32")
    value, grads = driver.value_and_grad(
        _program(driver, cost=cost), [y, y], driver.from_numpy(np.asarray(3.0), "float32")
    )
    assert float(driver.to_numpy(value)) == 0
    for grad in grads:
        np.testing.assert_array_equal(driver.to_numpy(grad), np.zeros((1, 3, 3)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(driver: Driver, dtype: str) -> None:
    """Solved and summed in float32, returned in the dtype that came."""
    checks.need(driver, dtype)
    if dtype == "bfloat16":
        checks.skip_lengthy(driver)
    true, pred = driver.from_numpy(TRUE, dtype), driver.from_numpy(PRED, dtype)
    found = driver.trace(_program(driver))(true, pred)
    assert driver.dtype(found) == dtype
    rounded = driver.to_numpy(driver.from_numpy(np.asarray(6.50763825), dtype))
    assert float(driver.to_numpy(found)) == float(rounded)


def test_callable_cost(driver: Driver) -> None:
    """A cost of the user's own gets the framework's namespace, and both of its shapes."""

    def weighted(xp: Any, a: Any, b: Any) -> Any:
        return 2 * xp.sum(xp.abs(a - b), axis=-1)

    found = driver.trace(_program(driver, cost=weighted))(
        driver.from_numpy(TRUE, "float32"), driver.from_numpy(PRED, "float32")
    )
    expected = reference.loss(TRUE, PRED, cost="l1").value * 2
    _close(driver, found, expected, "float32")


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
def test_return_assignment(driver: Driver, masked: bool) -> None:
    if not masked:
        checks.skip_lengthy(driver)
    y_true, y_pred, mask = Example("", 4, 6, masked=masked).data()

    def program(y_true: Any, y_pred: Any, *mask: Any) -> Any:
        return _program(driver, *mask, return_assignment=True)(y_true, y_pred)

    arrays = [driver.from_numpy(x) for x in (y_true, y_pred, mask) if x is not None]
    value, found = driver.trace(program)(*arrays)
    expected = reference.loss(y_true, y_pred, mask)
    _close(driver, value, expected.value, "float32")
    np.testing.assert_array_equal(driver.to_numpy(found.col4row), expected.col4row)


@pytest.mark.parametrize("solver", ["core", "native", "scipy"])
def test_nan_in_one_sample(driver: Driver, solver: str) -> None:
    """Eagerly an error; elsewhere that sample is NaN and the others are as without it."""
    checks.need_solver(driver, solver)
    y_true, y_pred, _ = Example("").data()
    y_pred[1, 2, 0] = np.nan
    program = _program(driver, reduction="sample", solver=solver)
    arrays = [driver.from_numpy(y_true), driver.from_numpy(y_pred)]
    if driver.raises:
        with pytest.raises(ValueError, match=r"invalid numeric entries.*batch index 1"):
            driver.trace(program)(*arrays)
        return
    found = driver.to_numpy(driver.trace(program)(*arrays))
    expected = reference.loss(y_true[[0, 2]], y_pred[[0, 2]], reduction="sample").value
    np.testing.assert_allclose(found[[0, 2]], expected, rtol=1e-6)
    assert np.isnan(found[1])
    if driver.differentiable:
        upstream = driver.from_numpy(np.array([2.0, 3.0, 4.0]), "float32")
        _, grads = driver.value_and_grad(program, arrays, upstream)
        for grad in grads:
            values = driver.to_numpy(grad)
            assert np.isfinite(values[[0, 2]]).all()
            assert np.abs(values[[0, 2]]).max() > 0
