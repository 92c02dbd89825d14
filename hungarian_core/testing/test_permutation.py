"""`pit_loss`: values and gradients against an independent reference in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import hungarian_core as hc
from hungarian_core.losses import permutation
from hungarian_core.testing import checks
from hungarian_core.testing.driver import Driver

# The promise across frameworks: float32 to 1e-6 and float64 to 1e-12, relative to the largest.
RELATIVE = {"float32": 1e-6, "float64": 1e-12}
METRICS = ("si_sdr", "snr", "l1", "mse")
LENGTH = 8


@dataclass(frozen=True, eq=False)
class Example:
    """One call of `pit_loss`: n references, m estimates, and what else."""

    name: str
    n: int = 3
    m: int = 3
    dtype: str = "float32"
    masked: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    essential: bool = False

    def __str__(self) -> str:
        return self.name

    def data(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return estimates, references and mask, exact in the dtype."""
        rng = np.random.default_rng([self.n, self.m])
        references = rng.normal(size=(3, self.n, LENGTH)).astype(np.float32)
        estimates = rng.normal(size=(3, self.m, LENGTH)).astype(np.float32)
        mask = None
        if self.masked:
            mask = rng.uniform(size=(3, self.n)) > 0.4
            mask[1] = False
            references[~mask] = np.nan
        return estimates.astype(self.dtype), references.astype(self.dtype), mask


EXAMPLES = (
    *(
        Example(f"{metric}_{dtype}", dtype=dtype, options={"metric": metric},
                essential=(metric, dtype) == ("si_sdr", "float32"))
        for metric in METRICS
        for dtype in RELATIVE
    ),
    *(
        Example(f"{metric}_masked", 4, 5, masked=True, options={"metric": metric},
                essential=metric == "mse")
        for metric in METRICS
    ),
    *(
        Example(f"{metric}_zero_mean", dtype="float64",
                options={"metric": metric, "zero_mean": True})
        for metric in ("si_sdr", "l1")
    ),
    *(
        Example(f"{reduction}_masked", 4, 5, masked=True, options={"reduction": reduction})
        for reduction in ("sum", "none", "sample")
    ),
    *(
        Example(f"{metric}_{n}_{m}", n, m, options={"metric": metric, "reduction": "sample"},
                essential=(metric, n) == ("snr", 4))
        for metric, n, m in (
            ("snr", 4, 2), ("si_sdr", 0, 2), ("l1", 0, 2), ("l1", 2, 0), ("mse", 2, 0),
        )
    ),
)  # fmt: skip


def measure(metric: str, y: np.ndarray, x: np.ndarray, eps: float, zero_mean: bool) -> Any:
    """Return the loss of an estimate `x[T]` of a reference `y[T]`, real or complex."""
    if zero_mean:
        y, x = y - y.mean(), x - x.mean()
    if metric == "l1":
        return ((y - x) * np.sign((y - x).real)).mean()
    if metric == "mse":
        return ((y - x) ** 2).mean()
    target = (x @ y + eps) / (y @ y + eps) * y if metric == "si_sdr" else y
    return -10 * np.log10((target @ target + eps) / ((target - x) @ (target - x) + eps))


def _slopes(*pair: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the slopes of `measure` by y and by x; an imaginary step is free of cancellation."""
    metric, y, x, *rest = pair
    step = 1e-30j
    moves = np.eye(len(y)) * step
    by_y = [measure(metric, y + move, x, *rest).imag for move in moves]
    by_x = [measure(metric, y, x + move, *rest).imag for move in moves]
    return np.array(by_y) / step.imag, np.array(by_x) / step.imag


class Answer(NamedTuple):
    """What a call should return, and its gradients for an upstream gradient."""

    value: np.ndarray
    grad_estimates: np.ndarray
    grad_references: np.ndarray
    col4row: np.ndarray


def _reference(
    estimates: np.ndarray,
    references: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    metric: str = "si_sdr",
    zero_mean: bool = False,
    reduction: str = "mean",
) -> Answer:
    eps = float(np.finfo(references.dtype).eps)
    references, estimates = references.astype(np.float64), estimates.astype(np.float64)
    batch, n, _ = references.shape
    mask = np.ones((batch, n), bool) if mask is None else mask
    each, col4row = np.zeros((batch, n)), np.full((batch, n), -1)
    slopes = {}
    for b in range(batch):
        rows = np.flatnonzero(mask[b])
        table = np.zeros((len(rows), estimates.shape[1]))
        for i, j in np.ndindex(table.shape):
            y, x = references[b, rows[i]], estimates[b, j]
            table[i, j] = measure(metric, y, x, eps, zero_mean)
        for i, j in zip(*linear_sum_assignment(table), strict=True):
            y, x = references[b, rows[i]], estimates[b, j]
            each[b, rows[i]], col4row[b, rows[i]] = table[i, j], j
            slopes[b, rows[i], j] = _slopes(metric, y, x, eps, zero_mean)

    pairs = (col4row >= 0).sum(1, keepdims=True)
    divisor = {"mean": pairs.sum(), "sample": pairs}.get(reduction, 1)
    weight = np.broadcast_to(1 / np.maximum(divisor, 1), each.shape)
    axes = {"none": (), "sample": (1,)}.get(reduction, (0, 1))
    value = (weight * each).sum(axes)
    weight = weight * np.expand_dims(_upstream(value.shape), axes)
    grads = np.zeros_like(estimates), np.zeros_like(references)
    for (b, i, j), (by_y, by_x) in slopes.items():
        grads[0][b, j], grads[1][b, i] = weight[b, i] * by_x, weight[b, i] * by_y
    return Answer(value, *grads, col4row)


def _upstream(shape: tuple[int, ...]) -> np.ndarray:
    """Return a gradient from above that is not 1, exact in every dtype."""
    return 2.5 + np.arange(np.prod(shape, dtype=int)).reshape(shape) / 4


def _program(driver: Driver, mask: Any = None, **options: Any) -> Callable[..., Any]:
    """Return the loss as a function of estimates and references."""

    def program(estimates: Any, references: Any) -> Any:
        return hc.pit_loss(estimates, references, mask=mask, backend=driver.backend, **options)

    return program


def _run(
    driver: Driver, program: Callable[..., Any], *data: np.ndarray, shape: tuple[int, ...] = ()
) -> list[np.ndarray]:
    """Return the value of a program, and its gradients where there are any."""
    arrays = [driver.from_numpy(x) for x in data]
    if not driver.differentiable:
        return [driver.to_numpy(driver.trace(program)(*arrays))]
    upstream = driver.from_numpy(_upstream(shape), data[0].dtype.name)
    value, grads = driver.value_and_grad(program, arrays, upstream)
    return [driver.to_numpy(x) for x in (value, *grads)]


def _close(found: list[np.ndarray], expected: Answer, relative: float) -> None:
    for x, y in zip(found, expected[: len(found)], strict=True):
        assert x.shape == y.shape
        scale = np.abs(y).max(initial=0.0)
        np.testing.assert_allclose(x, y, rtol=0, atol=relative * scale)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_value_and_gradient(driver: Driver, example: Example) -> None:
    """By both inputs, with an upstream gradient; 0 and finite at NaN padding."""
    checks.need(driver, example.dtype)
    if not example.essential:
        checks.skip_lengthy(driver)
    estimates, references, mask = example.data()
    expected = _reference(estimates, references, mask, **example.options)
    program = _program(driver, None if mask is None else driver.from_numpy(mask), **example.options)
    found = _run(driver, program, estimates, references, shape=expected.value.shape)
    assert {x.dtype.name for x in found} == {example.dtype}
    _close(found, expected, RELATIVE[example.dtype])


@pytest.mark.parametrize("metric", METRICS)
def test_return_assignment(driver: Driver, metric: str) -> None:
    """The permutation of unequal counts, and a total that is that of the pairs."""
    if metric != "mse":
        checks.skip_lengthy(driver)
    estimates, references, mask = Example("", 4, 5, masked=True).data()
    assert mask is not None
    expected = _reference(estimates, references, mask, metric=metric, reduction="none")

    def program(estimates: Any, references: Any, mask: Any) -> Any:
        options: Any = {"metric": metric, "reduction": "none", "backend": driver.backend}
        return hc.pit_loss(estimates, references, mask=mask, return_assignment=True, **options)

    arrays = [driver.from_numpy(x) for x in (estimates, references, mask)]
    value, found = driver.trace(program)(*arrays)
    assert driver.device(value) == driver.device(arrays[0])
    _close([driver.to_numpy(value)], expected, RELATIVE["float32"])
    np.testing.assert_array_equal(driver.to_numpy(found.col4row), expected.col4row)
    total = expected.value.sum(1)
    np.testing.assert_allclose(driver.to_numpy(found.cost), total, rtol=0, atol=1e-4)


def test_twenty_sources(driver: Driver) -> None:
    """Whose permutations nobody enumerates."""
    checks.skip_lengthy(driver)
    rng = np.random.default_rng(0)
    order = np.stack([rng.permutation(20) for _ in range(2)])
    references = rng.normal(size=(2, 20, 64)).astype(np.float32)
    estimates = np.zeros_like(references)
    np.put_along_axis(estimates, order[:, :, None], references, axis=1)
    estimates += rng.normal(size=estimates.shape).astype(np.float32) / 2
    options = {"reduction": "sample", "return_assignment": True}
    program = driver.trace(_program(driver, **options))
    value, found = program(driver.from_numpy(estimates), driver.from_numpy(references))
    np.testing.assert_array_equal(driver.to_numpy(found.col4row), order)
    expected = _reference(estimates, references, reduction="sample")
    _close([driver.to_numpy(value)], expected, RELATIVE["float32"])


@pytest.mark.parametrize("metric", METRICS)
def test_silence(driver: Driver, metric: str) -> None:
    """Where a reference, an estimate or both are all zero, ε decides on value and gradient."""
    if metric != "si_sdr":
        checks.skip_lengthy(driver)
    estimates, references, _ = Example("").data()
    references[0, 1] = references[1, 0] = 0
    estimates[1, 0] = estimates[2, 1] = 0
    expected = _reference(estimates, references, metric=metric)
    program = _program(driver, metric=metric)
    found = _run(driver, program, estimates, references)
    for x, y in zip(found, expected[: len(found)], strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_perfect_estimates(driver: Driver, metric: str) -> None:
    """Without any noise there are a logarithm of ε, a gradient, and one best permutation.

    In the matching no pair is better than the products of signals can tell.
    """
    checks.skip_lengthy(driver)
    _, references, _ = Example("").data()
    estimates = references[:, [2, 0, 1]] * (4 if metric == "si_sdr" else 1)
    value, *grads = _run(driver, _program(driver, metric=metric), estimates, references)
    assert np.isfinite(value)
    assert value < -60 if metric in ("si_sdr", "snr") else value == 0
    assert all(np.isfinite(grad).all() for grad in grads)
    program = driver.trace(_program(driver, metric=metric, return_assignment=True))
    _, found = program(driver.from_numpy(estimates), driver.from_numpy(references))
    np.testing.assert_array_equal(driver.to_numpy(found.col4row), [[1, 2, 0]] * 3)
    cost = driver.to_numpy(found.cost)
    best = 10 * np.log10(128 * np.finfo(np.float32).eps) if metric in ("si_sdr", "snr") else 0
    np.testing.assert_allclose(cost, 3 * best, rtol=0, atol=1)


@pytest.mark.parametrize("metric", ["si_sdr", "snr"])
def test_levels_beyond_the_matching(driver: Driver, metric: str) -> None:
    """At 80 dB products of signals have lost all digits in float32; the loss of a pair has not."""
    checks.skip_lengthy(driver)
    _, references, _ = Example("").data()
    references = np.round(references * 2**8).astype(np.float32) / 2**8
    noise = np.round(np.random.default_rng(1).normal(size=references.shape) * 2**4) / 2**17
    estimates = (references + noise).astype(np.float32)
    expected = _reference(estimates, references, metric=metric).value
    assert expected < -70
    (value, *_) = _run(driver, _program(driver, metric=metric), estimates, references)
    assert float(value) == pytest.approx(float(expected), abs=0.05)


@pytest.mark.parametrize("metric", ["snr", "mse"])
@pytest.mark.parametrize("level", [300, -300])
def test_a_level_that_all_share(driver: Driver, metric: str, level: int) -> None:
    """The squares of 300 and a little would leave nothing of the little in float32.

    An estimate of another level has no say in how the others are matched.
    """
    checks.skip_lengthy(driver)
    estimates, references, _ = Example("", 3, 4).data()
    estimates, references = (level + x / 64 for x in (estimates, references))
    estimates[:, 3] *= 1000
    program = driver.trace(_program(driver, metric=metric, return_assignment=True))
    _, found = program(driver.from_numpy(estimates), driver.from_numpy(references))
    expected = _reference(estimates, references, metric=metric).col4row
    np.testing.assert_array_equal(driver.to_numpy(found.col4row), expected)


@pytest.mark.parametrize(("elements", "most"), [(1, 1), (2 * 3 * 4 * LENGTH, 2)])
def test_any_metric_in_pieces(
    driver: Driver, elements: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A metric of the user's own, which sees as many estimates at a time as memory allows."""
    checks.skip_lengthy(driver)
    monkeypatch.setattr(permutation, "_ELEMENTS", elements)
    estimates, references, mask = Example("", 4, 5, masked=True).data()
    assert mask is not None
    shapes = []

    def metric(xp: Any, a: Any, b: Any) -> Any:
        shapes.append(tuple(b.shape))
        return 3 * xp.mean((a - b) ** 2, axis=-1)

    program = _program(driver, driver.from_numpy(mask), metric=metric)
    found = _run(driver, program, estimates, references)
    expected = _reference(estimates, references, mask, metric="mse")
    _close(found, Answer(*(3 * x for x in expected)), RELATIVE["float32"])
    if driver.static_shapes:
        assert max(shape[2] for shape in shapes if len(shape) == 4) == most


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(driver: Driver, dtype: str) -> None:
    """Matched and measured in float32, with the ε of float32, and returned in what came."""
    checks.need(driver, dtype)
    if dtype == "bfloat16":
        checks.skip_lengthy(driver)
    arrays = [driver.from_numpy(x, dtype) for x in Example("").data()[:2]]
    found = driver.trace(_program(driver))(*arrays)
    assert driver.dtype(found) == dtype
    expected = _reference(*(driver.to_numpy(x).astype(np.float32) for x in arrays)).value
    rounded = driver.to_numpy(driver.from_numpy(expected, dtype))
    assert float(driver.to_numpy(found)) == pytest.approx(float(rounded), rel=2**-8)


def test_nan_in_one_sample(driver: Driver) -> None:
    """Eagerly an error; elsewhere that sample is NaN and the others are as without it."""
    estimates, references, _ = Example("").data()
    estimates[1, 2, 0] = np.nan
    program = _program(driver, reduction="sample")
    if driver.raises:
        arrays = [driver.from_numpy(x) for x in (estimates, references)]
        with pytest.raises(ValueError, match=r"invalid numeric entries.*batch index 1"):
            driver.trace(program)(*arrays)
        return
    value, *grads = _run(driver, program, estimates, references, shape=(3,))
    expected = _reference(estimates[[0, 2]], references[[0, 2]], reduction="sample").value
    np.testing.assert_allclose(value[[0, 2]], expected, rtol=1e-6)
    assert np.isnan(value[1])
    for grad in grads:
        assert np.isfinite(grad[[0, 2]]).all()
        assert np.abs(grad[[0, 2]]).max() > 0


@pytest.mark.parametrize("metric", METRICS)
def test_one_broken_estimate_is_passed_over(driver: Driver, metric: str) -> None:
    """With NaN forbidden, an estimate too many may hold it."""
    checks.skip_lengthy(driver)
    estimates, references, _ = Example("", 3, 4).data()
    whole = estimates.copy()
    estimates[:, 1, 3] = np.nan
    program = _program(driver, metric=metric, nan="forbid")
    value, *_ = _run(driver, program, estimates, references)
    expected = _reference(whole[:, [0, 2, 3]], references, metric=metric).value
    assert float(value) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimates": (3, 8)}, r"estimates has shape \(3, 8\); expected \(batch, sources, time\)"),
        ({"references": (3,)}, r"references has shape \(3,\); expected \(batch, sources, time\)"),
        ({"references": (3, 2, 7)}, "expected equal batch and time .only sources may differ"),
        ({"mask": (3, 3)}, r"mask has shape \(3, 3\); expected \(3, 2\)"),
        ({"metric": "sdr"}, r"metric is 'sdr'; expected one of 'si_sdr', .* or a function"),
        ({"reduction": "avg"}, "reduction is 'avg'; expected one of 'mean'"),
        ({"metric": lambda xp, a, b: a - b}, r"metric returned shape .*; expected \(3, 2, 4\)"),
    ],
)
def test_errors(driver: Driver, changes: dict[str, Any], message: str) -> None:
    checks.skip_slow(driver)
    shapes = {"estimates": (3, 4, 8), "references": (3, 2, 8), **changes}
    arguments = {
        name: driver.from_numpy(np.ones(x, bool if name == "mask" else np.float32))
        if isinstance(x, tuple)
        else x
        for name, x in shapes.items()
    }
    with pytest.raises(ValueError, match=message):
        hc.pit_loss(**arguments, backend=driver.backend)
