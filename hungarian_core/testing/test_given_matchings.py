"""`SetLoss` with a matching that is given, and the matching of least loss among them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.terms import Boxes, Classes, Masks, Pairs
from hungarian_core.testing import checks
from hungarian_core.testing.driver import Driver
from hungarian_core.testing.test_detection_masks import mask_pair_losses as pair_of_masks
from hungarian_core.testing.test_set_loss import (
    IMAGES,
    LAYERS,
    OBJECTS,
    QUERIES,
    UPSTREAM,
    detection_call,
    to_arrays,
)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("class_loss", ["softmax", "varifocal"])
def test_a_matching_that_is_given(driver: Driver, class_loss: Any, groups: int) -> None:
    """The criterion's own, and the same as the object of each query, give what none gives."""
    checks.skip_programs(driver)
    outputs, targets = detection_call(np.random.default_rng(groups), groups)
    outputs["logits"] = outputs["logits"][..., : 3 + (class_loss == "softmax")]
    criterion: Any = hc.DetrLoss(3, class_loss=class_loss, groups=groups, backend=driver.backend)
    arrays = [driver.from_numpy(outputs[name]) for name in ("logits", "boxes")]
    given = to_arrays(driver, targets)
    match = criterion.match(*arrays, given)
    of_queries = driver.to_numpy(match.row4col).reshape(LAYERS, IMAGES, -1)
    plain = criterion(*arrays, given)
    for assignment in (match, driver.from_numpy(of_queries)):
        found = criterion(*arrays, given, assignment=assignment)
        for name in ("total", "class_", "bbox", "giou", "cardinality_error", "class_error"):
            np.testing.assert_allclose(
                driver.to_numpy(getattr(found, name)), driver.to_numpy(getattr(plain, name)),
                rtol=1e-5, err_msg=name,
            )  # fmt: skip
        assert found.assignment is assignment
    if driver.differentiable:
        upstream = driver.from_numpy(np.asarray(UPSTREAM), "float32")
        both = [
            driver.value_and_grad(
                lambda *xs, m=m: criterion(*xs, given, assignment=m).total, arrays, upstream
            )[1]
            for m in (None, match)
        ]
        for one, other in zip(*both, strict=True):
            np.testing.assert_allclose(
                driver.to_numpy(one), driver.to_numpy(other), rtol=1e-5, atol=1e-7
            )


def test_the_matching_of_least_loss(driver: Driver) -> None:
    """Of all matchings that may be given, none has less loss than the one by the loss."""
    checks.skip_programs(driver)
    rng = np.random.default_rng(2)
    outputs, targets = detection_call(rng)
    fields = {k: driver.from_numpy(getattr(targets, k)) for k in ("labels", "boxes", "weights")}
    masks = rng.integers(0, 2, (IMAGES, OBJECTS, 3, 4)).astype(np.float32)
    fields |= {"masks": driver.from_numpy(masks), "spots": driver.from_numpy(masks[:, :, 0, :2])}
    outputs["masks"] = rng.normal(size=(LAYERS, IMAGES, QUERIES, 3, 4)).astype(np.float32)
    outputs["where"] = rng.normal(size=(LAYERS, IMAGES, QUERIES, 2)).astype(np.float32)
    arrays = {name: driver.from_numpy(x) for name, x in outputs.items()}
    terms = [
        Classes(3, class_weights=[1, 2, 0.5]), Boxes(), hc.terms.Masks(mask_weight=3.0),
        Pairs("spot", "l1", on=("spots", "where")),
    ]  # fmt: skip
    options: Any = {"normalize": None, "reduction": "none", "backend": driver.backend}
    criterion = hc.SetLoss(terms, match_by="loss", **options)
    least = driver.to_numpy(criterion(arrays, fields).total)
    assert driver.to_numpy(criterion.match(arrays, fields).col4row).min() >= 0
    each = []
    for queries in itertools.permutations(range(QUERIES), OBJECTS):
        at = np.full(QUERIES, -1)
        at[list(queries)] = range(OBJECTS)
        given = driver.from_numpy(np.broadcast_to(at, (LAYERS, IMAGES, QUERIES)).copy())
        losses = criterion(arrays, fields, assignment=given).losses
        each.append(np.sum([driver.to_numpy(x) for x in losses.values()], axis=0))
    np.testing.assert_allclose(np.min(each, axis=0).sum(0), least, rtol=1e-5)


def test_several_queries_of_one_object(driver: Driver) -> None:
    """As if each object were there as often as it has queries."""
    rng = np.random.default_rng(7)
    outputs, targets = detection_call(rng)
    given = np.array([[[0, 2, -1, 0, 1], [0, 0, 0, -1, -1]], [[1, 1, 1, 1, 1], [-1, 0, -1, 0, 0]]])
    criterion = hc.SetLoss([Classes(3), Boxes()], backend=driver.backend)
    fields = to_arrays(driver, targets)

    def call(logits: Any, boxes: Any, at: Any) -> Any:
        return criterion({"logits": logits, "boxes": boxes}, fields, assignment=at)

    inputs = [driver.from_numpy(outputs[name]) for name in ("logits", "boxes")]
    names = ("class", "bbox", "giou")
    found = driver.trace(
        lambda *xs: tuple(call(*xs).losses[name] for name in names)
    )(*inputs, driver.from_numpy(given))  # fmt: skip
    # Each layer for itself, with the object of each query as an object of its own.
    labels, boxes, _, weights, ignore, _ = map(np.asarray, targets)
    for layer, images in enumerate(given):
        there, at = images >= 0, np.maximum(images, 0)
        many = [np.take_along_axis(x, at, axis=1) for x in (labels, weights, ignore)]
        truth = np.take_along_axis(boxes, at[..., None], axis=1)
        alone = hc.SetLoss([Classes(3), Boxes()], backend="numpy")(
            {name: x[layer] for name, x in outputs.items()},
            hc.Targets(many[0], truth, there, *many[1:]),
            assignment=np.where(there, np.arange(QUERIES), -1),
        )
        for name, x in zip(names, found, strict=True):
            np.testing.assert_allclose(driver.to_numpy(x)[layer], alone.losses[name], rtol=1e-5)
        # One of these by hand: the L1 distances of pairs, by weight, over the pairs that count.
        apart = np.abs(outputs["boxes"][layer] - truth).sum(-1)
        counts = there & ~many[2]
        expected = 5 * (apart * many[1] * counts).sum() / counts.sum()
        assert driver.to_numpy(found[1])[layer] == pytest.approx(expected, rel=1e-5)


def test_masks_of_queries(driver: Driver) -> None:
    """Of an object's several queries each is compared, and no other, by the formulas in NumPy."""
    checks.skip_lengthy(driver)
    rng = np.random.default_rng(9)
    masks = rng.normal(size=(LAYERS, IMAGES, QUERIES, 3, 4)).astype(np.float32)
    truth = rng.integers(0, 2, (IMAGES, OBJECTS, 3, 4)).astype(np.float32)
    ignore = np.array([[False, True, False], [False, False, False]])
    given = np.array([[[0, 2, -1, 0, 1], [0, 0, 0, -1, -1]], [[1, 1, -1, 1, 1], [-1] * 5]])
    criterion = hc.SetLoss([Masks("bce")], normalize=None, backend=driver.backend)
    targets = {"masks": driver.from_numpy(truth), "ignore": driver.from_numpy(ignore)}

    def call(masks: Any, at: Any) -> Any:
        return criterion({"masks": masks}, targets, assignment=at)

    arrays = driver.from_numpy(masks), driver.from_numpy(given)
    found = driver.trace(
        lambda *xs: tuple(call(*xs).losses[name] for name in ("mask", "dice"))
    )(*arrays)  # fmt: skip
    expected = np.zeros((2, LAYERS))
    for layer, image, query in np.argwhere(given >= 0):
        at = given[layer, image, query]
        if not ignore[image, at]:
            x = masks[layer, image, query].astype(float)
            expected[:, layer] += pair_of_masks("bce", truth[image, at], x)
    np.testing.assert_allclose([driver.to_numpy(x) for x in found], expected, rtol=1e-5)
    if driver.differentiable:
        upstream = driver.from_numpy(np.asarray(UPSTREAM), "float32")
        _, (slope,) = driver.value_and_grad(
            lambda x: call(x, arrays[1]).total, arrays[:1], upstream
        )
        counts = (given >= 0) & ~np.take_along_axis(ignore[None], np.maximum(given, 0), axis=2)
        moved = (driver.to_numpy(slope) != 0).any((-2, -1))
        np.testing.assert_array_equal(moved, counts)


def test_masks_of_the_matching(driver: Driver) -> None:
    """A matching that is given back is worth what it was, of masks of the last layer too."""
    checks.skip_long(driver)
    checks.skip_programs(driver)
    rng = np.random.default_rng(10)
    outputs, targets = detection_call(rng)
    fields = {"boxes": driver.from_numpy(np.asarray(targets.boxes, np.float32))}
    fields["masks"] = driver.from_numpy(
        rng.integers(0, 2, (IMAGES, OBJECTS, 6, 8)).astype(np.float32)
    )
    arrays = {"boxes": driver.from_numpy(outputs["boxes"])}
    masks = rng.normal(size=(IMAGES, QUERIES, 3, 4)).astype(np.float32)
    arrays["masks"] = driver.from_numpy(masks)
    term = Masks("focal", mask_cost=1.0, resize="bilinear")
    criterion = hc.SetLoss([Boxes(), term], backend=driver.backend)
    plain = criterion(arrays, fields)
    again = criterion(arrays, fields, assignment=plain.assignment)
    for name, x in plain.losses.items():
        np.testing.assert_allclose(
            driver.to_numpy(again.losses[name]), driver.to_numpy(x), rtol=1e-6
        )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            np.zeros((2, 4), int),
            r"dtype int64 and shape \(2, 4\); expected integers",
        ),
        (np.zeros((2, 5)), "assignment has dtype float64"),
        (np.full((2, 5), 3), "names objects that there are not, such as 3; expected 0 to 2"),
        (np.full((2, 5), 1), "names objects that there are not, such as 1"),  # padding
    ],
)
def test_wrong_matchings(given: np.ndarray, message: str) -> None:
    outputs, targets = detection_call(np.random.default_rng(0))
    with pytest.raises(ValueError, match=message):
        hc.SetLoss([Classes(3), Boxes()])(outputs, targets, assignment=given)


@pytest.mark.parametrize("denominator", ["worker", "global"])
def test_a_number_of_objects_that_is_given(driver: Driver, denominator: Any) -> None:
    """It takes the place of the count, as it is; what a cross entropy is divided by stays."""
    checks.skip_programs(driver)
    outputs, targets = detection_call(np.random.default_rng(4))
    criterion: Any = hc.SetLoss(
        [Classes(3), Boxes()], denominator=denominator, log=False, backend=driver.backend
    )
    arrays = {name: driver.from_numpy(outputs[name]) for name in ("logits", "boxes")}
    given = to_arrays(driver, targets)
    plain = criterion(arrays, given)
    assert targets.mask is not None
    assert targets.ignore is not None
    counted = float(np.sum(targets.mask) - np.sum(targets.ignore))
    array = driver.from_numpy(np.asarray(7.0, np.float32))
    for number, value in ((0.5, 0.5), (np.float64(2.0), 2.0), (array, 7.0)):
        found = criterion(arrays, given, num_objects=number)
        for name, share in (("class", 1.0), ("bbox", counted / value), ("giou", counted / value)):
            np.testing.assert_allclose(
                driver.to_numpy(found.losses[name]),
                share * driver.to_numpy(plain.losses[name]), rtol=1e-5, err_msg=name,
            )  # fmt: skip

    def program(number: Any) -> Any:
        return criterion(arrays, given, num_objects=number).total

    number = driver.from_numpy(np.asarray(3.0, np.float32))
    np.testing.assert_allclose(
        driver.to_numpy(driver.trace(program)(number)), driver.to_numpy(program(number)), rtol=1e-5
    )
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(
            ValueError, match=r"num_objects is .*; expected a finite number above 0"
        ):
            criterion(arrays, given, num_objects=wrong)
    with pytest.raises(ValueError, match="num_objects has shape"):
        criterion(arrays, given, num_objects=driver.from_numpy(np.ones(2, np.float32)))
    other = hc.SetLoss([Classes(3)], normalize="images", backend=driver.backend)
    with pytest.raises(ValueError, match="num_objects came with normalize='images'"):
        other(arrays, given, num_objects=3)
