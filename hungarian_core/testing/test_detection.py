"""`DetrLoss`: terms, matchings and gradients against an independent loss in float64."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing import checks, detection
from hungarian_core.testing.detection import Example, Expected
from hungarian_core.testing.driver import Driver

RELATIVE = {"float32": 2e-6, "float64": 1e-12}
UPSTREAM = 2.5
TERMS = ("total", "class_", "bbox", "giou", "cardinality_error", "class_error")
FOCAL = {"class_loss": "focal", "class_cost": 2.0, "class_weight": 2.0}
EXAMPLES = (
    Example("softmax", essential=True),
    Example("softmax_float64", dtype="float64"),
    Example("focal", options=FOCAL, essential=True),
    Example("focal_float64", dtype="float64", options=FOCAL),
    Example("varifocal", options={"class_loss": "varifocal", "alpha": 0.75}),
    Example("varifocal_differentiated", options={
        "class_loss": "varifocal_differentiated", "alpha": 0.75, "gamma": 1.5,
    }),
    Example("ia_bce", options={"class_loss": "ia_bce"}),
    Example("mal", options={"class_loss": "mal", "gamma": 1.5, "cost_gamma": 2.0}),
    Example("qfl", options={"class_loss": "qfl", "class_weights": [1.0, 2.0, 0.5]}),
    Example("asl", weighted=True, options={"class_loss": "asl", "class_weights": [1.0, 2.0, 0.5]}),
    Example("bce", options={"class_loss": "bce", "cost_gamma": 1.0}),
    Example("focal_published", options={**FOCAL, "class_cost_form": "focal_published"}),
    Example("focal_nll", options={**FOCAL, "class_cost_form": "nll"}),
    Example("focal_other", options={
        **FOCAL, "gamma": 1.5, "alpha": 0.4, "cost_alpha": 0.3, "class_weights": [1.0, 2.0, 0.5],
    }),
    Example("varifocal_weights", weighted=True, image_weights=True, options={
        "class_loss": "varifocal", "alpha": 0.75, "class_weights": [1.0, 2.0, 0.5],
    }),
    Example("softmax_nll", options={"class_cost_form": "nll", "no_object_weight": 0.3}),
    Example("smoothing", options={"label_smoothing": 0.2, "class_weights": [1.0, 2.0, 0.5]}),
    Example("weights", weighted=True, ignoring=True, image_weights=True, essential=True),
    Example("focal_weights", weighted=True, ignoring=True, image_weights=True, options=FOCAL),
    Example("groups", options={"groups": 2}),
    Example("repeat", queries=10, options={**FOCAL, "repeat": 2}),
    Example("surplus_objects", queries=3),
    Example("surplus_objects_focal", queries=3, options=FOCAL),
    Example("no_objects", counts=(0, 0)),
    Example("no_room_for_objects", objects=0, counts=(0, 0), options=FOCAL),
    Example("no_layers", layers=0),
    Example("one_query", queries=1, counts=(1, 0), objects=1),
)  # fmt: skip


@functools.cache
def _expected(example: Example) -> Expected:
    return detection.expected(example, UPSTREAM)


def _call(driver: Driver, example: Example, **options: Any) -> tuple[Callable[..., Any], list[Any]]:
    """Return a function of logits and boxes and then what else there is, and that."""
    criterion: Any = hc.DetrLoss(
        example.classes, backend=driver.backend, **{**example.options, **options}
    )
    data = example.data()
    names = [name for name in data if name not in ("logits", "boxes")]

    def program(logits: Any, boxes: Any, *arrays: Any) -> Any:
        given = dict(zip(names, arrays, strict=True))
        targets = hc.Targets(
            given["labels"], given["true_boxes"], given["mask"], given.get("weights"),
            given.get("ignore"),
        )  # fmt: skip
        return criterion(logits, boxes, targets, image_weights=given.get("image_weights"))

    return program, [driver.from_numpy(data[name]) for name in names]


def _inputs(driver: Driver, example: Example) -> list[Any]:
    data = example.data()
    return [driver.from_numpy(data[name]) for name in ("logits", "boxes")]


def _skip_unless_wanted(driver: Driver, example: Example) -> None:
    checks.need(driver, example.dtype)
    if not example.essential:
        checks.skip_long(driver)


def _close(found: Any, expected: Any, dtype: str) -> None:
    scale = max(np.abs(expected).max(initial=0), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=RELATIVE[dtype] * scale)


def _any_copy(col4row: np.ndarray, example: Example) -> np.ndarray:
    """Return matches with those of an object's copies in order: they are all as good."""
    copies = example.options.get("repeat", 1)
    return np.sort(col4row.reshape(*col4row.shape[:-1], copies, -1), axis=-2)


# The native passes where there are any, and the framework's own operations.
@pytest.mark.parametrize("solver", ["auto", "core"])
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_terms(driver: Driver, example: Example, solver: str) -> None:
    _skip_unless_wanted(driver, example)
    # Of a program, `test_gradients` sees the total and its slopes.
    if solver == "core" or (driver.differentiable and not example.essential):
        checks.skip_programs(driver)
    program, arrays = _call(driver, example, solver=solver)

    def several(*arrays: Any) -> tuple[Any, ...]:
        out = program(*arrays)
        return (*(getattr(out, name) for name in TERMS), *out.assignment)

    *terms, col4row, row4col, _, _, _ = driver.trace(several)(*_inputs(driver, example), *arrays)
    want = _expected(example)
    for name, term in zip(TERMS, terms, strict=True):
        assert driver.dtype(term) == example.dtype
        assert driver.device(term) == driver.device(arrays[0])
        values, value = driver.to_numpy(term), getattr(want, name)
        assert values.shape == value.shape, name
        _close(values, value, example.dtype)
    np.testing.assert_array_equal(
        _any_copy(driver.to_numpy(col4row), example), _any_copy(want.col4row, example)
    )
    rows = driver.to_numpy(row4col)
    assert rows.shape[-1] == example.queries // example.options.get("groups", 1)
    assert (rows >= 0).sum() == (want.col4row >= 0).sum()


@pytest.mark.parametrize("solver", ["auto", "core"])
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_gradients(driver: Driver, example: Example, solver: str) -> None:
    """By logits and boxes, with an upstream gradient; finite whatever the padding holds."""
    _skip_unless_wanted(driver, example)
    if not driver.differentiable:
        pytest.skip(f"{driver.name} is not differentiable")
    if solver == "core":
        checks.skip_programs(driver)
    program, arrays = _call(driver, example, solver=solver)
    upstream = driver.from_numpy(np.asarray(UPSTREAM), example.dtype)
    value, grads = driver.value_and_grad(
        lambda logits, boxes: program(logits, boxes, *arrays).total,
        _inputs(driver, example),
        upstream,
    )
    want = _expected(example)
    _close(driver.to_numpy(value), want.total, example.dtype)
    for grad, expected in zip(grads, (want.grad_logits, want.grad_boxes), strict=True):
        assert driver.dtype(grad) == example.dtype
        _close(driver.to_numpy(grad), expected, example.dtype)


@pytest.mark.parametrize("name", ["softmax", "focal"])
@pytest.mark.parametrize("tile_bytes", [1, 200, 10_000])
def test_tiles_change_nothing(driver: Driver, name: str, tile_bytes: int) -> None:
    """However small the temporaries are to be."""
    checks.skip_long(driver)
    (example,) = (x for x in EXAMPLES if x.name == name)
    program, arrays = _call(driver, example, solver="core", tile_bytes=tile_bytes)
    out = driver.trace(lambda *xs: program(*xs).total)(*_inputs(driver, example), *arrays)
    _close(driver.to_numpy(out), _expected(example).total, "float32")


@pytest.mark.parametrize("name", ["softmax", "focal"])
def test_shares_of_images(driver: Driver, name: str) -> None:
    """Kept apart, each image has what is left if the weights of all others are 0."""
    checks.skip_long(driver)
    (example,) = (x for x in EXAMPLES if x.name == name)
    program, arrays = _call(driver, example, reduction="none")
    out = driver.trace(lambda *xs: program(*xs)[:4])(*_inputs(driver, example), *arrays)
    total, *terms = (driver.to_numpy(x) for x in out)
    assert total.shape == (3,)
    _close(sum(total), _expected(example).total, "float32")
    for key, term in zip(TERMS[1:4], terms, strict=True):
        assert term.shape == (2, 3)
        _close(term.sum(1), getattr(_expected(example), key), "float32")
    criterion: Any = hc.DetrLoss(example.classes, backend=driver.backend, **example.options)
    targets = tuple(driver.from_numpy(example.data()[k]) for k in ("labels", "true_boxes", "mask"))
    only = driver.from_numpy(np.asarray([0.0, 1.0, 0.0], np.float32))
    one = criterion(*_inputs(driver, example), targets, image_weights=only)
    _close(total[1], driver.to_numpy(one.total), "float32")


@pytest.mark.parametrize("key", ["labels", "class_labels"])
def test_list_of_targets(driver: Driver, key: str) -> None:
    """One mapping per image, of as many objects as there are."""
    if not driver.static_shapes or not driver.raises:
        pytest.skip("padding comes before the program")
    example = EXAMPLES[0]
    data = example.data()
    targets = [
        {
            key: driver.from_numpy(data["labels"][b, :n]),
            "boxes": driver.from_numpy(data["true_boxes"][b, :n]),
        }
        for b, n in enumerate(example.counts)
    ]
    criterion: Any = hc.DetrLoss(example.classes, backend=driver.backend)
    inputs = _inputs(driver, example)
    out = criterion(*inputs, targets)
    want = _expected(example)
    _close(driver.to_numpy(out.total), want.total, "float32")
    np.testing.assert_array_equal(driver.to_numpy(out.assignment.col4row), want.col4row)
    padded = hc.pad_targets(targets, size=5, backend=driver.backend)
    assert driver.to_numpy(padded.mask).tolist() == [
        [m < n for m in range(5)] for n in example.counts
    ]
    _close(driver.to_numpy(criterion(*inputs, padded).total), want.total, "float32")


def test_list_with_empty_images(driver: Driver) -> None:
    """Empty lists have neither the axes nor the dtypes of what they stand for."""
    checks.skip_long(driver)
    if not driver.static_shapes or not driver.raises:
        pytest.skip("padding comes before the program")
    example = _no_layers()
    data = example.data()
    nothing = driver.from_numpy(np.zeros(0, np.float32))
    targets = [
        {
            "labels": driver.from_numpy(data["labels"][b, :n]) if n else nothing,
            "boxes": driver.from_numpy(data["true_boxes"][b, :n]) if n else nothing,
        }
        for b, n in enumerate(example.counts)
    ]
    criterion: Any = hc.DetrLoss(example.classes, backend=driver.backend)
    out = criterion(*_inputs(driver, example), targets)
    _close(driver.to_numpy(out.total), _expected(example).total, "float32")
    out = criterion(*_inputs(driver, example), [{"labels": nothing, "boxes": nothing}] * 3)
    assert (driver.to_numpy(out.assignment.col4row) == -1).all()
    assert float(driver.to_numpy(out.bbox)) == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(driver: Driver, dtype: str) -> None:
    """The matching and the loss of float32, even where a probability is 1 to rounding."""
    checks.need(driver, dtype)
    checks.skip_long(driver)
    example = Example("half", options=FOCAL)
    program, arrays = _call(driver, example)
    logits, boxes = (x.astype(np.float32) for x in list(example.data().values())[:2])
    logits[0, 0, 0] = 12
    short = [driver.from_numpy(x, dtype) for x in (logits, boxes)]
    wide = [driver.from_numpy(driver.to_numpy(x).astype(np.float32)) for x in short]
    found, expected = (driver.trace(program)(*x, *arrays) for x in (short, wide))
    assert driver.dtype(found.total) == "float32"
    assert np.isfinite(driver.to_numpy(found.total))
    _close(driver.to_numpy(found.total), driver.to_numpy(expected.total), "float32")
    np.testing.assert_array_equal(
        driver.to_numpy(found.assignment.col4row), driver.to_numpy(expected.assignment.col4row)
    )


def _no_layers() -> Example:
    return next(x for x in EXAMPLES if x.name == "no_layers")


def test_extra_cost(driver: Driver) -> None:
    """A cost of the user's own takes part, and +inf forbids a pair."""
    checks.skip_long(driver)
    example = EXAMPLES[0]
    data = example.data()
    best = _expected(example).col4row[0, 0, 0]
    extra = np.zeros((3, example.objects, example.queries), np.float32)
    extra[0, 0, best] = np.inf
    criterion: Any = hc.DetrLoss(example.classes, backend=driver.backend)
    targets = tuple(driver.from_numpy(data[k]) for k in ("labels", "true_boxes", "mask"))
    inputs = _inputs(driver, example)

    def program(*arrays: Any) -> Any:
        logits, boxes, extra = arrays
        return criterion(logits, boxes, targets, extra_cost=extra).assignment.col4row

    found = driver.to_numpy(driver.trace(program)(*inputs, driver.from_numpy(extra)))
    assert found[0, 0, 0] != best
    np.testing.assert_array_equal(found[:, 1:], _expected(example).col4row[:, 1:])


@pytest.mark.parametrize("name", ["softmax", "focal", "surplus_objects"])
def test_costs(driver: Driver, name: str) -> None:
    """The terms of the matching cost, by name."""
    checks.skip_long(driver)
    (example,) = (x for x in EXAMPLES if x.name == name)
    data = example.data()
    criterion: Any = hc.DetrLoss(example.classes, backend=driver.backend, **example.options)
    targets = tuple(driver.from_numpy(data[k]) for k in ("labels", "true_boxes", "mask"))
    found = criterion.costs(*_inputs(driver, example), targets)
    assert set(found) == {"class", "bbox", "giou"}
    total = sum(driver.to_numpy(x) for x in found.values())
    expected = detection.costs(example)
    np.testing.assert_allclose(
        np.where(np.isnan(expected), 0, total), np.nan_to_num(expected), rtol=0, atol=1e-5
    )


ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "class_loss": (
        {"class_loss": "ia-bce"},
        "class_loss is 'ia-bce'; expected one of 'softmax', 'focal', 'varifocal', "
        "'varifocal_differentiated', 'ia_bce', 'mal', 'qfl', 'asl', 'bce'. "
        "Did you mean 'ia_bce'?",
    ),
    "form of the cost": (
        {"class_cost_form": "focal"},
        "class_cost_form is 'focal'; expected one of 'softmax', 'nll' with class_loss='softmax'",
    ),
    "class_weights": (
        {"class_weights": [1.0]},
        "class_weights has 1 entries; expected num_classes=3; the weight of the last class is "
        "no_object_weight",
    ),
    "smoothing": (
        {"class_loss": "focal", "label_smoothing": 0.1},
        "label_smoothing is 0.1 with the class loss 'focal'; it is defined for 'softmax' only",
    ),
    "groups": ({"groups": 0}, "groups is 0; expected a positive integer"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_wrong_options(name: str) -> None:
    options, message = ERRORS[name]
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the whole message is compared)
        hc.DetrLoss(3, **options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            [(2, 5, 3), (2, 5, 4), (2, 4)],
            "logits has shape (2, 5, 3), with 3 classes; expected 4: num_classes + 1, the last "
            "for no object",
        ),
        (
            [(2, 5, 4), (2, 6, 4), (2, 4)],
            "boxes has shape (2, 6, 4); expected (2, 5, 4), as logits has (2, 5, 4)",
        ),
        (
            [(2, 5, 4), (2, 5, 4), (3, 4)],
            "labels has shape (3, 4); expected (B, M) with B = 2, the number of images",
        ),
        (
            [(5, 4), (5, 4), (1, 4)],
            "logits has shape (5, 4); expected (B, Q, C), or (L, B, Q, C) for decoder layers",
        ),
    ],
    ids=["classes", "boxes", "images", "no batch"],
)
def test_wrong_shapes(driver: Driver, shapes: Any, message: str) -> None:
    if not driver.static_shapes or not driver.raises:
        pytest.skip("one message for all: it depends on shapes only")
    logits, boxes, labels = (driver.from_numpy(np.zeros(s, np.float32)) for s in shapes[:3])
    labels = driver.from_numpy(np.zeros(shapes[2], np.int64))
    truth = driver.from_numpy(np.zeros((*shapes[2], 4), np.float32))
    mask = driver.from_numpy(np.ones(shapes[2], bool))
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the whole message is compared)
        hc.DetrLoss(3, backend=driver.backend)(logits, boxes, (labels, truth, mask))
    assert str(caught.value) == message


@pytest.mark.parametrize("class_loss", ["varifocal", "ia_bce"])
def test_classes_by_overlap_need_boxes(class_loss: Any) -> None:
    targets = hc.Targets(np.zeros((2, 1), int), None, np.ones((2, 1), bool))
    with pytest.raises(ValueError, match=f"boxes is None with class_loss='{class_loss}'"):
        hc.DetrLoss(3, class_loss=class_loss)(np.zeros((2, 5, 3)), None, targets)


def test_presets() -> None:
    assert hc.DetrLoss.preset("detr", 91).class_loss == "softmax"
    focal = hc.DetrLoss.preset("deformable", 80, giou_cost=3.0)
    classes, boxes = focal.criterion.terms
    assert isinstance(classes, hc.terms.Classes)
    assert isinstance(boxes, hc.terms.Boxes)
    assert (classes.cost_weight, boxes.bbox_cost, boxes.giou_cost) == (2, 5, 3)
    with pytest.raises(ValueError, match="preset is 'dert'; expected one of 'detr'"):
        hc.DetrLoss.preset("dert", 91)
