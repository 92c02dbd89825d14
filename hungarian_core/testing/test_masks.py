"""`masks`: values and gradients against an independent reference in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing import checks
from hungarian_core.testing.driver import Driver

MASKS: Any = hc.masks  # for the type checker: some tests pass options that do not exist
# The promise across frameworks, relative to the largest value.
RELATIVE = {"float32": 1e-6, "float64": 1e-12}
# What is computed in one program: a kind, and its options.
KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("bce", {}),
    ("dice", {}),
    ("focal", {}),
    ("focal", {"alpha": None, "gamma": 0.5}),
)


def _soft(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Return masks in eighths, exact in every dtype, with 0 and 1 among them."""
    return np.clip(rng.integers(-3, 12, shape), 0, 8) / 8


def _logits(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Return logits in eighths, with 0 among them."""
    logits = np.round(rng.normal(size=shape) * 16) / 8
    logits[..., 0] = 0
    return logits


def _measure(kind: str, t: np.ndarray, x: np.ndarray, pairwise: bool, options: Any) -> Any:
    """Return a measure of a mask `t[P]` and logits `x[P]`, real or complex, pixel by pixel."""
    p = 1 / (1 + np.exp(-x))
    if kind == "dice":
        return 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
    wrong, right = -np.log(p), -np.log(1 - p)
    if kind == "bce":
        return (t * wrong + (1 - t) * right).mean()
    alpha, gamma = options.get("alpha", 0.25), options.get("gamma", 2)
    of_inside, of_outside = (1, 1) if alpha is None else (alpha, 1 - alpha)
    if pairwise:
        wrong, right = of_inside * (1 - p) ** gamma * wrong, of_outside * p**gamma * right
        return (t * wrong + (1 - t) * right).mean()
    weight = of_inside * t + of_outside * (1 - t) if alpha is not None else 1
    off = (1 - p) * t + p * (1 - t)
    return (weight * off**gamma * (t * wrong + (1 - t) * right)).mean()


def _slopes(function: Callable[..., Any], *arrays: np.ndarray) -> list[np.ndarray]:
    """Return the slopes of a function of arrays by an imaginary step, which cancels nothing."""
    slopes = [np.zeros(x.shape) for x in arrays]
    for which, slope in enumerate(slopes):
        for at in np.ndindex(slope.shape):
            moved = [x.astype(complex) for x in arrays]
            moved[which][at] += 1e-30j
            slope[at] = function(*moved).imag / 1e-30
    return slopes


def _program(driver: Driver, pairwise: bool, axes: int) -> Callable[..., Any]:
    """Return a function of targets and logits that gives all measures, stacked."""

    def program(targets: Any, logits: Any) -> Any:
        found = [
            getattr(MASKS, f"pairwise_{kind}" if pairwise else kind)(
                targets, logits, axes=axes, backend=driver.backend, **options
            )
            for kind, options in KINDS
        ]
        return driver.resolve(logits).namespace(logits).stack(found, axis=0)

    return program


def _check(
    driver: Driver,
    program: Callable[..., Any],
    arrays: list[np.ndarray],
    expected: np.ndarray,
    gradients: Callable[[np.ndarray], list[np.ndarray]],
    dtype: str,
) -> None:
    """Compare value and gradients, for an upstream gradient other than 1."""
    given = [driver.from_numpy(x, dtype) for x in arrays]
    if not driver.differentiable:
        found = driver.trace(program)(*given)
    else:
        upstream = 2.5 + np.arange(expected.size).reshape(expected.shape) / 4
        found, grads = driver.value_and_grad(program, given, driver.from_numpy(upstream, dtype))
        for grad, wanted in zip(grads, gradients(upstream), strict=True):
            assert driver.dtype(grad) == dtype
            scale = np.abs(wanted).max()
            atol = RELATIVE[dtype] * scale
            np.testing.assert_allclose(driver.to_numpy(grad), wanted, rtol=0, atol=atol)
    assert driver.dtype(found) == dtype
    assert driver.device(found) == driver.device(given[0])
    atol = RELATIVE[dtype] * np.abs(expected).max()
    np.testing.assert_allclose(driver.to_numpy(found), expected, rtol=0, atol=atol)


@pytest.mark.parametrize(("axes", "dtype"), [(2, "float32"), (1, "float64")])
def test_every_pair(driver: Driver, axes: int, dtype: str) -> None:
    """With one set of truths for two layers of predictions, which matching asks for."""
    checks.need(driver, dtype)
    if axes != 2:
        checks.skip_lengthy(driver)
    rng = np.random.default_rng(0)
    extents = (2, 3) if axes == 2 else (5,)
    targets, logits = _soft(rng, 2, *extents), _logits(rng, 2, 3, *extents)
    flat = targets.reshape(2, -1), logits.reshape(2, 3, -1)

    def total(weight: np.ndarray) -> Callable[..., Any]:
        def function(t: np.ndarray, x: np.ndarray) -> Any:
            return sum(
                weight[k, b, i, j] * _measure(kind, t[i], x[b, j], True, options)
                for k, (kind, options) in enumerate(KINDS)
                for b, i, j in np.ndindex(2, 2, 3)
            )

        return function

    def gradients(upstream: np.ndarray) -> list[np.ndarray]:
        found = _slopes(total(upstream), *flat)
        return [found[0].reshape(targets.shape), found[1].reshape(logits.shape)]

    expected = np.zeros((len(KINDS), 2, 2, 3))
    for (k, b, i, j), _ in np.ndenumerate(expected):
        kind, options = KINDS[k]
        expected[k, b, i, j] = _measure(kind, flat[0][i], flat[1][b, j], True, options)
    _check(driver, _program(driver, True, axes), [targets, logits], expected, gradients, dtype)


@pytest.mark.parametrize(("axes", "dtype"), [(2, "float32"), (3, "float64")])
def test_pairs(driver: Driver, axes: int, dtype: str) -> None:
    checks.need(driver, dtype)
    if axes != 2:
        checks.skip_lengthy(driver)
    rng = np.random.default_rng(1)
    shape = (3, 2, 3) if axes == 2 else (3, 1, 2, 3)
    targets, logits = _soft(rng, *shape), _logits(rng, *shape)
    flat = targets.reshape(3, -1), logits.reshape(3, -1)

    def gradients(upstream: np.ndarray) -> list[np.ndarray]:
        def total(t: np.ndarray, x: np.ndarray) -> Any:
            return sum(
                upstream[k, i] * _measure(kind, t[i], x[i], False, options)
                for k, (kind, options) in enumerate(KINDS)
                for i in range(3)
            )

        return [x.reshape(shape) for x in _slopes(total, *flat)]

    expected = np.array(
        [
            [_measure(kind, t, x, False, options) for t, x in zip(*flat, strict=True)]
            for kind, options in KINDS
        ]
    )
    _check(driver, _program(driver, False, axes), [targets, logits], expected, gradients, dtype)


def test_certain_logits(driver: Driver) -> None:
    """Nothing overflows, and no gradient is NaN, however certain the prediction."""
    checks.skip_lengthy(driver)
    big = np.array([1e3, 1e30])
    logits = np.stack([big, -big])
    targets = driver.from_numpy(np.array([[1, 1], [0, 0]]), "float32")
    known = {
        "bce": np.array([[0, big.mean()], [big.mean(), 0]]),
        "dice": np.array([[0, 1 - 1 / 3], [1 - 1 / 3, 0]]),
        "focal": np.array([[0, big.mean() / 4], [big.mean() * 3 / 4, 0]]),
    }
    expected = np.stack([known["bce"], known["dice"], known["focal"], known["bce"]])
    for pairwise in (True, False):
        values = expected if pairwise else expected[:, [0, 1], [0, 1]]
        program = _program(driver, pairwise, axes=1)
        arrays = [targets, driver.from_numpy(logits, "float32")]
        if driver.differentiable:
            upstream = driver.from_numpy(np.full(values.shape, 2.5), "float32")
            found, grads = driver.value_and_grad(program, arrays, upstream)
            assert np.isfinite(driver.to_numpy(grads[1])).all()
        else:
            found = driver.trace(program)(*arrays)
        np.testing.assert_allclose(driver.to_numpy(found), values, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("pairwise", [True, False])
def test_infinite_logits(driver: Driver, pairwise: bool) -> None:
    """A pixel without doubt costs nothing where it is right, and infinity where it is wrong."""
    if not pairwise:
        checks.skip_lengthy(driver)
    inf = np.inf
    targets = np.array([[1, 1, 0, 0], [0, 1, 0, 1]], np.float32)
    logits = np.array([[inf, 1.0, -1.0, -inf], [-inf, 2.0, 0.5, -inf]], np.float32)
    near = np.clip(logits, -1e3, 1e3).astype(np.float64)
    every = [[[_limit(*kind, t, x, pairwise) for x in near] for t in targets] for kind in KINDS]
    expected = np.array(every) if pairwise else np.array(every)[:, [0, 1], [0, 1]]
    program = _program(driver, pairwise, axes=1)
    arrays = [driver.from_numpy(x) for x in (targets, logits)]
    found = driver.to_numpy(driver.trace(program)(*arrays))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.isinf(found).any()
    if driver.differentiable:
        upstream = np.where(np.isinf(expected), 0, 2.5).astype(np.float32)
        given = driver.from_numpy(upstream)
        _, (_, grad) = driver.value_and_grad(program, arrays, given)
        assert np.isfinite(driver.to_numpy(grad)).all()
        assert (driver.to_numpy(grad)[:, 1:3] != 0).all()


def _limit(kind: str, options: Any, t: np.ndarray, x: np.ndarray, pairwise: bool) -> float:
    """Return a measure of logits so great that they are as good as infinite."""
    with np.errstate(all="ignore"):
        p, wrong, right = 1 / (1 + np.exp(-x)), np.logaddexp(0, -x), np.logaddexp(0, x)
        if kind == "dice":
            return _measure("dice", t, x, pairwise, options)
        alpha, gamma = options.get("alpha", 0.25), options.get("gamma", 2 if kind == "focal" else 0)
    of_inside, of_outside = (1, 1) if alpha is None or kind == "bce" else (alpha, 1 - alpha)
    each = np.where(t == 1, of_inside * (1 - p) ** gamma * wrong, of_outside * p**gamma * right)
    return float("inf") if each.max() > 100 else float(each.mean())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(driver: Driver, dtype: str) -> None:
    """Computed and returned in float32: so large a mask overflows a sum in float16."""
    checks.need(driver, dtype)
    checks.skip_slow(driver)
    logits = driver.from_numpy(np.full((1, 320, 320), 12.0), dtype)
    targets = driver.from_numpy(np.ones((1, 320, 320), bool))
    for kind, value in (("bce", np.log1p(np.exp(-12))), ("dice", 0)):
        for name in (kind, f"pairwise_{kind}"):
            found = getattr(MASKS, name)(targets, logits, backend=driver.backend)
            assert driver.dtype(found) == "float32"
            np.testing.assert_allclose(driver.to_numpy(found).ravel(), value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("n", "m"), [(0, 3), (2, 0), (0, 0)])
def test_empty(driver: Driver, n: int, m: int) -> None:
    checks.skip_lengthy(driver)
    arrays = [driver.from_numpy(np.ones((2, k, 3, 4), np.float32)) for k in (n, m)]
    found = driver.trace(_program(driver, True, axes=2))(*arrays)
    assert driver.to_numpy(found).shape == (len(KINDS), 2, n, m)


def test_padding_spoils_its_own_row(driver: Driver) -> None:
    checks.skip_lengthy(driver)
    targets, logits = np.ones((3, 4), np.float32), np.ones((2, 4), np.float32)
    targets[1] = np.nan
    arrays = [driver.from_numpy(x) for x in (targets, logits)]
    found = driver.to_numpy(driver.trace(_program(driver, True, axes=1))(*arrays))
    assert np.isnan(found[:, 1]).all()
    assert np.isfinite(found[:, [0, 2]]).all()


SIZES = (
    "with masks of one size and axes before them that broadcast; axes={0} says that the last {0} "
    "are a mask"
)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x, k: MASKS.pairwise_dice(x, x[:, :, :3], backend=k),
            "targets has shape (2, 3, 4) and logits (2, 3, 3); expected (..., n, H, W) and "
            f"(..., m, H, W) {SIZES.format(2)}",
        ),
        (
            lambda x, k: MASKS.pairwise_bce(x, x[:1, 0, :], axes=1, backend=k),
            None,
        ),
        (
            lambda x, k: MASKS.pairwise_focal(x, x[0, :, :], backend=k),
            "targets has shape (2, 3, 4) and logits (3, 4); expected (..., n, H, W) and "
            f"(..., m, H, W) {SIZES.format(2)}",
        ),
        (
            lambda x, k: MASKS.focal(x, x[:, :2, :], axes=1, backend=k),
            "targets has shape (2, 3, 4) and logits (2, 2, 4); expected (..., P) and "
            f"(..., P) {SIZES.format(1)}",
        ),
        (
            lambda x, k: MASKS.bce(x, x, axes=0, backend=k),
            "axes is 0; expected how many axes a mask has, such as 1 or 2",
        ),
        (
            lambda x, k: MASKS.sample(x, x, backend=k),
            "masks has shape (2, 3, 4) and points (2, 3, 4); expected (..., K, H, W) and "
            "(..., P, 2) with axes before them that broadcast",
        ),
        (
            lambda x, k: MASKS.uncertain_points(x, x[:, :, :2], 4, backend=k),
            "count is 4 and there are 3 candidates; draw at least as many",
        ),
        (
            lambda x, k: MASKS.uncertain_points(x, x[:, :, :2], -1, backend=k),
            "count is -1; expected the number of points to return",
        ),
        (
            lambda x, k: MASKS.uncertain_points(
                x, x[:, :, :2], 2, importance_ratio=2, backend=k
            ),
            "importance_ratio is 2; expected a number from 0 to 1",
        ),
    ],
    ids=[
        "size", "no batch", "no object", "broadcast", "axes", "points", "count", "negative",
        "ratio",
    ],
)  # fmt: skip
def test_errors(driver: Driver, call: Any, message: str | None) -> None:
    checks.skip_slow(driver)
    if not driver.static_shapes or not driver.raises:
        pytest.skip("one message for all: it depends on shapes and options only")
    x = driver.from_numpy(np.zeros((2, 3, 4)), "float32")
    if message is None:  # what is fine
        call(x, driver.backend)
        return
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the whole message is compared)
        call(x, driver.backend)
    assert str(caught.value) == message
