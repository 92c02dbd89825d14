"""What `SetLoss` promises and an attack has found broken, one test for each kind."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import pickle
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.terms import CLASS_LOSSES, Boxes, Classes, ClassLoss, Masks, Pairs
from hungarian_core.testing import checks
from hungarian_core.testing.driver import Driver
from hungarian_core.testing.test_set_loss import Presence

TERMS: Any = hc.terms  # for the type checker: some tests pass options that do not exist
BOX = np.array([0.5, 0.5, 0.2, 0.2])


def test_one_number_divides_all_where_the_loss_is_matched_by(driver: Driver) -> None:
    """A cross entropy divided by label weights would move the matching off the least loss."""
    checks.skip_programs(driver)
    rng = np.random.default_rng(1)
    criterion = hc.SetLoss([Classes(2), Boxes()], match_by="loss", backend=driver.backend)
    for _ in range(20):
        outputs = {
            "logits": driver.from_numpy(rng.normal(size=(1, 4, 3)) * 3, "float32"),
            "boxes": driver.from_numpy(rng.uniform(0.3, 0.6, (1, 4, 4)), "float32"),
        }
        boxes = driver.from_numpy(rng.uniform(0.3, 0.6, (1, 2, 4)), "float32")
        targets = {"labels": driver.from_numpy(rng.integers(0, 2, (1, 2))), "boxes": boxes}
        found = criterion(outputs, targets)
        least = np.inf
        for i, j in itertools.permutations(range(4), 2):
            at = np.full((1, 4), -1)
            at[0, [i, j]] = 0, 1
            given = criterion(outputs, targets, assignment=driver.from_numpy(at))
            least = min(least, float(driver.to_numpy(given.total)))
        assert float(driver.to_numpy(found.total)) == pytest.approx(least, rel=1e-5)
        assigned = float(driver.to_numpy(found.assignment.cost)[0]) / 2
        assert float(driver.to_numpy(found.logs["assigned"])) == pytest.approx(assigned, rel=1e-4)


def test_logs_without_classes(driver: Driver) -> None:
    checks.skip_programs(driver)
    box = driver.from_numpy(BOX[None, None], "float32")
    criterion = hc.SetLoss([Boxes()], match_by="loss", backend=driver.backend)
    logs = criterion({"boxes": box}, {"boxes": box}).logs
    assert {name: float(driver.to_numpy(x)) for name, x in logs.items()} == pytest.approx(
        {"assigned": 0.0, "background": 0.0}, abs=1e-6
    )


@pytest.mark.parametrize("how", ["ignore", "weights"])
def test_objects_count_in_what_terms_of_ones_own_say_of_queries(driver: Driver, how: str) -> None:
    """The criterion weighs the losses of queries by their objects, as it does those of pairs."""
    checks.skip_programs(driver)
    x = np.array([[1.0, 2.0, 3.0, 4.0]])
    field = {"ignore": np.array([[False, True]]), "weights": np.array([[3.0, 1.0]])}[how]
    arrays = {
        "v": driver.from_numpy(np.zeros((1, 4, 1)), "float32"),
        "presence": driver.from_numpy(x, "float32"),
    }
    targets = {
        "v": driver.from_numpy(np.zeros((1, 2, 1)), "float32"),
        how: driver.from_numpy(field) if how == "ignore" else driver.from_numpy(field, "float32"),
    }
    criterion = hc.SetLoss([Pairs("v"), Presence()], normalize=None, backend=driver.backend)
    match = driver.from_numpy(np.array([[0, 1, -1, -1]]))
    found = criterion(arrays, targets, assignment=match).losses["presence"]
    each = np.log1p(np.exp(np.array([-1, -2, 3, 4.0])))
    factor = [1, 0, 1, 1] if how == "ignore" else [3, 1, 1, 1]
    assert float(driver.to_numpy(found)) == pytest.approx(3 * (each * factor).sum(), rel=1e-5)


@pytest.mark.parametrize("pixels", ["bce", "focal"])
def test_masks_of_255(driver: Driver, pixels: Any) -> None:
    """Masks as images have them are told, as boxes in pixels are."""
    checks.skip_programs(driver)
    if not driver.raises or not driver.static_shapes:
        pytest.skip("values are not read")
    masks = np.zeros((1, 1, 4, 4), np.uint8)
    masks[..., :2, :] = 255
    outputs = {"masks": driver.from_numpy(np.ones((1, 2, 4, 4)), "float32")}
    targets = {"masks": driver.from_numpy(masks)}
    with pytest.raises(ValueError, match=r"numbers from 0.* to 255.*; expected 0 and 1"):
        hc.SetLoss([Masks(pixels)], backend=driver.backend)(outputs, targets)
    taken = hc.SetLoss([Masks(pixels, check_targets=False)], backend=driver.backend)
    assert np.isfinite(driver.to_numpy(taken(outputs, targets).total))


def test_more_objects_than_queries_with_the_matching_given(driver: Driver) -> None:
    """The matching of `match` gives the loss of a call."""
    checks.skip_programs(driver)
    rng = np.random.default_rng(3)
    outputs, targets = (
        {"boxes": driver.from_numpy(rng.uniform(0.3, 0.6, (2, n, 4)), "float32")} for n in (4, 6)
    )
    criterion = hc.SetLoss([Boxes()], backend=driver.backend)
    match = criterion.match(outputs, targets)
    found = [
        float(driver.to_numpy(criterion(outputs, targets, assignment=x).total))
        for x in (None, match)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_a_record_made_of_one_of_ours_is_another_loss() -> None:
    mine = dataclasses.replace(CLASS_LOSSES["focal"], name="mine", others=lambda alpha: 10.0)
    rng = np.random.default_rng(0)
    outputs = {"logits": rng.normal(size=(1, 5, 3)), "boxes": rng.uniform(0.3, 0.6, (1, 5, 4))}
    targets = {"labels": np.array([[1, 2]]), "boxes": rng.uniform(0.3, 0.6, (1, 2, 4))}
    found = [
        float(hc.SetLoss([Classes(3, loss=mine), Boxes()], solver=x)(outputs, targets).total)
        for x in ("auto", "core")
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-9)


@pytest.mark.parametrize("name", ["softmax", "focal", "asl"])
def test_a_copy_gives_the_same(driver: Driver, name: Any) -> None:
    """Bit by bit, so by the same way: a criterion may be copied, or sent to another process."""
    checks.skip_programs(driver)
    rng = np.random.default_rng(4)
    classes = 3 + (name == "softmax")
    arrays = rng.normal(size=(2, 6, classes)), rng.uniform(0.3, 0.6, (2, 6, 4))
    logits, boxes = (driver.from_numpy(x, "float32") for x in arrays)
    outputs = {"logits": logits, "boxes": boxes}
    targets = {"labels": driver.from_numpy(np.array([[1, 2], [0, 0]])), "boxes": boxes[:, :2]}
    criterion = hc.SetLoss([Classes(3, loss=name), Boxes()], backend=driver.backend)
    expected = criterion(outputs, targets)
    terms = pickle.loads(pickle.dumps(criterion.terms))  # a backend of somebody's may not be
    for again in (copy.deepcopy(criterion), hc.SetLoss(terms, backend=driver.backend)):
        assert [x.native() for x in again.terms] == [x.native() for x in criterion.terms]
        found = again(outputs, targets)
        for key, value in expected.losses.items():
            assert driver.to_numpy(found.losses[key]) == driver.to_numpy(value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ClassLoss("mine"), "the class loss 'mine' has no label; expected a function"),
        (lambda: TERMS.ClassLoss("x", activation="tanh"), "activation is 'tanh'; expected one of"),
        (lambda: hc.SetLoss([Boxes()], tile_bytes=0), "tile_bytes is 0; expected a number of by"),
        (lambda: Masks(num_points=0), "num_points is 0; expected a positive integer"),
        (lambda: Masks(gamma=-1.0), "gamma is -1.0; expected a number, 0 or more"),
        (lambda: Masks(importance_ratio=2.0), "importance_ratio is 2.0; expected a number from 0"),
    ],
)
def test_options_that_cannot_be(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


BOXES = np.broadcast_to(BOX, (2, 2, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"bbox": np.ones(2)}}, "the weight 'bbox' is .*; expected a number, or an"),
        ({"weights": {"bbox": None}}, "the weight 'bbox' is None; expected a number"),
        ({"weights": {"bbox": "a"}}, "the weight 'bbox' is 'a'; expected a number"),
        ({"weights": {"bbox": 1j}}, "the weight 'bbox' is 1j; expected a number"),
    ],
)
def test_weights_of_a_call_are_numbers(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hc.SetLoss([Boxes()])({"boxes": BOXES}, {"boxes": BOXES}, **options)


def test_a_list_has_no_padding() -> None:
    targets = [{"boxes": x, "mask": np.array([True, False])} for x in BOXES]
    with pytest.raises(
        ValueError, match=r"targets\[0\] has a 'mask' of its objects; expected only"
    ):
        hc.SetLoss([Boxes()])({"boxes": BOXES}, targets)


def test_focal_masks_at_points_are_not_matched_by_their_loss() -> None:
    outputs = {"masks": np.zeros((1, 2, 1, 2)), "points": np.array([[[0.5, 0.5]]])}
    criterion = hc.SetLoss([Masks("focal")], match_by="loss")
    with pytest.raises(ValueError, match="points came with match_by='loss' and pixels='focal'"):
        criterion(outputs, [{"masks": np.array([[[0.0, 1.0]]])}])
