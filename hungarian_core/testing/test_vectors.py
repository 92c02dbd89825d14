"""Vector costs beyond what the checks of `loss` ask of them: limits, keypoints, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing import checks
from hungarian_core.testing.driver import Driver

SIGMAS = (0.1, 0.05, 0.2)


def _program(driver: Driver, cost: Any) -> Callable[..., Any]:
    """Return a cost as a function of a and b."""

    def program(a: Any, b: Any) -> Any:
        return cost(driver.resolve(a).namespace(a, b), a, b)

    return program


def _turned(angle: float, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Return two vectors of different lengths with an angle between them."""
    return np.array([size, 0, 0]), size / 8 * np.array([np.cos(angle), 0, np.sin(angle)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_angles_of_every_size(driver: Driver, dtype: str) -> None:
    """To a rounding of 1, where an arc cosine would be wrong by the root of that."""
    checks.need(driver, dtype)
    checks.skip_slow(driver)
    eps = float(np.finfo(dtype).eps)
    small = np.array([0, eps, 1e-4, 0.5])
    angles = np.concatenate([small, np.pi / 2 + small, np.pi - small])
    pairs = [_turned(angle, size) for angle in angles for size in (1, 1e-18, 1e18)]
    a, b = (np.stack(x).astype(dtype) for x in zip(*pairs, strict=True))
    program = driver.trace(_program(driver, hc.costs.angular))
    found = driver.to_numpy(program(driver.from_numpy(a), driver.from_numpy(b)))
    np.testing.assert_allclose(found, np.repeat(angles, 3), rtol=0, atol=4 * eps)


@pytest.mark.parametrize("cost", ["angular", "cosine"])
def test_directions_of_every_length(driver: Driver, cost: Any) -> None:
    """A length has no say, where its square is no number either; slopes go with its inverse."""
    sizes = np.array([1e-37, 1e-24, 1e-20, 1e20, 1e24, 1e36])
    a, b = np.array([1.0, 0.0]) * np.ones((6, 1)), np.ones((6, 2)) * sizes[:, None]
    arrays = [driver.from_numpy(x, "float32") for x in (a, b)]
    program = _program(driver, hc.costs.COSTS[cost])
    value, slope = (np.pi / 4, 0.5) if cost == "angular" else (1 - 0.5**0.5, 0.125**0.5)
    if not driver.differentiable:
        found = driver.trace(program)(*arrays)
    else:
        upstream = driver.from_numpy(np.full(6, 2.0), "float32")
        found, grads = driver.value_and_grad(program, arrays, upstream)
        grad = driver.to_numpy(grads[1]).astype(np.float64) * sizes[:, None]
        np.testing.assert_allclose(grad, 2 * slope * np.array([[-1, 1]] * 6), rtol=1e-4)
    np.testing.assert_allclose(driver.to_numpy(found), value, rtol=1e-5)


def test_angles_without_a_slope(driver: Driver) -> None:
    """Equal, opposite and zero vectors: the gradient is 0, not NaN."""
    a = np.array([[0.5, 0], [0, 1], [3, 4], [0, 0], [0, 0], [1, 0]])
    b = np.array([[2, 0], [0, -2], [0, 0], [1, 2], [0, 0], [0, 2]])
    expected = np.array([0, np.pi, np.pi / 2, np.pi / 2, np.pi / 2, np.pi / 2])
    arrays = [driver.from_numpy(x, "float32") for x in (a, b)]
    program = _program(driver, hc.costs.angular)
    if not driver.differentiable:
        found = driver.trace(program)(*arrays)
    else:
        upstream = driver.from_numpy(np.full(6, 2.5), "float32")
        found, grads = driver.value_and_grad(program, arrays, upstream)
        for grad, last in zip(grads, ([0, -2.5], [-1.25, 0]), strict=True):
            slopes = driver.to_numpy(grad)
            np.testing.assert_array_equal(slopes[:5], 0)
            np.testing.assert_allclose(slopes[5], last, atol=1e-6)
    np.testing.assert_allclose(driver.to_numpy(found), expected, rtol=1e-6, atol=1e-6)


def test_great_circle_by_hand(driver: Driver) -> None:
    """At a pole the azimuth does not matter, and going round it changes nothing."""
    checks.skip_slow(driver)
    half = np.pi / 2
    a = np.array([[0, 0], [1, half], [0.5, 0.25], [0, 0]])
    b = np.array([[half, 0], [2, half], [0.5 + 2 * np.pi, 0.75], [np.pi, 0]])
    program = driver.trace(_program(driver, hc.costs.great_circle))
    found = driver.to_numpy(program(*(driver.from_numpy(x, "float32") for x in (a, b))))
    np.testing.assert_allclose(found, [half, 0, 0.5, np.pi], rtol=0, atol=1e-6)


def _similarity(a: np.ndarray, b: np.ndarray, area: float | None) -> Any:
    """Return OKS as COCO's evaluation computes it, of arrays of triples, one pair at a time."""
    seen = [k for k in range(len(SIGMAS)) if np.real(a[3 * k + 2]) > 0]
    size = a[-1] if area is None else area
    terms = [
        np.exp(
            -((a[3 * k] - b[3 * k]) ** 2 + (a[3 * k + 1] - b[3 * k + 1]) ** 2)
            / (2 * (2 * SIGMAS[k]) ** 2 * size)
        )
        for k in seen
    ]
    return sum(terms) / len(seen) if seen else 0


def _people(visible: Any) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 16, (2, len(visible), 10)) / 64
    a[:, 2::3] = np.concatenate([visible, np.full((len(visible), 1), 0.5)], 1)[:, :3]
    a[:, -1] = rng.integers(8, 16, len(visible)) / 16
    return a, b


@pytest.mark.parametrize("area", [None, 0.5])
def test_keypoints(driver: Driver, area: float | None) -> None:
    """Values and gradients; keypoints that are not labelled may be anything."""
    if area is not None:
        checks.skip_slow(driver)
    dtype = "float64" if "float64" in driver.dtypes else "float32"
    a, b = _people([[2, 1, 2], [2, 0, 1], [0, 0, 2], [0, 0, 0]])
    a = a if area is None else a[:, :9]
    expected = np.array([1 - _similarity(x, y, area) for x, y in zip(a, b, strict=True)])
    slopes = np.zeros((2, *a.shape))
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        for which, k in np.ndindex(2, a.shape[1]):
            moved = [x.astype(complex), y.astype(complex)]
            moved[which][k] += 1e-30j
            slopes[which, i, k] = -np.imag(_similarity(moved[0], moved[1], area)) / 1e-30
    a[1, 3:5] = np.nan
    cost = hc.costs.keypoint_distance(SIGMAS, area=area)
    arrays = [driver.from_numpy(a, dtype), driver.from_numpy(b[:, : a.shape[1]], dtype)]
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    if not driver.differentiable:
        found = driver.trace(_program(driver, cost))(*arrays)
    else:
        upstream = 2.5 + np.arange(len(a)) / 4
        found, grads = driver.value_and_grad(
            _program(driver, cost), arrays, driver.from_numpy(upstream, dtype)
        )
        for grad, slope in zip(grads, slopes, strict=True):
            wanted = upstream[:, None] * slope
            atol = tolerance * np.abs(wanted).max()
            np.testing.assert_allclose(driver.to_numpy(grad), wanted, rtol=0, atol=atol)
    np.testing.assert_allclose(driver.to_numpy(found), expected, rtol=0, atol=tolerance)


def test_keypoints_without_visibility(driver: Driver) -> None:
    """The default is COCO's 17 keypoints; at 2 sigma of an area of 1, all have exp(-1/2)."""
    checks.skip_slow(driver)
    sigmas = np.array(hc.costs.COCO_SIGMAS)
    cost = hc.costs.keypoint_distance(visibility=False, area=1.0)
    b = np.stack([2 * sigmas, 0 * sigmas], -1).reshape(1, 34)
    arrays = [driver.from_numpy(x, "float32") for x in (np.zeros((1, 34)), b)]
    found = driver.to_numpy(driver.trace(_program(driver, cost))(*arrays))
    np.testing.assert_allclose(found, 1 - np.exp(-0.5), rtol=1e-6)


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (
            lambda: "great_circle",
            "the cost 'great_circle' got vectors of 3 numbers; expected 2: azimuth and elevation",
        ),
        (
            lambda: "points",
            "the cost 'points' got vectors of 3 numbers; expected a multiple of 2: x and y of "
            "every point",
        ),
        (
            lambda: hc.costs.keypoint_distance((0.1, 0.2)),
            "the cost 'keypoint_distance' got vectors of 3 numbers; expected 7: x, y and v of 2 "
            "keypoints, and the area",
        ),
        (
            lambda: hc.costs.keypoint_distance((0.1, 0.0)),
            "sigmas has 0.0; expected positive numbers",
        ),
        (
            lambda: hc.costs.keypoint_distance(area=-1),
            "area has -1; expected positive numbers",
        ),
    ],
    ids=["great_circle", "points", "keypoints", "sigmas", "area"],
)
def test_errors(driver: Driver, cost: Any, message: str) -> None:
    checks.skip_slow(driver)
    if not driver.static_shapes or not driver.raises:
        pytest.skip("one message for all: it depends on shapes and options only")
    x = driver.from_numpy(np.zeros((1, 2, 3)), "float32")
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the whole message is compared)
        hc.loss(x, x, cost=cost(), backend=driver.backend)
    assert str(caught.value) == message
