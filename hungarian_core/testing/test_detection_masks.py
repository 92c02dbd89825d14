"""`DetrLoss` with masks, with repeated objects, and with queries that are not there."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import hungarian_core as hc
from hungarian_core.terms.mask_losses import mask_losses
from hungarian_core.testing import checks, detection, reference
from hungarian_core.testing.driver import Driver
from hungarian_core.testing.test_detection import EXAMPLES, FOCAL, UPSTREAM, _inputs

NAN = float("nan")
MASKS: Any = hc.masks  # for the type checker: some tests pass options that do not exist
TERMS: Any = hc.terms


def mask_pair_losses(kind: str, truth: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """Return the loss of pixels and dice of one pair of masks."""
    p = 1 / (1 + np.exp(-x))
    entropy = -truth * np.log(p) - (1 - truth) * np.log(1 - p)
    if kind == "focal":
        wrong = p * (1 - truth) + (1 - p) * truth
        entropy = entropy * wrong**2 * (0.25 * truth + 0.75 * (1 - truth))
    dice = 1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)
    return entropy.mean(), dice


@pytest.mark.parametrize(
    ("pixels", "layered"), [("focal", False), ("bce", True)], ids=["last_layer", "all_layers"]
)
def test_masks(driver: Driver, pixels: Any, layered: bool) -> None:
    """Masks take part in the matching and in the loss, at all layers or at the last one."""
    checks.skip_long(driver)
    example = EXAMPLES[0]
    data, rng = example.data(), np.random.default_rng(0)
    layers, images, queries = example.layers, len(example.counts), example.queries
    lead = (layers, images) if layered else (images,)
    predicted = rng.normal(size=(*lead, queries, 3, 4)).astype(np.float32) * 2
    truth = rng.integers(0, 2, (images, example.objects, 3, 4)).astype(np.float32)
    truth[~data["mask"]] = np.nan
    criterion: Any = hc.DetrLoss(
        example.classes, backend=driver.backend, masks=hc.MaskLoss(pixels, 2.0, 3.0, 4.0, 5.0)
    )
    names = ("labels", "true_boxes", "mask")
    arrays = [driver.from_numpy(x) for x in (*(data[name] for name in names), truth)]

    def program(logits: Any, boxes: Any, masks: Any) -> Any:
        labels, true_boxes, mask, true_masks = arrays
        targets = hc.Targets(labels, true_boxes, mask, masks=true_masks)
        return criterion(logits, boxes, targets, masks=masks)

    inputs = [*_inputs(driver, example), driver.from_numpy(predicted)]
    out = driver.trace(lambda *xs: (*program(*xs)[:6], program(*xs).assignment.col4row))(*inputs)
    total, class_, bbox, giou, mask, dice, col4row = map(driver.to_numpy, out)

    cost, expected = detection.costs(example), np.zeros((2, layers))
    for layer in range(0 if layered else layers - 1, layers):
        for b, count in enumerate(example.counts):
            x = (predicted[layer, b] if layered else predicted[b]).astype(np.float64)
            for i in range(count):
                for q in range(queries):
                    cost[layer, b, i, q] += np.dot(
                        (4, 5), mask_pair_losses(pixels, truth[b, i], x[q])
                    )
                j = col4row[layer, b, i]
                expected[:, layer] += np.array(mask_pair_losses(pixels, truth[b, i], x[j])) * (2, 3)
    np.testing.assert_allclose([mask, dice], expected / sum(example.counts), rtol=1e-5)
    np.testing.assert_allclose(total, (class_ + bbox + giou + mask + dice).sum(), rtol=1e-6)
    for layer, b in np.ndindex(layers, images):
        n = example.counts[b]
        best = reference.solve(cost[layer, b, :n], np.ones(n, bool), np.ones(queries, bool), None)
        paid = sum(cost[layer, b, i, col4row[layer, b, i]] for i in range(n))
        assert paid == pytest.approx(best.total, rel=1e-5)
    if driver.differentiable:
        upstream = driver.from_numpy(np.asarray(UPSTREAM), "float32")
        _, grads = driver.value_and_grad(lambda *xs: program(*xs).total, inputs, upstream)
        grad = driver.to_numpy(grads[2])
        assert np.isfinite(grad).all()
        touched = np.abs(grad).max((-2, -1)) > 0
        assert touched.sum() == sum(example.counts) * (layers if layered else 1)


def test_masks_at_points(driver: Driver) -> None:
    """At the centres of all pixels, points are the pixels; candidates are chosen from."""
    checks.skip_long(driver)
    rng = np.random.default_rng(0)
    logits = driver.from_numpy(rng.normal(size=(2, 5, 4)).astype(np.float32))
    masks = driver.from_numpy(rng.normal(size=(2, 5, 3, 4)).astype(np.float32))
    truth = driver.from_numpy(rng.integers(0, 2, (2, 2, 3, 4)).astype(np.float32))
    y, x = np.mgrid[:3, :4]
    grid = np.stack([(x + 0.5) / 4, (y + 0.5) / 3], -1).reshape(12, 2).astype(np.float32)
    points = driver.from_numpy(np.stack([grid, grid]))
    mask = driver.from_numpy(np.ones((2, 2), bool))
    labels = driver.from_numpy(np.zeros((2, 2), np.int64))
    targets = hc.Targets(labels, None, mask, masks=truth)
    criterion = hc.DetrLoss.preset("mask2former", 3, backend=driver.backend)
    dense = criterion(logits, None, targets, masks=masks)
    sampled = criterion(logits, None, targets, masks=masks, points=points)
    few = hc.DetrLoss(
        3, backend=driver.backend,
        masks=hc.MaskLoss("bce", num_points=12, importance_ratio=0.5, mask_cost=5, dice_cost=5),
    )  # fmt: skip
    candidates = driver.from_numpy(np.concatenate([grid, grid])[None, None])
    chosen = few(logits, None, targets, masks=masks, points=points, candidates=candidates)
    for name in ("total", "mask", "dice"):
        found, expected = (driver.to_numpy(getattr(out, name)) for out in (sampled, dense))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.isfinite(driver.to_numpy(chosen.mask))
    assert (driver.to_numpy(dense.bbox), driver.to_numpy(dense.giou)) == (0, 0)


@pytest.mark.parametrize("candidates", [None, 1, 2], ids=["pixels", "shared", "of_objects"])
def test_masks_of_repeated_objects(driver: Driver, candidates: int | None) -> None:
    """Repeated by the loss, objects are as if they had been given that often."""
    checks.skip_programs(driver)
    rng = np.random.default_rng(3)
    logits, boxes = rng.normal(size=(2, 6, 4)), rng.uniform(0.2, 0.6, (2, 6, 4))
    masks, labels = rng.normal(size=(2, 6, 3, 4)), rng.integers(0, 3, (2, 2))
    truth, true_masks = rng.uniform(0.2, 0.6, (2, 2, 4)), rng.integers(0, 2, (2, 2, 3, 4))
    mask = np.array([[True, True], [True, False]])
    terms = hc.MaskLoss("bce", 2.0, 3.0, 4.0, 5.0, num_points=6)
    points = None if candidates is None else rng.random((2, candidates, 9, 2))
    found = []
    for given, asked in ((1, 2), (2, 1)):
        criterion = hc.DetrLoss(3, masks=terms, repeat=asked, backend=driver.backend)

        def twice(x: np.ndarray, given: int = given) -> Any:
            kind = "float32" if x.dtype.kind == "f" else None
            return driver.from_numpy(np.concatenate([x] * given, axis=1), kind)

        targets = hc.Targets(
            twice(labels), twice(truth), twice(mask), masks=twice(true_masks.astype(np.float32))
        )
        arrays = [driver.from_numpy(x, "float32") for x in (logits, boxes, masks)]
        more = points if points is None or candidates == 1 else np.concatenate([points] * given, 1)
        more = None if more is None else driver.from_numpy(more, "float32")
        x, y, z = arrays
        out = criterion(x, y, targets, masks=z, candidates=more)
        found.append([driver.to_numpy(x) for x in (*out[:6], out.assignment.col4row)])
    # The objects are counted as often as they are there.
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    assert (found[0][-1] >= 0).sum() == 6


OPTIONS: dict[str, dict[str, Any]] = {
    "softmax": {},
    "focal": FOCAL,
    "smoothing": {"label_smoothing": 0.2},
    "varifocal": {"class_loss": "varifocal", "alpha": 0.75},
    "groups": {**FOCAL, "groups": 2},
    "repeat": {"repeat": 2},
    "published": {**FOCAL, "class_cost_form": "focal_published"},
    "aligned": {"no_object_weight": 0.3},
}


@pytest.mark.parametrize("solver", ["auto", "core"])
@pytest.mark.parametrize("name", OPTIONS)
def test_masked_queries(driver: Driver, name: str, solver: str) -> None:
    """They are as good as not there, whatever they hold: no match, no loss, no gradient."""
    if (name, solver) != ("softmax", "auto"):
        checks.skip_programs(driver)
    options, rng = OPTIONS[name], np.random.default_rng(4)
    classes = 3 if "class_loss" in options else 4
    groups = options.get("groups", 1)
    there = np.tile(np.array([True, False, True, True, False]), groups)
    few = rng.normal(size=(2, 2, 3 * groups, classes)), rng.uniform(0.2, 0.6, (2, 2, 3 * groups, 4))
    full = [np.full((2, 2, len(there), x.shape[-1]), NAN) for x in few]
    for x, y in zip(full, few, strict=True):
        x[..., there, :] = y
    labels, truth = rng.integers(0, 3, (2, 2)), rng.uniform(0.2, 0.6, (2, 2, 4))
    arrays = [driver.from_numpy(labels), driver.from_numpy(truth, "float32")]
    arrays.append(driver.from_numpy(np.array([[True, True], [True, False]])))
    loss: Any = hc.AlignedDetrLoss if name == "aligned" else hc.DetrLoss
    criterion = loss(3, solver=solver, backend=driver.backend, **options)
    flags = driver.from_numpy(np.broadcast_to(there, (2, len(there))))

    def total(logits: Any, boxes: Any) -> Any:
        return criterion(logits, boxes, tuple(arrays), query_mask=flags).total

    def all_of_it(logits: Any, boxes: Any) -> Any:
        out = criterion(logits, boxes, tuple(arrays), query_mask=flags)
        return (*tuple(out)[:8], out.assignment.col4row, out.assignment.row4col)

    given = [driver.from_numpy(x, "float32") for x in full]
    *found, col4row, row4col = map(driver.to_numpy, driver.trace(all_of_it)(*given))
    alone = criterion(*(driver.from_numpy(x, "float32") for x in few), tuple(arrays))
    for one, other in zip(found, alone[:8], strict=True):
        np.testing.assert_allclose(one, driver.to_numpy(other), rtol=2e-5, atol=1e-6)
    size = len(there) // groups
    assert (row4col[..., ~there[:size]] == -1).all()
    at = np.flatnonzero(there[:size])
    expected = driver.to_numpy(alone.assignment.col4row)
    expected = np.where(expected >= 0, at[expected], -1)
    copies = options.get("repeat", 1)  # all are as good
    one, other = (
        np.sort(x.reshape(*x.shape[:-1], copies, -1), axis=-2) for x in (col4row, expected)
    )
    np.testing.assert_array_equal(one, other)
    if driver.differentiable:
        upstream = driver.from_numpy(np.asarray(UPSTREAM), "float32")
        _, grads = driver.value_and_grad(total, given, upstream)
        for grad in map(driver.to_numpy, grads):
            assert (grad[..., ~there, :] == 0).all()
            assert (np.abs(grad[..., there, :]).max(-1) > 0).any()


def test_queries_masked_by_layer_and_image(driver: Driver) -> None:
    """A mask may differ between layers, and leave an image without any query."""
    checks.skip_programs(driver)
    rng = np.random.default_rng(5)
    logits, boxes = rng.normal(size=(2, 2, 4, 4)), rng.uniform(0.2, 0.6, (2, 2, 4, 4))
    masks = rng.normal(size=(2, 4, 3, 3))
    there = np.array([[[1, 1, 0, 1], [0, 0, 0, 0]], [[0, 1, 1, 1], [1, 0, 0, 0]]], bool)
    logits[~there], boxes[~there], masks[~there[1]] = NAN, NAN, NAN
    true_masks = rng.integers(0, 2, (2, 2, 3, 3)).astype(np.float32)
    targets = hc.Targets(
        driver.from_numpy(rng.integers(0, 3, (2, 2))),
        driver.from_numpy(rng.uniform(0.2, 0.6, (2, 2, 4)), "float32"),
        None,
        masks=driver.from_numpy(true_masks),
    )
    criterion = hc.DetrLoss(3, masks=hc.MaskLoss(mask_cost=1.0), backend=driver.backend)
    arrays = [driver.from_numpy(x, "float32") for x in (logits, boxes, masks)]
    x, y, z = arrays
    out = criterion(x, y, targets, masks=z, query_mask=driver.from_numpy(there))
    assert np.isfinite(driver.to_numpy(out.total))
    col4row = driver.to_numpy(out.assignment.col4row)
    assert (col4row >= 0).sum(-1).tolist() == [[2, 0], [2, 1]]
    assert all(there[layer, b, j] for (layer, b, _), j in np.ndenumerate(col4row) if j >= 0)


@pytest.mark.parametrize("form", ["list", "padded"])
def test_what_no_term_reads_is_left_alone(driver: Driver, form: str) -> None:
    """Masks of different sizes without a term of masks, boxes where none are predicted."""
    if not driver.static_shapes or not driver.raises:
        pytest.skip("padding comes before the program")
    checks.skip_programs(driver)
    rng = np.random.default_rng(6)
    labels, truth = np.array([[1], [2]]), rng.uniform(0.2, 0.6, (2, 1, 4)).astype(np.float32)
    logits = driver.from_numpy(rng.normal(size=(2, 4, 4)), "float32")
    boxes = driver.from_numpy(rng.uniform(0.2, 0.6, (2, 4, 4)), "float32")
    targets: Any = hc.Targets(labels, truth, np.ones((2, 1), bool), masks=np.zeros((7, 7)))
    unread: Any = targets._replace(boxes=np.zeros((5, 3)))
    if form == "list":
        targets = [
            {"labels": labels[b], "boxes": truth[b], "masks": np.zeros((1, 4 + b, 6))}
            for b in range(2)
        ]
        unread = [{**t, "boxes": np.zeros((7, 2 + b))} for b, t in enumerate(targets)]
    criterion = hc.DetrLoss(3, backend=driver.backend)
    plain = criterion(logits, boxes, (labels, truth, None))
    assert np.isfinite(driver.to_numpy(plain.total))
    found = criterion(logits, boxes, targets)
    np.testing.assert_array_equal(driver.to_numpy(found.total), driver.to_numpy(plain.total))
    found = criterion(logits, None, unread)
    plain = criterion(logits, None, hc.Targets(labels, None, None))
    np.testing.assert_array_equal(driver.to_numpy(found.total), driver.to_numpy(plain.total))
    assert driver.to_numpy(found.bbox) == 0


def test_masks_of_another_size(driver: Driver) -> None:
    """They are matched in the size of the predictions and compared in that of the truth."""
    checks.skip_lengthy(driver)
    rng = np.random.default_rng(5)
    predicted = rng.normal(size=(2, 4, 3, 4)).astype(np.float32) * 2
    truth = (rng.uniform(size=(2, 2, 6, 9)) > 0.5).astype(np.float32)
    mask = np.array([[True, True], [True, False]])
    term = hc.terms.Masks("bce", 2.0, 3.0, 4.0, 5.0, resize="bilinear")
    criterion = hc.SetLoss([term], backend=driver.backend)
    fields = {"masks": driver.from_numpy(truth), "mask": driver.from_numpy(mask)}

    def program(masks: Any) -> Any:
        out = criterion({"masks": masks}, fields)
        xp = driver.resolve(masks).namespace(masks)
        found = (out.losses["mask"], out.losses["dice"], out.assignment.cost)
        return xp.concat([xp.reshape(x, (-1,)) for x in found])

    def resized(x: Any) -> Any:
        return hc.masks.resize(x, (6, 9))

    losses, costs, slope = np.zeros(2), np.zeros(2), np.zeros(predicted.shape)
    rows, columns = np.arange(3) * 6 // 3, np.arange(4) * 9 // 4
    for b, n in enumerate((2, 1)):
        low = truth[b][:, rows[:, None], columns[None]]
        cost = np.array(
            [
                [
                    np.dot((4, 5), mask_pair_losses("bce", low[m], x.astype(np.float64)))
                    for x in predicted[b]
                ]
                for m in range(n)
            ]
        )
        for i, q in zip(*linear_sum_assignment(cost), strict=True):
            costs[b] += cost[i, q]
            x = resized(predicted[b, q].astype(np.float64))
            losses += np.multiply((2, 3), mask_pair_losses("bce", truth[b, i], x)) / 3
            for at in np.ndindex(3, 4):
                moved = predicted[b, q].astype(np.float64)
                moved[at] += 1e-6
                change = (
                    np.subtract(
                        mask_pair_losses("bce", truth[b, i], resized(moved)),
                        mask_pair_losses("bce", truth[b, i], x),
                    )
                    / 1e-6
                )
                slope[(b, q, *at)] = np.dot((2, 3), change) / 3
    inputs = [driver.from_numpy(predicted)]
    if driver.differentiable:
        above = driver.from_numpy(np.array([UPSTREAM, UPSTREAM, 0, 0], np.float32))
        value, (grad,) = driver.value_and_grad(program, inputs, above)
        np.testing.assert_allclose(driver.to_numpy(grad), UPSTREAM * slope, atol=1e-5)
    else:
        value = driver.trace(program)(*inputs)
    np.testing.assert_allclose(driver.to_numpy(value), [*losses, *costs], rtol=1e-5)


def test_masks_of_images_of_different_sizes(driver: Driver) -> None:
    """Padded at the bottom and on the right, where a list becomes an array."""
    checks.skip_programs(driver)
    if not driver.static_shapes or not driver.raises:
        pytest.skip("padding comes before the program")
    small, large = np.ones((1, 2, 5), np.float32), np.ones((2, 4, 3), np.float32)
    targets = [
        {"labels": driver.from_numpy(np.zeros(len(x), np.int64)), "masks": driver.from_numpy(x)}
        for x in (small, large)
    ]
    padded = driver.to_numpy(hc.pad_targets(targets, backend=driver.backend).masks)
    expected = np.zeros((2, 2, 4, 5))
    expected[0, :1, :2, :5], expected[1, :2, :4, :3] = 1, 1
    np.testing.assert_array_equal(padded, expected)
    keypoints = [{"keypoints": x["masks"]} for x in targets]
    with pytest.raises(ValueError, match=r"expected \(n, d\)"):
        hc.SetLoss([hc.terms.Pairs("keypoints")], backend=driver.backend).pad_targets(keypoints)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, k: hc.masks.resize(x, (0, 3), backend=k), "size is (0, 3); expected a height"),
        (lambda x, k: MASKS.resize(x, (2, 3), mode="area", backend=k), "mode is 'area'; "),
        (lambda x, k: hc.masks.resize(x[0, 0, :], (2, 3), backend=k), "masks has shape (3,); "),
        (lambda x, k: TERMS.Masks(resize="nearest"), "resize is 'nearest'; expected one of"),
        (
            lambda x, k: hc.SetLoss([hc.terms.Masks(resize="bilinear")], match_by="loss"),
            "cannot be matched by its loss",
        ),
    ],
    ids=["size", "mode", "axes", "resize", "alignable"],
)
def test_errors_of_sizes(driver: Driver, call: Any, message: str) -> None:
    checks.skip_programs(driver)
    with pytest.raises(ValueError, match=re.escape(message)):
        call(driver.from_numpy(np.zeros((2, 2, 3), np.float32)), driver.backend)


@pytest.mark.parametrize("options", [("bce", 0.25, 2.0), ("focal", 0.3, 2.0), ("focal", None, 1.5)])
def test_losses_of_masks_in_closed_form(driver: Driver, options: Any) -> None:
    """They are those of `masks`, value and slope, of saturated and infinite logits too."""
    checks.skip_lengthy(driver)
    if not driver.differentiable:
        pytest.skip(f"{driver.name} is not differentiable")
    kind, alpha, gamma = options
    rng = np.random.default_rng(7)
    truth = rng.integers(0, 2, (3, 4, 5)).astype(np.float32)
    truth[0, 0, :3] = 0.25
    logits = rng.normal(size=(3, 4, 5)).astype(np.float32) * 3
    logits[0, 1, :4] = [90, -90, 0, 30]
    logits[2, 3, :3] = [np.inf, -np.inf, np.inf]
    true = driver.from_numpy(truth)

    def closed(x: Any) -> Any:
        found = mask_losses(true, x, kind == "focal", alpha, gamma, 2, driver.resolve(x))
        return driver.resolve(x).namespace(x).stack(found, axis=0)

    def recorded(x: Any) -> Any:
        given: Any = {"backend": driver.backend}
        pixels = {"bce": hc.masks.bce, "focal": hc.masks.focal}[kind]
        focal: Any = {"alpha": alpha, "gamma": gamma} if kind == "focal" else {}
        found = pixels(true, x, **given, **focal), hc.masks.dice(true, x, **given)
        return driver.resolve(x).namespace(x).stack(found, axis=0)

    above = driver.from_numpy(rng.normal(size=(2, 3)).astype(np.float32))
    (found, (grad,)), (wanted, (slope,)) = (
        driver.value_and_grad(way, [driver.from_numpy(logits)], above) for way in (closed, recorded)
    )
    np.testing.assert_allclose(driver.to_numpy(found), driver.to_numpy(wanted), rtol=1e-6)
    np.testing.assert_allclose(driver.to_numpy(grad), driver.to_numpy(slope), rtol=1e-4, atol=1e-8)
