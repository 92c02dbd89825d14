"""`boxes`: values and gradients against an independent reference in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing import checks, reference
from hungarian_core.testing.driver import Driver

BOXES: Any = hc.boxes  # for the type checker: some tests pass options that do not exist
# The promise across frameworks, relative to the largest value.
RELATIVE = {"float32": 1e-6, "float64": 1e-12}
KINDS = ("iou", "giou", "diou", "ciou")
FORMATS = ("cxcywh", "xyxy", "xywh")
OTHER_AXES = {"cxw": 1, "xx": 1, "cxcyczwhd": 3, "xyzxyz": 3}
# Boxes in corners and in sixteenths, exact in every dtype and format: apart, across each other,
# one in the other, and no two corners equal.
A = np.array([[0, 1, 8, 7], [20, 22, 26, 30], [3, 9, 19, 27]]) / 16
B = np.array([[1, 2, 7, 16], [4, 10, 12, 24], [22, 4, 30, 18], [2, 0, 18, 6]]) / 16
# And along a third axis.
DEPTH_A = np.array([[1, 5], [2, 20], [6, 13]]) / 16
DEPTH_B = np.array([[3, 11], [0, 4], [16, 28], [7, 22]]) / 16
HUGE, SMALL = 1.5e38, 1e-38
# Pairs of corners that the published formulas stumble over.
DEGENERATE = {
    "points": ([0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]),
    "two points": ([0.5, 0.5, 0.5, 0.5], [0.25, 0.75, 0.25, 0.75]),
    "point inside": ([0.5, 0.5, 0.5, 0.5], [0.25, 0.25, 0.75, 0.75]),
    "segments": ([0.25, 0.5, 0.75, 0.5], [0.5, 0.25, 0.5, 0.75]),
    "in line": ([0.25, 0.5, 0.5, 0.5], [0.625, 0.5, 0.75, 0.5]),
    "inverted": ([0.75, 0.75, 0.25, 0.5], [0.25, 0.25, 0.5, 0.5]),
    "both inverted": ([0.75, 0.75, 0.25, 0.5], [0.5, 0.5, 0.25, 0.25]),
    "identical": ([0.25, 0.25, 0.5, 0.75], [0.25, 0.25, 0.5, 0.75]),
    "touching": ([0.25, 0.25, 0.5, 0.5], [0.5, 0.25, 0.75, 0.5]),
    "huge": ([-HUGE, -HUGE, HUGE, HUGE], [-HUGE, 0.0, HUGE, HUGE]),
    "huge and small": ([-HUGE, -HUGE, HUGE, HUGE], [0.0, 0.0, 1e-10, 1e-10]),
    "huge inverted": ([HUGE, HUGE, -HUGE, 0.0], [0.0, 0.0, 1.0, 1.0]),
    "small": ([0.0, 0.0, SMALL, SMALL], [0.0, 0.0, SMALL, SMALL * 2]),
    "thin": ([0.0, 0.0, 1e-19, 1.0], [0.0, 0.0, 1.0, 1e-19]),
    "flat": ([0.0, 0.0, 1.0, 1e-10], [0.0, 0.0, 1.0, 1e-12]),
    "far": ([0.0, 0.0, 1e-10, 1e-10], [1.0, 1.0, 1.0, 1.0]),
}
# Zero area in both: the published GIoU is NaN.
WITHOUT_AREA = ("points", "two points", "segments", "in line")


def _as(box: np.ndarray, form: str) -> np.ndarray:
    """Return corners in another format."""
    half = box.shape[-1] // 2
    low, high = box[..., :half], box[..., half:]
    if form in ("xyxy", "xx", "xyzxyz"):
        return box
    return np.concatenate([low if form == "xywh" else low / 2 + high / 2, high - low], -1)


def _examples(form: str) -> tuple[np.ndarray, np.ndarray]:
    """Return A and B with as many axes as boxes of a format have."""
    axes = OTHER_AXES.get(form, 2)
    found = []
    for boxes, depth in ((A, DEPTH_A), (B, DEPTH_B)):
        ends = np.concatenate([boxes[:, :2], depth[:, :1], boxes[:, 2:], depth[:, 1:]], 1)
        found.append(_as(ends[:, [*range(axes), *range(3, 3 + axes)]], form))
    return found[0], found[1]


def _program(driver: Driver, kinds: Any = KINDS, **options: Any) -> Callable[..., Any]:
    """Return a function of a and b that gives all measures, stacked."""

    def program(a: Any, b: Any) -> Any:
        found = [getattr(BOXES, k)(a, b, backend=driver.backend, **options) for k in kinds]
        return driver.resolve(a).namespace(a).stack(found, axis=0)

    return program


def _degenerate(form: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.array(list(DEGENERATE.values()), np.float32)
    a, b = _as(np.moveaxis(pairs.astype(np.float64), 1, 0), form).astype(np.float32)
    return a, b


@pytest.mark.parametrize("dtype", sorted(RELATIVE))
@pytest.mark.parametrize("form", [*FORMATS, *OTHER_AXES])
def test_every_pair(driver: Driver, form: str, dtype: str) -> None:
    """Values, and gradients with an upstream gradient that is not 1."""
    checks.need(driver, dtype)
    if (form, dtype) != ("cxcywh", "float32"):
        checks.skip_slow(driver)
    if form in OTHER_AXES and dtype != "float32":
        checks.skip_programs(driver)
    a, b = _examples(form)
    kinds = KINDS[:-1] if form in OTHER_AXES else KINDS
    expected = [reference.overlaps(kind, a, b, form) for kind in kinds]
    values, slopes_a, slopes_b = (np.stack(x) for x in zip(*expected, strict=True))
    upstream = 2.5 + np.arange(values.size).reshape(values.shape) / 4
    arrays = [driver.from_numpy(x, dtype) for x in (a, b)]
    program = _program(driver, kinds, format=form, pairwise=True)
    tolerance = RELATIVE[dtype]
    if not driver.differentiable:
        found = driver.trace(program)(*arrays)
    else:
        found, grads = driver.value_and_grad(program, arrays, driver.from_numpy(upstream, dtype))
        weight = upstream[..., None]
        sums = (weight * slopes_a).sum((0, 2)), (weight * slopes_b).sum((0, 1))
        for grad, total in zip(grads, sums, strict=True):
            assert driver.dtype(grad) == dtype
            scale = np.abs(total).max()
            np.testing.assert_allclose(driver.to_numpy(grad), total, rtol=0, atol=tolerance * scale)
    assert driver.dtype(found) == dtype
    assert driver.device(found) == driver.device(arrays[0])
    np.testing.assert_allclose(driver.to_numpy(found), values, rtol=0, atol=tolerance)


@pytest.mark.parametrize("form", ["safe", "published"])
def test_by_hand(driver: Driver, form: str) -> None:
    checks.skip_slow(driver)
    a = driver.from_numpy(np.array([[0, 0, 2, 2]]), "float32")
    b = driver.from_numpy(np.array([[1, 1, 3, 3], [0, 0, 2, 1], [4, 0, 6, 2]]), "float32")
    found = driver.to_numpy(driver.trace(_program(driver, format="xyxy", form=form))(a, b))
    v = 4 / np.pi**2 * (np.arctan(2) - np.arctan(1)) ** 2
    expected = [
        [1 / 7, 1 / 2, 0],
        [1 / 7 - 2 / 9, 1 / 2, -4 / 12],
        [1 / 7 - 2 / 18, 1 / 2 - 0.25 / 8, -16 / 40],
        [1 / 7 - 2 / 18, 1 / 2 - 0.25 / 8 - v**2 / (1 / 2 + v), -16 / 40],
    ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", FORMATS)
def test_degenerate(driver: Driver, form: str) -> None:
    """Finite, in the range of the measure, and with a finite gradient, whatever the boxes."""
    if form != "cxcywh":
        checks.skip_slow(driver)
    arrays = [driver.from_numpy(x) for x in _degenerate(form)]
    program = _program(driver, format=form)
    if not driver.differentiable:
        found = driver.to_numpy(driver.trace(program)(*arrays))
    else:
        upstream = np.full((len(KINDS), len(DEGENERATE)), 2.5, np.float32)
        value, grads = driver.value_and_grad(program, arrays, driver.from_numpy(upstream))
        found = driver.to_numpy(value)
        for grad in grads:
            bad = ~np.isfinite(driver.to_numpy(grad)).all(-1)
            assert [name for name, x in zip(DEGENERATE, bad, strict=True) if x] == []
    assert np.isfinite(found).all()
    iou, giou, diou, _ = found
    assert ((iou >= 0) & (iou <= 1 + 1e-6)).all()
    assert (np.abs(giou) <= 1 + 1e-6).all()
    assert (np.abs(diou) <= 1 + 1e-6).all()
    known = dict(zip(DEGENERATE, found.T, strict=True))
    np.testing.assert_array_equal(known["points"], 0)
    np.testing.assert_allclose(known["identical"], 1, rtol=1e-6)
    np.testing.assert_allclose(known["huge"][:2], 0.5, rtol=1e-6)
    np.testing.assert_allclose(known["touching"][:2], 0, atol=1e-6)
    np.testing.assert_allclose(known["flat"][:2], 0.01, rtol=1e-4)


def test_gradient_is_zero_at_the_truth(driver: Driver) -> None:
    """All but CIoU's: its `alpha` is 0 there, so of it too."""
    if not driver.differentiable:
        pytest.skip(f"{driver.name} is not differentiable")
    checks.skip_slow(driver)
    boxes = driver.from_numpy(_as(A, "cxcywh"), "float32")
    upstream = driver.from_numpy(np.full((len(KINDS), len(A)), 2.5), "float32")
    value, grads = driver.value_and_grad(
        _program(driver, format="cxcywh"), [boxes, boxes], upstream
    )
    np.testing.assert_allclose(driver.to_numpy(value), 1, rtol=1e-6)
    for grad in grads:
        np.testing.assert_allclose(driver.to_numpy(grad), 0, atol=1e-4)


def test_growing_from_a_point(driver: Driver) -> None:
    """A prediction without sides inside of a truth is drawn to grow."""
    if not driver.differentiable:
        pytest.skip(f"{driver.name} is not differentiable")
    checks.skip_slow(driver)
    a = driver.from_numpy(np.array([0.5, 0.5, 0.0, 0.25]), "float32")
    b = driver.from_numpy(np.array([0.5, 0.5, 0.5, 0.5]), "float32")
    upstream = driver.from_numpy(np.asarray(2.0), "float32")

    def program(a: Any, b: Any) -> Any:
        return BOXES.giou(a, b, format="cxcywh", backend=driver.backend)

    _, (grad, _) = driver.value_and_grad(program, [a, b], upstream)
    np.testing.assert_allclose(driver.to_numpy(grad), [0, 0, 2.0, 0], atol=1e-6)


def test_growing_towards_a_neighbour(driver: Driver) -> None:
    """Boxes that touch along a side are drawn to overlap: their slope is that from within."""
    if not driver.differentiable:
        pytest.skip(f"{driver.name} is not differentiable")
    checks.skip_slow(driver)
    a = driver.from_numpy(np.array([0.0, 0.0, 0.5, 1.0]), "float32")
    b = driver.from_numpy(np.array([0.5, 0.0, 1.0, 1.0]), "float32")
    upstream = driver.from_numpy(np.asarray(2.5), "float32")

    def program(a: Any, b: Any) -> Any:
        return BOXES.iou(a, b, format="xyxy", backend=driver.backend)

    _, (grad, other) = driver.value_and_grad(program, [a, b], upstream)
    # The intersection grows by 1, the union by nothing; from apart both would be other.
    np.testing.assert_allclose(driver.to_numpy(grad), [0, 0, 2.5, 0], atol=1e-6)
    np.testing.assert_allclose(driver.to_numpy(other), [-2.5, 0, 0, 0], atol=1e-6)


def test_published_form(driver: Driver) -> None:
    """The published formula: the reference's values, and NaN where two boxes have no area."""
    dtype = "float64" if "float64" in driver.dtypes else "float32"
    if dtype == "float32":
        checks.skip_slow(driver)
    stuck = np.array([DEGENERATE[name] for name in WITHOUT_AREA])
    a = np.concatenate([A, stuck[:, 0]])
    b = np.concatenate([B[: len(A)], stuck[:, 1]])
    arrays = [driver.from_numpy(x, dtype) for x in (a, b)]
    with np.errstate(invalid="ignore", divide="ignore"):
        program = driver.trace(_program(driver, format="xyxy", form="published"))
        found = driver.to_numpy(program(*arrays))
    for k, kind in enumerate(KINDS):
        expected = [reference.overlap(kind, *pair, "xyxy") for pair in zip(A, B, strict=False)]
        np.testing.assert_allclose(found[k, : len(A)], expected, rtol=0, atol=RELATIVE[dtype])
    assert np.isnan(found[:, len(A) :]).all()


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_convert(driver: Driver, source: str, target: str) -> None:
    if (source, target) != ("cxcywh", "xyxy"):
        checks.skip_slow(driver)

    def program(boxes: Any) -> Any:
        return BOXES.convert(boxes, source, target, backend=driver.backend)

    found = driver.trace(program)(driver.from_numpy(_as(A, source), "float32"))
    assert driver.dtype(found) == "float32"
    np.testing.assert_array_equal(driver.to_numpy(found), _as(A, target))


@pytest.mark.parametrize(("source", "target"), [("cxw", "xx"), ("xyzxyz", "cxcyczwhd")])
def test_convert_other_axes(driver: Driver, source: str, target: str) -> None:
    """There and back."""
    checks.skip_slow(driver)
    boxes, wanted = _examples(source)[0], _examples(target)[0]
    found = BOXES.convert(driver.from_numpy(boxes), source, target, backend=driver.backend)
    np.testing.assert_array_equal(driver.to_numpy(found), wanted)
    back = BOXES.convert(found, target, source, backend=driver.backend)
    np.testing.assert_array_equal(driver.to_numpy(back), boxes)


@pytest.mark.parametrize("form", ["safe", "published"])
def test_area(driver: Driver, form: str) -> None:
    """A negative side counts as 0, unless by the published formula."""
    checks.skip_slow(driver)
    boxes = np.array([[0, 0, 3, 2], [1, 1, 1, 4], [2, 0, 1, 3]])

    def program(x: Any) -> Any:
        return BOXES.area(x, format="xyxy", form=form, backend=driver.backend)

    found = driver.trace(program)(driver.from_numpy(boxes, "float32"))
    expected = [6, 0, 0 if form == "safe" else -3]
    np.testing.assert_array_equal(driver.to_numpy(found), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32"])
def test_other_dtypes(driver: Driver, dtype: str) -> None:
    """Computed and returned in float32 or wider: an area of pixels overflows float16."""
    checks.need(driver, dtype)
    checks.skip_slow(driver)
    wide = checks.solving_dtype(driver, dtype)
    boxes = driver.from_numpy(np.array([[0, 0, 512, 1024]]), dtype)
    area = BOXES.area(boxes, format="xyxy", backend=driver.backend)
    assert driver.dtype(area) == wide
    assert driver.to_numpy(area).tolist() == [512 * 1024]
    giou = BOXES.giou(boxes, boxes, format="xyxy", backend=driver.backend)
    assert driver.dtype(giou) == wide
    assert driver.to_numpy(giou).tolist() == [1]
    moved = BOXES.convert(boxes, "xyxy", "cxcywh", backend=driver.backend)
    assert driver.dtype(moved) == (wide if dtype == "int32" else dtype)
    assert driver.to_numpy(moved).tolist() == [[256, 512, 512, 1024]]


def test_integers_adapt(driver: Driver) -> None:
    """Truths in pixels do not widen predictions."""
    checks.skip_slow(driver)
    a = driver.from_numpy(np.array([[0, 0, 2, 2]]), "int32")
    b = driver.from_numpy(np.array([[0, 0, 2, 4]]), "float32")
    for first, second in ((a, b), (b, a)):
        found = BOXES.iou(first, second, format="xyxy", backend=driver.backend)
        assert driver.dtype(found) == "float32"
        assert driver.to_numpy(found).tolist() == [0.5]


@pytest.mark.parametrize(("n", "m"), [(0, 3), (2, 0), (0, 0)])
def test_empty(driver: Driver, n: int, m: int) -> None:
    checks.skip_slow(driver)
    arrays = [driver.from_numpy(np.ones((2, k, 4), np.float32)) for k in (n, m)]
    found = driver.trace(_program(driver, format="cxcywh", pairwise=True))(*arrays)
    assert driver.to_numpy(found).shape == (len(KINDS), 2, n, m)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x, k: BOXES.convert(x, "cxcyhw", "xyxy", backend=k),
            "source is 'cxcyhw'; expected one of 'cxcywh', 'xyxy', 'xywh', 'cxw', 'xx', "
            "'cxcyczwhd', 'xyzxyz'. Did you mean 'cxcywh'?",
        ),
        (
            lambda x, k: BOXES.convert(x, "xyxy", "corners", backend=k),
            "target is 'corners'; expected one of 'cxcywh', 'xyxy', 'xywh', 'cxw', 'xx', "
            "'cxcyczwhd', 'xyzxyz'",
        ),
        (
            lambda x, k: BOXES.iou(x, x, format="yxyx", backend=k),
            "format is 'yxyx'; expected one of 'cxcywh', 'xyxy', 'xywh', 'cxw', 'xx', "
            "'cxcyczwhd', 'xyzxyz'. Did you mean 'xyxy'?",
        ),
        (
            lambda x, k: BOXES.convert(x, "xyxy", "xx", backend=k),
            "target is 'xx' and source 'xyxy', whose boxes have another number of axes; expected "
            "one of 'cxcywh', 'xyxy', 'xywh'",
        ),
        (
            lambda x, k: BOXES.ciou(x, x, format="xx", backend=k),
            "format is 'xx'; expected one of 'cxcywh', 'xyxy', 'xywh' for ciou. Did you mean "
            "'xyxy'?",
        ),
        (
            lambda x, k: BOXES.ciou(x, x, format="xyxy", form="exact", backend=k),
            "form is 'exact'; expected one of 'safe', 'published'",
        ),
        (
            lambda x, k: BOXES.area(x[:, :3], format="xyxy", backend=k),
            "boxes has shape (2, 3); expected (..., 4): one box on the last axis",
        ),
        (
            lambda x, k: BOXES.area(x, format="xx", backend=k),
            "boxes has shape (2, 4); expected (..., 2): one box on the last axis",
        ),
        (
            lambda x, k: BOXES.giou(x, x[:, :3], format="xyxy", backend=k),
            "b has shape (2, 3); expected (..., 4): one box on the last axis",
        ),
        (
            lambda x, k: BOXES.giou(x, x[0, :], format="xyxy", pairwise=True, backend=k),
            "a has shape (2, 4) and b (4,); expected (..., n, 4) and (..., m, 4) with "
            "pairwise=True",
        ),
        (
            lambda x, k: BOXES.diou(x, _three(x, k), format="xyxy", backend=k),
            "a has shape (2, 4) and b (3, 4); expected shapes that broadcast against each other; "
            "pass pairwise=True to compare every box with every other",
        ),
    ],
    ids=[
        "source",
        "target",
        "format",
        "axes",
        "no ratio",
        "form",
        "no box",
        "no span",
        "no box b",
        "one box",
        "broadcast",
    ],
)
def test_errors(driver: Driver, call: Any, message: str) -> None:
    checks.skip_slow(driver)
    if not driver.static_shapes or not driver.raises:
        pytest.skip("one message for all: it depends on shapes and options only")
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the whole message is compared)
        call(driver.from_numpy(np.zeros((2, 4)), "float32"), driver.backend)
    assert str(caught.value) == message


def _three(x: Any, backend: Any) -> Any:
    xp = hc.get_backend(backend, x).namespace(x)
    return xp.concat([x, x[:1, :]], axis=0)
