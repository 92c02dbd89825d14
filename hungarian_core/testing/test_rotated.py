"""Rotated boxes, and the term of them, against polygons and matrices in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.boxes import rotated
from hungarian_core.terms import Classes, RotatedBoxes
from hungarian_core.testing import checks, comparisons, polygons
from hungarian_core.testing.driver import Driver

KINDS = ("iou", "giou", "gwd", "kld", "probiou")
RELATIVE = {"float32": 1e-5, "float64": 1e-11}
STEP = 1e-30
SQUARE = [0.0, 0.0, 2.0, 2.0, 0.0]
# Pairs that the published formulas stumble over.
DEGENERATE = {
    "points": ([0.5, 0.5, 0.0, 0.0, 0.3], [0.5, 0.5, 0.0, 0.0, 0.3]),
    "two points": ([0.5, 0.5, 0.0, 0.0, 0.3], [0.1, 0.2, 0.0, 0.0, 1.0]),
    "point inside": ([0.5, 0.5, 0.0, 0.0, 0.0], [0.5, 0.5, 1.0, 0.5, 0.2]),
    "point at a corner": ([1.0, 1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 1.0, 1.0, 0.0]),
    "segments across": ([0.0, 0.0, 1.0, 0.0, 0.7], [0.0, 0.0, 0.0, 1.0, 0.7]),
    "segments in line": ([0.0, 0.0, 1.0, 0.0, 0.0], [0.5, 0.0, 1.0, 0.0, 0.0]),
    "inverted": ([0.0, 0.0, -1.0, 0.5, 0.4], [0.0, 0.0, 1.0, 1.0, 0.0]),
    "both inverted": ([0.0, 0.0, -1.0, -1.0, 0.4], [0.1, 0.0, -1.0, -1.0, 0.0]),
    "identical": ([0.3, 0.2, 0.4, 0.1, 0.8], [0.3, 0.2, 0.4, 0.1, 0.8]),
    "identical squares": (SQUARE, SQUARE),
    "touching": (SQUARE, [2.0, 0.0, 2.0, 2.0, 0.0]),
    "touching at a corner": (SQUARE, [2.0, 2.0, 2.0, 2.0, 0.0]),
    "one around the other": ([0.0, 0.0, 4.0, 4.0, 0.0], SQUARE),
    "far": ([0.0, 0.0, 1e-10, 1e-10, 0.0], [1.0, 1.0, 1e-10, 1e-10, 0.5]),
    "huge": ([1e18, -1e18, 1e18, 2e18, 0.1], [0.0, 0.0, 1e18, 1e18, 0.5]),
    "largest": ([4e37, 0.0, 1e38, 1e38, 0.0], [-4e37, 0.0, 1e38, 1e38, 1.0]),
    "huge and small": ([0.0, 0.0, 1e30, 1e30, 0.0], [0.0, 0.0, 1e-30, 1e-30, 0.4]),
    "small": ([0.0, 0.0, 1e-38, 1e-38, 0.0], [0.0, 0.0, 1e-38, 2e-38, 0.4]),
    "thin": ([0.0, 0.0, 1e-19, 1.0, 0.0], [0.0, 0.0, 1.0, 1e-19, 0.0]),
    "thin, nearly in line": ([0.0, 0.0, 1.0, 1e-12, 0.0], [0.0, 0.0, 1.0, 1e-12, 1e-12]),
    "nearly parallel": (SQUARE, [0.0, 0.0, 2.0, 1.0, 1e-20]),
    "a large angle": ([0.0, 0.0, 2.0, 1.0, 1e6], SQUARE),
    "angles far apart": ([0.0, 0.0, 2.0, 1.0, 3e38], [0.0, 0.0, 2.0, 1.0, -3e38]),
}


def random_boxes(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    numbers = (
        rng.uniform(0.3, 0.7, (*shape, 2)),
        rng.uniform(0.2, 0.6, (*shape, 2)),
        rng.uniform(-2.0, 5.0, (*shape, 1)),
    )
    return {"boxes": np.concatenate(numbers, axis=-1)}


def _program(driver: Driver, kinds: Any = KINDS, **options: Any) -> Any:
    """Return a function of a and b that gives all measures, stacked."""

    def program(a: Any, b: Any) -> Any:
        found = [getattr(rotated, k)(a, b, backend=driver.backend, **options) for k in kinds]
        return driver.resolve(a).namespace(a).stack(found, axis=0)

    return program


def _measures(a: Any, b: Any) -> np.ndarray:
    found = {**polygons.overlaps(a, b), **polygons.gaussians(a, b)}
    return np.array([found[kind] for kind in KINDS])


def _slopes(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the slopes `[2, kinds, 5]` of one pair by a and by b, by imaginary steps."""
    slopes = np.zeros((2, len(KINDS), 5))
    for which, k in np.ndindex(2, 5):
        moved = [a.astype(complex), b.astype(complex)]
        moved[which][k] += STEP * 1j
        slopes[which, :, k] = _measures(*moved).imag / STEP
    return slopes


@pytest.mark.parametrize("dtype", sorted(RELATIVE))
def test_values_and_slopes(driver: Driver, dtype: str) -> None:
    """Of usual pairs, with an upstream gradient that is not 1, and finite ones of all others.

    In one program, since compiling one is most of the time.
    """
    checks.need(driver, dtype)
    if dtype != "float32":
        checks.skip_programs(driver)
    checks.skip_lengthy(driver)
    kinds = KINDS if driver.thorough else KINDS[1:]  # the IoU is part of the GIoU
    rng, degenerate = np.random.default_rng(3), np.array(list(DEGENERATE.values()))
    usual = np.stack([random_boxes(rng, (12,))["boxes"].astype(np.float32) for _ in "ab"], 1)
    count = len(usual)
    usual = usual.astype(np.float64)
    values = np.array([_measures(*pair) for pair in usual]).T[-len(kinds) :]
    slopes = np.array([_slopes(*pair) for pair in usual])[:, :, -len(kinds) :]
    upstream = 1.5 + np.arange(values.size).reshape(values.shape) / 50
    above = np.concatenate([upstream, np.full((len(kinds), len(degenerate)), 1.5)], 1)
    pairs = np.concatenate([usual, degenerate])
    arrays = [driver.from_numpy(pairs[:, k], dtype) for k in (0, 1)]
    program, tolerance = _program(driver, kinds), RELATIVE[dtype]
    if not driver.differentiable:
        found = driver.trace(program)(*arrays)
    else:
        found, grads = driver.value_and_grad(program, arrays, driver.from_numpy(above, dtype))
        wanted = np.einsum("kn,nwkd->wnd", upstream, slopes)
        for grad, want in zip(map(driver.to_numpy, grads), wanted, strict=True):
            scale = np.abs(want).max()
            np.testing.assert_allclose(grad[:count], want, rtol=0, atol=tolerance * scale)
            bad = ~np.isfinite(grad[count:]).all(-1)
            assert [name for name, x in zip(DEGENERATE, bad, strict=True) if x] == []
    assert driver.dtype(found) == dtype
    have = driver.to_numpy(found)
    for name, x, want in zip(kinds, have[:, :count], values, strict=True):
        atol = tolerance * max(np.abs(want).max(), 1)
        np.testing.assert_allclose(x, want, rtol=0, atol=atol, err_msg=name)
    _in_range(have[-4:, count:])
    if driver.thorough:
        iou = dict(zip(DEGENERATE, have[0, count:], strict=True))
        assert ((have[0] >= 0) & (have[0] <= 1)).all()
        for name in ("points", "two points", "segments across", "touching", "far", "both inverted"):
            assert iou[name] == 0, name


def _in_range(found: np.ndarray) -> None:
    """Check what is known of GIoU, GWD, KLD and ProbIoU of the degenerate pairs."""
    bad = ~np.isfinite(found).all(0)
    assert [name for name, x in zip(DEGENERATE, bad, strict=True) if x] == []
    giou, gwd, kld, probiou = found
    assert ((giou >= -1 - 1e-6) & (giou <= 1)).all()
    assert ((gwd >= 0) & (kld >= 0)).all()
    assert ((probiou >= 0) & (probiou <= 1)).all()
    known = dict(zip(DEGENERATE, found.T, strict=True))
    for name in ("identical", "identical squares"):
        np.testing.assert_allclose(known[name], [1, 0, 0, 1], rtol=0, atol=1e-6)
    np.testing.assert_allclose(known["one around the other"][0], 0.25, rtol=1e-6)
    np.testing.assert_allclose(known["touching"][0], 0, atol=1e-6)
    exact = polygons.gaussians(*np.array(DEGENERATE["huge"]))
    np.testing.assert_allclose(known["huge"][1:], [*exact.values()], rtol=1e-5)


def test_pairwise(driver: Driver) -> None:
    checks.skip_programs(driver)
    rng = np.random.default_rng(5)
    a, b = random_boxes(rng, (2, 3))["boxes"], random_boxes(rng, (2, 4))["boxes"]
    arrays = [driver.from_numpy(x, "float32") for x in (a, b)]
    found = driver.to_numpy(_program(driver, pairwise=True)(*arrays))
    wanted = [[[_measures(x, y) for y in ys] for x in xs] for xs, ys in zip(a, b, strict=True)]
    np.testing.assert_allclose(found, np.moveaxis(np.array(wanted), -1, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["iou", "giou"])
def test_what_coincides(driver: Driver, kind: str) -> None:
    """Where edges lie on each other, the slope is the mean of both sides, or one between them."""
    if not driver.differentiable or "float64" not in driver.dtypes:
        pytest.skip(f"{driver.name} has no gradients, or not in float64")
    checks.skip_programs(driver)
    oblong = [0.25, 0.5, 2.0, 1.0, 0.0]
    pairs = [
        (SQUARE, SQUARE),
        (oblong, oblong),
        ([1.0, 2.0, 3.0, 1.0, 0.7], [1.0, 2.0, 3.0, 1.0, 0.7]),
        (SQUARE, [0.5, 0.0, 2.0, 2.0, 0.0]),
        (SQUARE, [0.0, 0.5, 1.0, 1.0, 0.0]),
        (SQUARE, [0.0, 0.0, 1.0, 2.0, 0.0]),
        (oblong, [5.0, 0.5, 1.0, 1.0, 0.0]),
    ]
    a, b = np.moveaxis(np.array(pairs), 1, 0)
    arrays = [driver.from_numpy(x, "float64") for x in (a, b)]
    above = driver.from_numpy(np.full((1, len(pairs)), 1.5), "float64")
    value, grads = driver.value_and_grad(_program(driver, (kind,)), arrays, above)
    np.testing.assert_allclose(driver.to_numpy(value)[0, :3], 1, rtol=1e-12)
    measure = getattr(rotated, kind)
    for which, grad in enumerate(driver.to_numpy(x) for x in grads):
        np.testing.assert_allclose(grad[:3], 0, atol=1e-12)
        for k in range(5):
            step = np.zeros((2, *a.shape))
            step[which, :, k] = 1e-6
            here = measure(a, b)
            right = 1.5e6 * (measure(a + step[0], b + step[1]) - here)
            left = 1.5e6 * (here - measure(a - step[0], b - step[1]))
            if kind == "iou":
                np.testing.assert_allclose(grad[:, k], (left + right) / 2, rtol=0, atol=1e-5)
            assert (grad[:, k] >= np.minimum(left, right) - 1e-5).all()
            assert (grad[:, k] <= np.maximum(left, right) + 1e-5).all()


def test_closed_forms(driver: Driver) -> None:
    checks.skip_programs(driver)
    rng = np.random.default_rng(0)
    upright = rng.uniform(0.2, 0.8, (2, 6, 5)) * [1, 1, 1, 1, 0]
    a = np.concatenate([upright[0], np.array([SQUARE, [0.1, 0.2, 0.5, 0.3, 0.4]])])
    b = np.concatenate([upright[1], np.array([[0, 0, 2, 2, np.pi / 4], [0.1, 0.2, 0.3, 0.5, 0.4]])])
    # A box is the same after half a turn, and with its sides exchanged after a quarter.
    quarter = b[:, [0, 1, 3, 2, 4]] + [0, 0, 0, 0, np.pi / 2]
    turn = np.array([0, 0, 0, 0, np.pi])
    for other in (b, b + turn, b - 2 * turn, quarter):
        arrays = [driver.from_numpy(x, "float32") for x in (a, other)]
        found = driver.to_numpy(_program(driver)(*arrays))
        again = np.array([_measures(x, y) for x, y in zip(a, b, strict=True)]).T
        np.testing.assert_allclose(found, again, rtol=0, atol=3e-5)
        straight = hc.boxes.iou(upright[0][:, :4], upright[1][:, :4], format="cxcywh")
        np.testing.assert_allclose(found[0, :6], straight, rtol=0, atol=1e-6)
        np.testing.assert_allclose(found[0, 6], math.sqrt(0.5), rtol=1e-6)


def test_apart(driver: Driver) -> None:
    """Boxes that do not meet have an IoU of exactly 0, whatever rounding makes of their corners."""
    checks.skip_programs(driver)
    rng = np.random.default_rng(4)
    a, b = random_boxes(rng, (2, 150))["boxes"] * [3, 3, 1, 1, 1]
    apart = np.array([polygons.intersection(x, y) == 0 for x, y in zip(a, b, strict=True)])
    assert 50 < apart.sum() < 140
    arrays = [driver.from_numpy(x, "float32") for x in (a, b)]
    found = driver.to_numpy(rotated.iou(*arrays, backend=driver.backend))
    np.testing.assert_array_equal(found == 0, apart)


def test_nan_stays_nan(driver: Driver) -> None:
    checks.skip_programs(driver)
    for k in range(5):
        box = np.array([[0.1, 0.2, 0.5, 0.3, 0.4]])
        box[0, k] = np.nan
        other = driver.from_numpy(np.array([[0.3, 0.2, 0.5, 0.3, 1.4]]), "float32")
        found = _program(driver)(driver.from_numpy(box, "float32"), other)
        assert np.isnan(driver.to_numpy(found)).all()


def test_corners(driver: Driver) -> None:
    checks.skip_programs(driver)
    boxes = np.array([[1.0, 1.0, 4.0, 2.0, np.pi / 2], [0.5, 0.0, -1.0, 2.0, 0.0]])
    found = rotated.corners(driver.from_numpy(boxes, "float32"), backend=driver.backend)
    found = driver.to_numpy(found)
    wanted = np.array(
        [[[2, -1], [2, 3], [0, 3], [0, -1]], [[0.5, -1], [0.5, -1], [0.5, 1], [0.5, 1]]]
    )
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


def pair_losses(overlap: str, period: float | None = np.pi, tau: float = 1.5) -> Any:
    def losses(query: Any, truth: Any) -> dict[str, Any]:
        a, b = query["boxes"], truth["boxes"]
        apart = a - b
        if period is not None:  # the nearest of all turns
            turns = period * np.arange(-9, 10)
            apart = np.append(apart[:4], min(apart[4] + turns, key=lambda x: abs(x.real)))
        sizes = apart * np.sign(apart.real)
        if overlap == "kld":
            measure = polygons.gaussians(b, a)["kld"]
        else:
            measure = {**polygons.overlaps(a, b), **polygons.gaussians(a, b)}[overlap]
        if overlap == "gwd":
            measure = measure / (a[2] * a[3] * b[2] * b[3]) ** 0.25
        distance = overlap in ("gwd", "kld")
        loss = 1 - 1 / (tau + np.log(1 + measure)) if distance else 1 - measure
        return {"bbox": sizes[:4].sum(), "angle": sizes[4] / np.pi, overlap: loss}

    return losses


def _term(overlap: Any) -> Any:
    return lambda: RotatedBoxes(overlap, overlap_weight=3.0, overlap_cost=4.0, tau=1.5)


EXAMPLES = [
    comparisons.Example(
        overlap, _term(overlap),
        random_boxes, random_boxes, pair_losses(overlap), {"bbox": 5.0, "angle": 5.0, overlap: 4.0},
    )
    for overlap in ("giou", "iou", "gwd", "kld", "probiou")
] + [
    comparisons.Example(
        "angles as numbers",
        lambda: RotatedBoxes("iou", period=None, angle_weight=2.0, bbox_cost=1.0),
        random_boxes, random_boxes, pair_losses("iou", None),
        {"bbox": 1.0, "angle": 2.0, "iou": 2.0},
    ),
    comparisons.Example(
        "angles of squares",
        lambda: RotatedBoxes("iou", period=np.pi / 2, angle_weight=2.0, bbox_cost=1.0),
        random_boxes, random_boxes, pair_losses("iou", np.pi / 2),
        {"bbox": 1.0, "angle": 2.0, "iou": 2.0},
    ),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_by_a_loop(driver: Driver, example: comparisons.Example, dtype: str) -> None:
    if (str(example), dtype) != ("giou", "float32"):
        checks.skip_programs(driver)
    comparisons.check(driver, example, dtype)


@pytest.mark.parametrize("overlap", KINDS)
def test_degenerate_pairs_of_the_term(driver: Driver, overlap: str) -> None:
    checks.skip_programs(driver)
    pairs = np.array(list(DEGENERATE.values())).astype(np.float32)
    # The L1 distance of the largest is no number.
    pairs = pairs[np.abs(pairs[..., :4]).max((1, 2)) < 1e37]
    example = next(x for x in EXAMPLES if str(x) == overlap)
    comparisons.check_finite(driver, example, {"boxes": pairs[:, 0]}, {"boxes": pairs[:, 1]})


def test_classes_know_the_overlap(driver: Driver) -> None:
    checks.skip_programs(driver)
    rng = np.random.default_rng(0)
    outputs, truth = random_boxes(rng, (1, 4)), random_boxes(rng, (1, 3))
    logits = rng.normal(size=(1, 4, 2))
    criterion = hc.SetLoss([Classes(2, loss="ia_bce"), RotatedBoxes()], backend=driver.backend)
    arrays = [
        {name: driver.from_numpy(x.astype(np.float32)) for name, x in side.items()}
        for side in ({"logits": logits, **outputs}, truth)
    ]
    arrays[1]["labels"] = driver.from_numpy(np.array([[0, 1, 1]]))
    match = driver.from_numpy(np.array([[0, 2, -1, 1]]))
    found = criterion(*arrays, assignment=match).losses["class"]
    upright = hc.SetLoss([Classes(2, loss="ia_bce"), hc.terms.Boxes()])
    # Upright boxes of the same overlaps: one of the height 1 in another as wide as the IoU says.
    ious = [
        polygons.overlaps(outputs["boxes"][0, q], truth["boxes"][0, m])["iou"]
        for q, m in enumerate((0, 2, 0, 1))
    ]
    boxes = np.array([[[iou / 2, 0.5, iou, 1] for iou in ious]])
    wanted = upright(
        {"logits": logits, "boxes": boxes},
        {"boxes": np.full((1, 3, 4), [0.5, 0.5, 1, 1]), "labels": np.array([[0, 1, 1]])},
        assignment=np.array([[0, 2, -1, 1]]),
    ).losses["class"]
    assert float(driver.to_numpy(found)) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize("box", [[0.5, 0.5, -0.1, 0.1, 0.0], [0.5, 0.5, 0.1, 0.1, np.nan]])
def test_impossible_truth(driver: Driver, box: Any) -> None:
    if not driver.raises or not driver.static_shapes:
        pytest.skip("values are not read")
    checks.skip_programs(driver)
    criterion = hc.SetLoss([RotatedBoxes()], backend=driver.backend)
    outputs = {"boxes": driver.from_numpy(np.full((1, 2, 5), 0.5, np.float32))}
    truth = driver.from_numpy(np.array([[[0.2, 0.3, 0.1, 0.1, 0.0], box]], np.float32))
    with pytest.raises(ValueError, match=r"image 0, object 1.*\(cx, cy, w, h, angle\)"):
        criterion(outputs, {"boxes": truth})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": "giuo"}, "overlap"),
        ({"period": 0.0}, "period"),
        ({"tau": 0.5}, "tau is 0.5; expected 1 or more"),
    ],
)
def test_options(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RotatedBoxes(**options)


def test_shapes(driver: Driver) -> None:
    checks.skip_programs(driver)
    box = driver.from_numpy(np.zeros((2, 4)), "float32")
    with pytest.raises(ValueError, match=r"expected \(..., 5\)"):
        rotated.iou(box, box, backend=driver.backend)
    boxes, others = (driver.from_numpy(np.zeros((n, 5)), "float32") for n in (2, 3))
    with pytest.raises(ValueError, match="pass pairwise=True"):
        rotated.iou(boxes, others, backend=driver.backend)
