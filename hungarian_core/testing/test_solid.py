"""Boxes in space, and the term of them, against polygons times heights in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.boxes import solid
from hungarian_core.terms import Boxes3D, Classes
from hungarian_core.testing import checks, comparisons, polygons
from hungarian_core.testing.driver import Driver

KINDS = ("iou", "giou")
CUBE = [0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 0.0]
DEGENERATE = {
    "points": ([0.5, 0.5, 0.5, 0.0, 0.0, 0.0, 0.3], [0.5, 0.5, 0.5, 0.0, 0.0, 0.0, 0.3]),
    "flat": ([0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.3], [0.0, 0.0, 0.0, 2.0, 2.0, 1.0, 0.0]),
    "a wall": ([0.0, 0.0, 0.0, 0.0, 2.0, 3.0, 0.3], [0.0, 0.0, 0.0, 2.0, 2.0, 1.0, 0.0]),
    "identical": ([1.0, 2.0, 3.0, 2.0, 4.0, 1.5, 0.7], [1.0, 2.0, 3.0, 2.0, 4.0, 1.5, 0.7]),
    "cubes": (CUBE, CUBE),
    "on top": (CUBE, [0.0, 0.0, 2.0, 2.0, 2.0, 2.0, 0.0]),
    "beside": (CUBE, [2.0, 0.0, 0.0, 2.0, 2.0, 2.0, 0.0]),
    "far above": (CUBE, [0.0, 0.0, 1e18, 2.0, 2.0, 2.0, 0.0]),
    "huge": ([0.0, 0.0, 1e18, 1e18, 1e18, 1e18, 0.2], [1e17, 0.0, 1e18, 1e18, 1e18, 1e18, 0.0]),
    "small": ([0.0, 0.0, 0.0, 1e-38, 1e-38, 1e-38, 0.0], CUBE),
    "inverted": ([0.0, 0.0, 0.0, 1.0, 1.0, -1.0, 0.0], CUBE),
    "a large yaw": ([0.0, 0.0, 0.0, 1.0, 2.0, 1.0, 1e6], CUBE),
}


def _solids(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    numbers = (
        rng.uniform(-0.7, 0.7, (*shape, 3)),
        rng.uniform(1.0, 3.0, (*shape, 3)),
        rng.uniform(-2.0, 5.0, (*shape, 1)),
    )
    return np.concatenate(numbers, axis=-1)


def _overlaps(a: Any, b: Any) -> dict[str, Any]:
    """Return the IoU and the GIoU of one pair, whose numbers may be complex."""
    flat = [x[[0, 1, 3, 4, 6]] for x in (a, b)]
    floors = sorted((x[2] - x[5] / 2 for x in (a, b)), key=np.real)
    ceilings = sorted((x[2] + x[5] / 2 for x in (a, b)), key=np.real)
    height = ceilings[0] - floors[1]
    common = polygons.intersection(*flat) * (height if height.real > 0 else 0)
    union = a[3] * a[4] * a[5] + b[3] * b[4] * b[5] - common
    around = polygons.hull(*flat) * (ceilings[1] - floors[0])
    return {"iou": common / union, "giou": common / union - (around - union) / around}


def _program(driver: Driver, **options: Any) -> Any:
    def program(a: Any, b: Any) -> Any:
        found = [getattr(solid, k)(a, b, backend=driver.backend, **options) for k in KINDS]
        return driver.resolve(a).namespace(a).stack(found, axis=0)

    return program


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_slopes(driver: Driver, dtype: str) -> None:
    """Of usual pairs, with an upstream gradient that is not 1, and finite ones of all others."""
    checks.need(driver, dtype)
    checks.skip_programs(driver)
    rng, degenerate = np.random.default_rng(1), np.array(list(DEGENERATE.values()))
    usual = np.stack([_solids(rng, (12,)).astype(np.float32) for _ in "ab"], 1).astype(np.float64)
    count = len(usual)
    values, slopes = np.zeros((2, count)), np.zeros((2, count, 2, 7))
    for n, pair in enumerate(usual):
        values[:, n] = [*_overlaps(*pair).values()]
        for which, k in np.ndindex(2, 7):
            moved = pair.astype(complex)
            moved[which, k] += 1e-30j
            slopes[:, n, which, k] = [x.imag / 1e-30 for x in _overlaps(*moved).values()]
    upstream = 1.5 + np.arange(values.size).reshape(values.shape) / 50
    above = np.concatenate([upstream, np.full((2, len(degenerate)), 1.5)], 1)
    pairs = np.concatenate([usual, degenerate])
    arrays = [driver.from_numpy(pairs[:, k], dtype) for k in (0, 1)]
    tolerance = 1e-5 if dtype == "float32" else 1e-11
    if not driver.differentiable:
        found = _program(driver)(*arrays)
    else:
        upper = driver.from_numpy(above, dtype)
        found, grads = driver.value_and_grad(_program(driver), arrays, upper)
        for which, grad in enumerate(map(driver.to_numpy, grads)):
            want = np.einsum("kn,knd->nd", upstream, slopes[:, :, which])
            np.testing.assert_allclose(grad[:count], want, rtol=0, atol=tolerance * 5)
            bad = ~np.isfinite(grad[count:]).all(-1)
            assert [name for name, x in zip(DEGENERATE, bad, strict=True) if x] == []
            np.testing.assert_allclose(grad[count + 3 : count + 5], 0, atol=1e-5)
    have = driver.to_numpy(found)
    assert driver.dtype(found) == dtype
    np.testing.assert_allclose(have[:, :count], values, rtol=0, atol=tolerance)
    assert np.isfinite(have).all()
    assert ((have[0] >= 0) & (have[0] <= 1)).all()
    assert ((have[1] >= -1 - 1e-6) & (have[1] <= 1)).all()
    known = dict(zip(DEGENERATE, have[:, count:].T, strict=True))
    for name in ("identical", "cubes"):
        np.testing.assert_allclose(known[name], 1, rtol=1e-6)
    for name in ("on top", "beside"):
        np.testing.assert_allclose(known[name], 0, atol=1e-6)
    np.testing.assert_allclose(known["far above"], [0, -1], atol=1e-6)


def test_along_the_axes(driver: Driver) -> None:
    """Boxes that are not turned overlap as those of `hungarian_core.boxes` do."""
    checks.skip_programs(driver)
    rng = np.random.default_rng(2)
    a, b = (_solids(rng, (2, n)) * [1, 1, 1, 1, 1, 1, 0] for n in (4, 5))
    arrays = [driver.from_numpy(x, "float32") for x in (a, b)]
    found = driver.to_numpy(_program(driver, pairwise=True)(*arrays))
    wanted = hc.boxes.iou(a[..., :6], b[..., :6], format="cxcyczwhd", pairwise=True)
    np.testing.assert_allclose(found[0], wanted, rtol=0, atol=2e-6)


def test_random_points() -> None:
    """Which share of random points lies in both boxes of those that lie in one."""
    rng = np.random.default_rng(3)
    points = rng.uniform(-4, 4, (200_000, 3))

    def inside(box: np.ndarray) -> np.ndarray:
        x, y, z = (points - box[:3]).T
        cos, sin = np.cos(box[6]), np.sin(box[6])
        own = np.stack([x * cos + y * sin, y * cos - x * sin, z], axis=-1)
        return (np.abs(own) <= box[3:6] / 2).all(-1)

    for a, b in zip(_solids(rng, (5,)), _solids(rng, (5,)), strict=True):
        in_a, in_b = inside(a), inside(b)
        share = (in_a & in_b).sum() / (in_a | in_b).sum()
        error = 4 * np.sqrt(share * (1 - share) / (in_a | in_b).sum())
        assert abs(solid.iou(a, b) - share) <= error


def random_codes(rng: np.random.Generator, shape: tuple[int, ...], moving: int = 2) -> Any:
    codes = rng.uniform(-0.7, 0.7, (*shape, 8 + moving))
    codes[..., 6:8] = rng.choice([-1, 1], (*shape, 2)) * rng.uniform(0.2, 1.5, (*shape, 2))
    codes[..., [2, 3, 5]] += 0.7
    return {"boxes": codes}


def random_boxes(rng: np.random.Generator, shape: tuple[int, ...], moving: int = 2) -> Any:
    moves = rng.normal(size=(*shape, moving))
    return {"boxes": np.concatenate([_solids(rng, shape), moves], axis=-1)}


def pair_losses(overlap: str | None, weights: Any) -> Any:
    def losses(query: Any, truth: Any) -> dict[str, Any]:
        a, b = query["boxes"], truth["boxes"]
        x, y, z, *sides, yaw = b[:7]
        w, l, h = np.log(sides)  # noqa: E741  (the field's word)
        coded = np.array([x, y, w, l, z, h, np.sin(yaw), np.cos(yaw), *b[7:]])
        apart = (a - coded) * weights
        found = {"bbox": (apart * np.sign(apart.real)).sum()}
        if overlap is not None:
            angle = np.arctan(a[6] / a[7]) + (np.pi if a[7].real < 0 else 0)
            box = np.array([a[0], a[1], a[4], *np.exp(a[[2, 3, 5]]), angle])
            found[overlap] = 1 - _overlaps(box, b[:7])[overlap]
        return found

    return losses


PUBLISHED, MATCHED = [1.0] * 8 + [0.2, 0.2], [1.0] * 8 + [0.0, 0.0]
OWN = [0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.3]
EXAMPLES = [
    comparisons.Example(
        "detr3d", Boxes3D, random_codes, random_boxes,
        pair_losses(None, PUBLISHED), {"bbox": 0.25}, pair_losses(None, MATCHED),
    ),
    comparisons.Example(
        "giou", lambda: Boxes3D("giou", overlap_weight=2.0, bbox_cost=0.5),
        random_codes, random_boxes,
        pair_losses("giou", PUBLISHED), {"bbox": 0.5, "giou": 2.0}, pair_losses("giou", MATCHED),
    ),
    comparisons.Example(
        "still",
        lambda: Boxes3D("iou", velocity=False, code_weights=OWN, overlap_cost=3.0),
        lambda rng, shape: random_codes(rng, shape, 0),
        lambda rng, shape: random_boxes(rng, shape, 0),
        pair_losses("iou", OWN), {"bbox": 0.25, "iou": 3.0}, pair_losses("iou", MATCHED[:8]),
    ),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_by_a_loop(driver: Driver, example: comparisons.Example, dtype: str) -> None:
    if (str(example), dtype) != ("giou", "float32"):
        checks.skip_programs(driver)
    comparisons.check(driver, example, dtype)


def test_degenerate_pairs_of_the_term(driver: Driver) -> None:
    """Sides of 0, of no direction, and codes whose sides are no numbers."""
    checks.skip_programs(driver)
    truth = np.array([*CUBE, 1.0, 0.0])
    flat = np.array([*CUBE[:5], 0.0, 0.0, 0.0, 0.0])
    same = np.array([0, 0, *np.log([2, 2]), 0, np.log(2), 0, 1, 1, 0])
    lost = same * [1, 1, 1, 1, 1, 1, 1, 0, 1, 1]
    weak, large = same.copy(), same.copy()
    weak[6:8] = 1e-30, -1e-30
    large[[2, 3, 5]] = 1e5, -1e5, 100.0
    pairs = [(same, truth), (lost, truth), (weak, truth), (large, truth), (same, flat)]
    codes, boxes = (np.array(x).astype(np.float32) for x in zip(*pairs, strict=True))
    comparisons.check_finite(driver, EXAMPLES[1], {"boxes": codes}, {"boxes": boxes})


def test_classes_know_the_overlap(driver: Driver) -> None:
    checks.skip_programs(driver)
    criterion = hc.SetLoss([Classes(2, loss="ia_bce"), Boxes3D()], backend=driver.backend)
    rng = np.random.default_rng(0)
    outputs = {"logits": rng.normal(size=(1, 4, 2)), **random_codes(rng, (1, 4))}
    arrays = {name: driver.from_numpy(x.astype(np.float32)) for name, x in outputs.items()}
    targets = {"labels": np.array([[0, 1]]), **random_boxes(rng, (1, 2))}
    fields = {name: driver.from_numpy(x) for name, x in targets.items()}
    found = criterion(arrays, fields)
    assert np.isfinite(float(driver.to_numpy(found.losses["class"])))


@pytest.mark.parametrize(
    ("change", "message"), [({3: 0.0}, "positive sides"), ({7: np.nan}, "vx, vy")]
)
def test_impossible_truth(driver: Driver, change: dict[int, float], message: str) -> None:
    if not driver.raises or not driver.static_shapes:
        pytest.skip("values are not read")
    checks.skip_programs(driver)
    criterion = hc.SetLoss([Boxes3D()], backend=driver.backend)
    outputs = {"boxes": driver.from_numpy(np.full((1, 2, 10), 0.5, np.float32))}
    truth = np.full((1, 2, 9), 0.5, np.float32)
    for k, x in change.items():
        truth[0, 1, k] = x
    with pytest.raises(ValueError, match=f"image 0, object 1.*{message}"):
        criterion(outputs, {"boxes": driver.from_numpy(truth)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": "kld"}, "overlap"),
        ({"code_weights": [1.0] * 8}, "code_weights has 8 numbers; expected 10"),
        ({"code_weights": [*OWN, 1.0], "velocity": False}, "9 numbers; expected 8.*velocity=False"),
    ],
)
def test_options(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Boxes3D(**options)
