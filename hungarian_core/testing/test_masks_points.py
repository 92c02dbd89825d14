"""`masks`: reading masks at points, and choosing the points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hungarian_core.testing import checks
from hungarian_core.testing.driver import Driver
from hungarian_core.testing.test_masks import MASKS, _check, _logits, _slopes


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
        checks.skip_lengthy(driver)
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
    checks.skip_lengthy(driver)
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
    checks.skip_lengthy(driver)
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
    checks.skip_lengthy(driver)
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
        checks.skip_lengthy(driver)
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


def test_a_weight_of_0_reads_nothing(driver: Driver) -> None:
    """At the centre of a pixel, its neighbours have no say, whatever they hold."""
    checks.skip_lengthy(driver)
    masks = driver.from_numpy(np.array([[[1.0, np.inf], [-np.inf, 2.0]]], np.float32))
    points = driver.from_numpy(np.array([[0.25, 0.25], [0.75, 0.75]], np.float32))
    found = driver.trace(lambda *xs: MASKS.sample(*xs, backend=driver.backend))(masks, points)
    assert driver.to_numpy(found).tolist() == [[1.0, 2.0]]


def _resized(masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return `masks[K, H, W]` in another size, pixel by pixel."""
    _, *old = masks.shape
    found = np.zeros((len(masks), *size), masks.dtype)
    for at in np.ndindex(*size):
        total: Any = 0
        places = [max((k + 0.5) * o / n - 0.5, 0.0) for k, o, n in zip(at, old, size, strict=True)]
        for near in np.ndindex(2, 2):
            low = [int(place) for place in places]
            pixel = [min(a + b, o - 1) for a, b, o in zip(low, near, old, strict=True)]
            share = [
                place - a if b else 1 - (place - a)
                for place, a, b in zip(places, low, near, strict=True)
            ]
            total = total + share[0] * share[1] * masks[:, pixel[0], pixel[1]]
        found[:, at[0], at[1]] = total
    return found


@pytest.mark.parametrize("size", [(7, 4), (2, 9), (3, 5)], ids=["taller", "wider", "equal"])
def test_resize(driver: Driver, size: tuple[int, int]) -> None:
    """Values and gradients by the masks."""
    if size != (7, 4):
        checks.skip_lengthy(driver)
    masks = _logits(np.random.default_rng(3), 2, 3, 5)

    def program(masks: Any) -> Any:
        return MASKS.resize(masks, size, backend=driver.backend)

    def gradients(upstream: np.ndarray) -> list[np.ndarray]:
        return _slopes(lambda m: (_resized(m, size) * upstream).sum(), masks)

    _check(driver, program, [masks], _resized(masks, size), gradients, "float32")


@pytest.mark.parametrize("size", [(7, 4), (2, 9), (6, 10)])
def test_resize_to_the_nearest(driver: Driver, size: tuple[int, int]) -> None:
    checks.skip_lengthy(driver)
    masks = np.arange(30).reshape(2, 3, 5)
    rows, columns = (np.arange(new) * old // new for new, old in zip(size, (3, 5), strict=True))
    arrays = [driver.from_numpy(masks > 12), driver.from_numpy(masks, "float32")]
    for array, wanted in zip(arrays, (masks > 12, masks), strict=True):
        found = MASKS.resize(array, size, mode="nearest", backend=driver.backend)
        assert driver.dtype(found) == driver.dtype(array)
        np.testing.assert_array_equal(
            driver.to_numpy(found), wanted[:, rows[:, None], columns[None]]
        )


def test_infinite_logits_are_resized(driver: Driver) -> None:
    """Where an infinite logit has no weight it is not read."""
    checks.skip_lengthy(driver)
    masks = driver.from_numpy(np.array([[0.0, np.inf, 2.0]], np.float32))
    found = driver.to_numpy(MASKS.resize(masks, (1, 3), backend=driver.backend))
    np.testing.assert_array_equal(found, [[0, np.inf, 2]])


def test_sample_the_nearest(driver: Driver) -> None:
    """At the centres of pixels of another size, and outside."""
    checks.skip_lengthy(driver)
    masks = np.arange(15.0).reshape(1, 3, 5)
    points = np.array([[0.1, 0.1], [0.29, 0.2], [0.95, 0.6], [0.5, 0.99], [1.2, 0.5], [0.5, -0.1]])
    arrays = [driver.from_numpy(x, "float32") for x in (masks, points)]

    def program(masks: Any, points: Any) -> Any:
        return MASKS.sample(masks, points, mode="nearest", backend=driver.backend)

    found = driver.to_numpy(driver.trace(program)(*arrays))
    np.testing.assert_array_equal(found, [[0, 1, 9, 12, 0, 0]])
