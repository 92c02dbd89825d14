"""`DetrLoss` on infinite, NaN, saturated and impossible input, and with options at their ends.

What each of them means is written at `hungarian_core.DetrLoss`. Values and slopes are compared with
their limits, written out below, and the native passes with the framework's on all there is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.terms import _target_checks
from hungarian_core.testing import checks, detection, reference
from hungarian_core.testing.detection import Example
from hungarian_core.testing.driver import Driver
from hungarian_core.testing.limits import logs, product, query_loss
from hungarian_core.testing.test_detection import (
    UPSTREAM,
    _call,
    _expected,
    _inputs,
    _no_layers,
)

INF, NAN = float("inf"), float("nan")
LABELS = (1, 2)  # of the two objects of an image; class 0 is nobody's
QUERIES, CLASSES = 5, 3
# What is put where: logits [Q, C], boxes [Q, 4] and true boxes [M, 4] of an image.
PLACES: dict[str, tuple[tuple[str, Any, float], ...]] = {
    "ordinary": (),
    "class masked": (("logits", np.s_[:, 0], -INF),),
    "label masked": (("logits", np.s_[:, 1], -INF),),
    "label masked for one": (("logits", np.s_[2, 1], -INF),),
    "all classes masked for one": (("logits", np.s_[1, :], -INF),),
    "only the last class left": (("logits", np.s_[:, :-1], -INF),),
    "certain of a label": (("logits", np.s_[3, 1], INF),),
    "certain of another class": (("logits", np.s_[0, 0], INF),),
    "certain of the last class": (("logits", np.s_[4, -1], INF), ("logits", np.s_[4, 0], -INF)),
    "logit of NaN": (("logits", np.s_[2, 0], NAN),),
    "saturated": (("logits", np.s_[::2, :2], 1e4), ("logits", np.s_[1::2, 1:], -90.0)),
    "box of NaN": (("boxes", np.s_[1, 2], NAN),),
    "boxes of NaN": (("boxes", np.s_[1:, :], NAN),),
    "infinite centre": (("boxes", np.s_[0, 0], INF), ("boxes", np.s_[1, 1], -INF)),
    "infinite side": (("boxes", np.s_[0, 2], INF),),
    "negative sides": (("boxes", np.s_[::2, 2], -0.25), ("boxes", np.s_[:2, 3], -0.5)),
    "no area": (("boxes", np.s_[:, 2], 0.0), ("truth", np.s_[:, 3], 0.0)),
    "points": (("boxes", np.s_[:, 2:], 0.0), ("truth", np.s_[:, 2:], 0.0)),
    "huge": (("boxes", np.s_[0, 2:], 1e12), ("boxes", np.s_[1, 0], 1e12)),
    "true box of NaN": (("truth", np.s_[0, 1], NAN),),
    "true side negative": (("truth", np.s_[1, 2], -0.25),),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "softmax": {"class_loss": "softmax"},
    "focal": {"class_loss": "focal"},
    "varifocal": {"class_loss": "varifocal", "alpha": 0.75},
    "ia_bce": {"class_loss": "ia_bce"},
    "no object 0": {"class_loss": "softmax", "no_object_weight": 0.0},
    "weight of class 0": {"class_loss": "softmax", "class_weights": [1.0, 0.0, 2.0]},
    "smoothing 1": {"class_loss": "softmax", "label_smoothing": 1.0},
    "focal alpha 1": {"class_loss": "focal", "alpha": 1.0, "cost_alpha": 1.0},
    "focal alpha 0": {"class_loss": "focal", "alpha": 0.0, "cost_alpha": 0.0},
    "focal gamma 0": {"class_loss": "focal", "gamma": 0.0},
    "focal gamma 1": {"class_loss": "focal", "gamma": 1.0, "class_weights": [1.0, 0.0, 2.0]},
    "varifocal alpha 0": {"class_loss": "varifocal", "alpha": 0.0},
    "ia_bce alpha 0": {"class_loss": "ia_bce", "alpha": 0.0},
    "ia_bce alpha 1": {"class_loss": "ia_bce", "alpha": 1.0},
    "varifocal_differentiated": {"class_loss": "varifocal_differentiated", "alpha": 0.75},
    "mal": {"class_loss": "mal", "gamma": 1.5, "cost_gamma": 2.0},
    "qfl": {"class_loss": "qfl"},
    "qfl gamma 0.5": {"class_loss": "qfl", "gamma": 0.5, "class_weights": [1.0, 0.0, 2.0]},
    "qfl gamma 0": {"class_loss": "qfl", "gamma": 0.0},
    "asl": {"class_loss": "asl", "class_weights": [1.0, 0.0, 2.0]},
    "bce": {"class_loss": "bce"},
}
ESSENTIAL = ("softmax", "focal")


def _images(softmax: bool) -> dict[str, np.ndarray]:
    """Return an image for each place, in float32."""
    rng, size = np.random.default_rng(7), len(PLACES)
    arrays = {
        "logits": rng.normal(size=(size, QUERIES, CLASSES + softmax)) * 2,
        "boxes": rng.uniform(0.2, 0.6, (size, QUERIES, 4)),
        "truth": rng.uniform(0.2, 0.6, (size, len(LABELS), 4)),
    }
    for k, places in enumerate(PLACES.values()):
        for name, at, value in places:
            arrays[name][k][at] = value
    return {name: x.astype(np.float32) for name, x in arrays.items()}


def _safe(kind: str, a: np.ndarray, b: np.ndarray) -> float:
    """Return a measure of two boxes, negative sides counted as 0, and so ratios to 0."""
    if not np.isfinite([a, b]).all():
        return NAN
    a, b = (np.concatenate([x[:2], np.maximum(x[2:], 0)]) for x in (a, b))
    area = [np.float32(x[2]) * np.float32(x[3]) for x in (a, b)]
    if max(area) > 1e-18:
        with np.errstate(all="ignore"):
            return float(reference.overlap(kind, a, b, "cxcywh"))
    if kind == "iou":
        return 0.0
    low, high = (np.array([x[:2] + s * x[2:] / 2 for x in (a, b)]) for s in (-1, 1))
    return -1.0 if np.prod(high.max(0) - low.min(0)) > 1e-18 else 0.0


def _costs(logits: np.ndarray, boxes: np.ndarray, truth: np.ndarray, o: dict[str, Any]) -> Any:
    """Return the matching costs `[M, Q]` of an image, what is no cost the worst or the best."""
    costs = np.zeros((len(truth), len(boxes)))
    a, g = o.get("cost_alpha", 0.25), o.get("cost_gamma", o.get("gamma", 2.0))
    for (i, j), _ in np.ndenumerate(costs):
        x = logits[j, LABELS[i]]
        if o["class_loss"] == "softmax":
            top = logits[j].max()
            cost = -np.exp(x - np.logaddexp.reduce(logits[j])) if np.isfinite(top) else NAN
        else:
            p, q, wrong, right = logs(x)
            cost = product(a * q**g, wrong) - product((1 - a) * p**g, right)
        distance = np.abs(boxes[j] - truth[i]).sum()
        costs[i, j] = cost + 5 * distance - 2 * _safe("giou", truth[i], boxes[j])
    sound = costs[np.isfinite(costs)]
    worst, best = (sound.max(), sound.min()) if len(sound) else (0, 0)
    return np.where(np.isnan(costs) | (costs == INF), worst, np.where(costs == -INF, best, costs))


# The native passes where there are any, and the framework's own operations.
@pytest.mark.parametrize("solver", ["auto", "core"])
@pytest.mark.parametrize("name", OPTIONS)
def test_values_and_slopes_are_limits(driver: Driver, name: str, solver: Any) -> None:
    """All kinds of images in one batch: none has a say in the losses and slopes of another."""
    if name not in ESSENTIAL or solver != "auto":
        checks.skip_programs(driver)
    if not driver.thorough_eager:
        checks.skip_long(driver)
    o = OPTIONS[name]
    data = _images(o["class_loss"] == "softmax")
    criterion: Any = hc.DetrLoss(
        CLASSES, **o, solver=solver, check_targets=False, reduction="none", backend=driver.backend
    )
    size = len(PLACES)
    targets = (
        driver.from_numpy(np.tile(np.array(LABELS), (size, 1))),
        driver.from_numpy(data["truth"]),
        driver.from_numpy(np.ones((size, len(LABELS)), bool)),
    )
    inputs = [driver.from_numpy(data[name]) for name in ("logits", "boxes")]

    def terms(*arrays: Any) -> Any:
        out = criterion(*arrays, targets)
        xp = driver.resolve(arrays[0]).namespace(arrays[0])
        columns = xp.astype(out.assignment.col4row, out.total.dtype)
        return xp.stack([*tuple(out)[:4], columns[:, 0], columns[:, 1]], axis=0)

    with np.errstate(all="ignore"):  # NumPy warns of what comes in
        if driver.differentiable:
            upstream = np.zeros((6, size), np.float32)
            upstream[0] = UPSTREAM
            found, grads = driver.value_and_grad(terms, inputs, driver.from_numpy(upstream))
        else:
            found = driver.trace(terms)(*inputs)
        _, class_, bbox, giou, *columns = driver.to_numpy(found)
        col4row = np.stack(columns, axis=-1).astype(int)
        expected = [_image(data, k, col4row[k], o) for k in range(size)]
    weights = sum(x.weight for x in expected) if o["class_loss"] == "softmax" else size * 2
    for k, (place, want) in enumerate(zip(PLACES, expected, strict=True)):
        assert want.paid == pytest.approx(want.least, rel=1e-4, abs=1e-5), place
        assert np.isfinite(bbox[k] + giou[k]) == want.finite_boxes, place
    detection.compare(class_, np.array([x.classes for x in expected]) / weights, name)
    if driver.differentiable:
        of_logits, of_boxes = map(driver.to_numpy, grads)
        slopes = np.array([x.slopes for x in expected])
        detection.compare(of_logits, UPSTREAM * slopes / weights, name)
        finite = np.array([x.sound for x in expected])
        assert np.isfinite(of_boxes[finite]).all()


class _Wanted:
    """What an image with the matching that was found is to have."""

    def __init__(self, classes: Any, slopes: Any, weight: float) -> None:
        self.classes, self.slopes, self.weight = classes, slopes, weight
        self.finite_boxes = True
        self.paid = self.least = 0.0
        self.sound = np.ones(QUERIES, bool)  # boxes that are not matched with NaN or infinity


def _image(data: dict[str, np.ndarray], k: int, col4row: np.ndarray, o: dict[str, Any]) -> _Wanted:
    logits, boxes, truth = (
        data[name][k].astype(np.float64) for name in ("logits", "boxes", "truth")
    )
    weights = [*o.get("class_weights", [1.0] * CLASSES), o.get("no_object_weight", 0.1)]
    total, slopes, weight = 0.0, np.zeros_like(logits), 0.0
    for j, x in enumerate(logits):
        (pair,) = np.flatnonzero(col4row == j) if j in col4row else (-1,)
        label = LABELS[pair] if pair >= 0 else -1
        quality = _safe("iou", truth[pair], boxes[j]) if pair >= 0 else 0.0
        loss, slopes[j] = query_loss(x, label, quality, o)
        total, weight = total + loss, weight + weights[label]
    want = _Wanted(total, slopes, weight)
    costs = _costs(logits, boxes, truth, o)
    every = np.ones(2, bool), np.ones(QUERIES, bool)
    want.least = reference.solve(costs, *every, None).total
    assert (col4row >= 0).all()
    want.paid = float(costs[np.arange(2), col4row].sum())
    for i, j in enumerate(col4row):
        if not np.isfinite([truth[i], boxes[j]]).all():
            want.finite_boxes, want.sound[j] = False, False
    return want


@pytest.mark.parametrize("solver", ["auto", "core"])
def test_an_invalid_prediction(driver: Driver, solver: str) -> None:
    """It is matched last, the loss is NaN, and the gradients of other images are as ever."""
    checks.skip_long(driver)
    example = Example("invalid", layers=0)
    program, arrays = _call(driver, example, solver=solver)
    data = example.data()
    logits, boxes = data["logits"], data["boxes"]
    logits[1, 2, 0], boxes[1, 4, 1] = np.nan, np.inf
    inputs = [driver.from_numpy(x) for x in (logits, boxes)]
    with np.errstate(all="ignore"):  # NumPy warns of what comes in
        out = program(*inputs, *arrays)
    assert np.isnan(driver.to_numpy(out.total))
    col4row = driver.to_numpy(out.assignment.col4row)
    np.testing.assert_array_equal(col4row[[0, 2]], _expected(_no_layers()).col4row[[0, 2]])
    assert col4row[1, 0] not in (2, 4)
    if driver.differentiable:
        upstream = driver.from_numpy(np.asarray(1.0), "float32")
        with np.errstate(all="ignore"):
            _, grads = driver.value_and_grad(
                lambda x, y: program(x, y, *arrays).total, inputs, upstream
            )
        for grad in grads:
            assert np.isfinite(driver.to_numpy(grad)[[0, 2]]).all()


def test_a_label_out_of_range(driver: Driver) -> None:
    """Eagerly an error; elsewhere the loss is NaN and that image has no matches."""
    checks.skip_long(driver)
    example = _no_layers()
    program, arrays = _call(driver, example)
    labels = example.data()["labels"]
    labels[1, 0] = 3
    arrays[0] = driver.from_numpy(labels)
    traced = driver.trace(lambda *xs: (program(*xs).total, program(*xs).assignment.col4row))
    if driver.raises:
        with pytest.raises(ValueError, match=r"labels holds 3 \(first at batch index 1\)"):
            traced(*_inputs(driver, example), *arrays)
        return
    total, col4row = (driver.to_numpy(x) for x in traced(*_inputs(driver, example), *arrays))
    assert np.isnan(total)
    assert (col4row[1] == -1).all()
    np.testing.assert_array_equal(col4row[0], _expected(example).col4row[0])


BOXES: dict[str, tuple[list[float], bool]] = {
    "pixels": ([4597.0, 120.0, 300.0, 400.0], False),
    "pixels of a small image": ([12.0, 9.0, 7.0, 7.0], False),
    "percent": ([50.0, 40.0, 20.0, 10.0], False),
    "negative side": ([0.5, 0.5, -0.2, 0.1], False),
    "NaN": ([NAN, 0.5, 0.2, 0.1], False),
    "infinite": ([0.5, 0.5, INF, 0.1], False),
    "the whole image": ([0.5, 0.5, 1.0, 1.0], True),
    "no area": ([0.5, 0.5, 0.0, 0.1], True),
    "moved out of the image": ([-0.3, 1.4, 0.8, 0.2], True),
    "zoomed by 3": ([1.5, -0.5, 3.0, 3.0], True),
}


@pytest.mark.parametrize("name", BOXES)
def test_true_boxes_that_cannot_be(driver: Driver, name: str) -> None:
    """Eagerly an error that says where; not of padding, and not if nobody asks."""
    if name not in ("NaN", "zoomed by 3"):
        checks.skip_programs(driver)
    checks.skip_long(driver)
    box, possible = BOXES[name]
    truth = np.full((2, 2, 4), NAN, np.float32)
    truth[0, 0], truth[1] = 0.5, ([0.4] * 4, box)
    arrays: list[Any] = [np.ones((2, 2), int), truth, np.array([[True, False], [True, True]])]
    labels, truth, mask = (driver.from_numpy(x) for x in arrays)
    inputs = [*[driver.from_numpy(np.full((2, 5, 4), 0.4, np.float32))] * 2, truth]
    for make in (hc.DetrLoss, hc.AlignedDetrLoss):
        for asked in (True, False):
            loss: Any = make(3, check_targets=asked, backend=driver.backend)

            def program(logits: Any, boxes: Any, truth: Any, loss: Any = loss) -> Any:
                return loss(logits, boxes, (labels, truth, mask)).bbox

            if asked and not possible and driver.raises:
                with pytest.raises(ValueError, match=r"\(image 1, object 1\).*boxes\.convert\("):
                    program(*inputs)
                continue
            with np.errstate(all="ignore"):
                found = driver.to_numpy(driver.trace(program)(*inputs))
            assert np.isfinite(found) == np.isfinite(box).all()


def test_corners_in_the_place_of_centre_and_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    """What twelve boxes can say between them is said, once, and no other dozen says it."""
    rng = np.random.default_rng(2)
    low = rng.uniform(0, 0.6, (12, 2))
    corners = np.concatenate([low, low + rng.uniform(0.1, 0.4, (12, 2))], axis=-1)[None]
    right = hc.boxes.convert(corners, "xyxy", "cxcywh")
    monkeypatch.setattr(_target_checks, "_warned", [])
    loss, inputs = hc.DetrLoss(3), (np.zeros((1, 12, 4)), np.full((1, 12, 4), 0.4))
    labels = np.zeros((1, 12), int)
    loss(*inputs, (labels, right, None))
    loss(*inputs, (labels[:, :3], corners[:, :3], None))
    whole = np.tile([0.5, 0.5, 1.0, 1.0], (1, 12, 1))
    loss(*inputs, (labels, whole, None))
    with pytest.warns(UserWarning, match="look like corners"):
        loss(*inputs, (labels, corners, None))
    loss(*inputs, (labels, corners, None))


@pytest.mark.parametrize("class_loss", ["softmax", "focal"])
def test_all_queries_ignored(driver: Driver, class_loss: Any) -> None:
    """Nothing is left to divide by, and nothing to learn, whatever the queries hold."""
    checks.skip_long(driver)
    logits = np.zeros((1, 2, 3 + (class_loss == "softmax")), np.float32)
    boxes = np.full((1, 2, 4), 0.4, np.float32)
    logits[0, 0, 0], boxes[0, 1, 1] = NAN, NAN
    flags = driver.from_numpy(np.ones((1, 2), bool))
    truth = driver.from_numpy(np.full((1, 2, 4), 0.5, np.float32))
    targets = hc.Targets(driver.from_numpy(np.array([[0, -1]])), truth, flags, ignore=flags)
    loss: Any = hc.DetrLoss(3, class_loss=class_loss, backend=driver.backend)
    inputs = [driver.from_numpy(x) for x in (logits, boxes)]
    with np.errstate(all="ignore"):
        out = loss(*inputs, targets)
    assert [float(driver.to_numpy(x)) for x in out[:4]] == [0.0] * 4
    if driver.differentiable:
        upstream = driver.from_numpy(np.asarray(UPSTREAM), "float32")
        _, grads = driver.value_and_grad(lambda *xs: loss(*xs, targets).total, inputs, upstream)
        assert all((driver.to_numpy(x) == 0).all() for x in grads)


def test_flags_of_another_dtype() -> None:
    """The message says what the flag means."""
    labels, truth = np.zeros((1, 2), int), np.full((1, 2, 4), 0.5)
    inputs, targets = (np.zeros((1, 5, 4)), np.full((1, 5, 4), 0.4)), (labels, truth, None)
    wrong = hc.Targets(*targets, ignore=np.zeros((1, 2), np.uint8))
    with pytest.raises(ValueError, match=r"ignore has dtype uint8 .*True for an object that costs"):
        hc.DetrLoss(3)(*inputs, wrong)
    with pytest.raises(ValueError, match=r"query_mask has dtype .*expected bool \(1, 5\), True wh"):
        hc.DetrLoss(3)(*inputs, targets, query_mask=np.ones((1, 5)))
    with pytest.raises(ValueError, match=r"and shape \(1, 4\); expected bool \(1, 5\)"):
        hc.AlignedDetrLoss(3)(*inputs, targets, query_mask=np.ones((1, 4), bool))
