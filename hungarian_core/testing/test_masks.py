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
        checks.skip_slow(driver)
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
        checks.skip_slow(driver)
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
    checks.skip_slow(driver)
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
    checks.skip_slow(driver)
    arrays = [driver.from_numpy(np.ones((2, k, 3, 4), np.float32)) for k in (n, m)]
    found = driver.trace(_program(driver, True, axes=2))(*arrays)
    assert driver.to_numpy(found).shape == (len(KINDS), 2, n, m)


def test_padding_spoils_its_own_row(driver: Driver) -> None:
    checks.skip_slow(driver)
    targets, logits = np.ones((3, 4), np.float32), np.ones((2, 4), np.float32)
    targets[1] = np.nan
    arrays = [driver.from_numpy(x) for x in (targets, logits)]
    found = driver.to_numpy(driver.trace(_program(driver, True, axes=1))(*arrays))
    assert np.isnan(found[:, 1]).all()
    assert np.isfinite(found[:, [0, 2]]).all()


def _sampled(masks: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return `masks[K, H, W]` at `points[P, 2]`: all pixels, each by how near it is."""
    _, height, width = masks.shape
    place = points * [width, height] - 0.5
    near = np.real(place).round(12)  # the neighbours of a complex place are those of its real part
    total = np.zeros((len(masks), len(points)), np.result_type(masks, points))
    for p, (at, (x, y)) in enumerate(zip(near, place, strict=True)):
        for i, j in np.ndindex(height, width):
            if abs(at[0] - j) < 1 and abs(at[1] - i) < 1:
                across = 1 - (x - j if at[0] >= j else j - x)
                down = 1 - (y - i if at[1] >= i else i - y)
                total[:, p] += masks[:, i, j] * across * down
    return total


# Between pixels, beyond each edge and near to it, and far outside; none where a slope changes.
POINTS = np.array(
    [[5, 6], [7.5, 9], [0.25, 3], [15.75, 7], [4, 0.5], [9, 15.5], [-1, 5], [0.5, 15.75], [-90, 60]]
) / 16  # fmt: skip


@pytest.mark.parametrize(("layout", "dtype"), [("shared", "float32"), ("own", "float64")])
def test_sample(driver: Driver, layout: str, dtype: str) -> None:
    """Values and gradients by masks and points, for points of all masks and of each of them."""
    checks.need(driver, dtype)
    if layout != "shared":
        checks.skip_slow(driver)
    rng = np.random.default_rng(2)
    masks, points = _logits(rng, 2, 3, 3, 5), np.stack([POINTS, POINTS[::-1]])
    lanes = [(masks[b], points[b]) for b in range(2)]
    arrays = [masks, points]
    if layout == "own":
        masks, points = masks[0, :, None], np.stack([np.roll(POINTS, k, 0) for k in range(3)])
        lanes = [(masks[k], points[k]) for k in range(3)]
        arrays = [masks[None], points[None]]  # (1, K, 1, H, W) at (1, K, P, 2)

    def program(masks: Any, points: Any) -> Any:
        return MASKS.sample(masks, points, backend=driver.backend)

    expected = np.stack([_sampled(*lane) for lane in lanes])

    def gradients(upstream: np.ndarray) -> list[np.ndarray]:
        found = [
            _slopes(lambda m, p, g=g: (_sampled(m, p) * g).sum(), *lane)
            for lane, g in zip(lanes, upstream.reshape(expected.shape), strict=True)
        ]
        return [
            np.stack(x).reshape(y.shape)
            for x, y in zip(zip(*found, strict=True), arrays, strict=True)
        ]

    shaped = expected if layout == "shared" else expected[None]
    _check(driver, program, arrays, shaped, gradients, dtype)


def test_sample_by_hand(driver: Driver) -> None:
    """Of booleans, at the centre of a pixel, between four, and half of one outside."""
    checks.skip_slow(driver)
    masks = driver.from_numpy(np.array([[[1, 0], [1, 1]], [[0, 0], [0, 1]]], bool))
    points = driver.from_numpy(
        np.array([[0.25, 0.25], [0.5, 0.5], [0.25, 1.0], [2, 0.5], [1.25, 1.25]]), "float32"
    )

    def program(masks: Any, points: Any) -> Any:
        return MASKS.sample(masks, points, backend=driver.backend)

    found = driver.trace(program)(masks, points)
    assert driver.dtype(found) == "float32"
    expected = [[1, 0.75, 0.5, 0, 0], [0, 0.25, 0, 0, 0]]
    np.testing.assert_array_equal(driver.to_numpy(found), expected)


def test_one_set_of_points_for_layers(driver: Driver) -> None:
    """Axes before masks and points broadcast, and infinite logits stay in their place."""
    checks.skip_slow(driver)
    masks = _logits(np.random.default_rng(3), 2, 1, 3, 4, 4)
    masks[..., 0, 0] = -np.inf
    points = np.array([[[0.125, 0.125], [0.9, 0.95]], [[0.5, 0.75], [1.0, 0.5]]])

    def program(masks: Any, points: Any) -> Any:
        return MASKS.sample(masks, points, backend=driver.backend)

    arrays = [driver.from_numpy(x, "float32") for x in (masks, points)]
    found = driver.to_numpy(driver.trace(program)(*arrays))
    assert found.shape == (2, 2, 3, 2)
    assert np.isneginf(found[:, 0, :, 0]).all()
    for lane, b in np.ndindex(2, 2):
        expected = _sampled(np.where(np.isinf(masks), 0, masks)[lane, 0], points[b])
        rest = slice(1 - b, None)
        np.testing.assert_allclose(found[lane, b][:, rest], expected[:, rest], atol=1e-6)


def test_beyond_an_edge_nothing_is_read(driver: Driver) -> None:
    """Not the opposite edge either: 0 times infinity would be NaN."""
    checks.skip_slow(driver)
    masks = np.full((2, 3, 4), -np.inf)
    masks[0, :2, :2] = masks[1, 1:, 2:] = 2  # for points near the upper left, and the lower right
    points = np.array(
        [[[0.0, 0.0], [0.125, 0.0], [0.0, 0.2]], [[1.0, 1.0], [0.875, 1.0], [1, 0.8]]]
    )

    def program(masks: Any, points: Any) -> Any:
        return MASKS.sample(masks, points, backend=driver.backend)

    arrays = [driver.from_numpy(x, "float32") for x in (masks[:, None], points)]
    found = driver.to_numpy(driver.trace(program)(*arrays))[:, 0]
    np.testing.assert_allclose(found, [[0.5, 1, 1], [0.5, 1, 1]], atol=1e-6)


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_uncertain_points(driver: Driver, shared: bool) -> None:
    """The least certain candidates in order, then the last ones as they are."""
    if shared:
        checks.skip_slow(driver)
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    drawn = rng.uniform(size=(2, 3, 12, 2)).astype(np.float32)
    candidates = drawn[0, 0] if shared else drawn

    def program(logits: Any, candidates: Any) -> Any:
        return MASKS.uncertain_points(logits, candidates, 5, backend=driver.backend)

    found = driver.trace(program)(*(driver.from_numpy(x) for x in (logits, candidates)))
    assert driver.dtype(found) == "float32"
    values = driver.to_numpy(found)
    assert values.shape == (2, 3, 5, 2)
    for at in np.ndindex(2, 3):
        here = candidates if shared else candidates[at]
        certainty = np.abs(_sampled(logits[at][None].astype(float), here[:10])[0])
        expected = np.concatenate([here[np.argsort(certainty)[:3]], here[10:]])
        np.testing.assert_array_equal(values[at], expected)


def test_all_or_none_are_chosen(driver: Driver) -> None:
    checks.skip_slow(driver)
    logits = driver.from_numpy(np.arange(8.0).reshape(1, 2, 4), "float32")
    points = np.array([[0.7, 0.7], [0.2, 0.3], [0.55, 0.6]])
    candidates = driver.from_numpy(points, "float32")
    for ratio, order in ((1.0, [1, 2, 0]), (0.0, [0, 1, 2])):
        found = MASKS.uncertain_points(
            logits, candidates, 3, importance_ratio=ratio, backend=driver.backend
        )
        np.testing.assert_array_equal(driver.to_numpy(found)[0], points[order].astype(np.float32))


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
