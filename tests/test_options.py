"""Options of every kind: numbers of NumPy, names that are nearly right, and what is none."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core import _checks, _options

COST = np.array([[0.9, 0.2, 0.5], [0.1, 0.3, 0.8]])


@pytest.mark.parametrize(
    "make",
    [
        lambda: hc.HungarianLoss([2, 3], np.int64(1)),
        lambda: hc.HungarianLoss(np.array([2, 3]), np.array(1)),
        lambda: hc.HungarianLoss([2, 3], slice_weights=np.array([1.0, 2.0])),
        lambda: hc.HungarianLoss([2, 3], slice_weights=(np.float32(1), np.float64(2))),
        lambda: hc.masks.uncertain_points(
            np.zeros((2, 8, 8)), np.zeros((2, 9, 2)), np.int64(3), importance_ratio=np.float32(1)
        ),
        lambda: hc.assignment_matrix(COST, temperature=np.float32(0.1), tolerance=np.array(1e-4)),
        lambda: hc.costs.WeightedSum({"a": (np.float32(2), "l1")}),
        lambda: hc.costs.keypoint_distance(np.array([0.1, 0.2]), area=np.float32(1)),
        lambda: hc.hnet.init_params(width=np.int64(2), layers=np.int64(1)),
        lambda: hc.hnet.data.generate(np.int64(1), samples=np.int64(2)),
        lambda: hc.StabilityMeter(np.int64(3), max_history=np.int64(3)),
    ],
)  # fmt: skip
def test_numbers_of_numpy(make: Callable[[], Any]) -> None:
    make()


def test_a_weight_of_numpy_spreads_no_dtype() -> None:
    """A scalar of float64 would make float32 arrays float64."""
    a, b = np.zeros((1, 2, 3), np.float32), np.ones((1, 2, 3), np.float32)
    for weight in (2, 2.0, np.float64(2), np.float32(2), np.array(2.0)[()]):
        found = hc.costs.WeightedSum({"a": (weight, "l1")})(a, b)
        assert found.dtype == np.float32
        assert found.tolist() == [[[6.0, 6.0], [6.0, 6.0]]]


@pytest.mark.parametrize("value", [True, np.True_, np.array(True), 1.0, np.array([1]), "1", None])
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(ValueError, match=r"groups is .*; expected a positive integer"):
        _checks.whole("groups", value, 1, "a positive integer")


@pytest.mark.parametrize("value", [1, np.int8(1), np.array(1), np.uint64(1)])
def test_whole_numbers(value: Any) -> None:
    found = _checks.whole("groups", value, 1, "a positive integer")
    assert found == 1
    assert type(found) is int
    with pytest.raises(ValueError, match="groups is"):
        _checks.whole("groups", value, 2, "an integer from 2 on")


@pytest.mark.parametrize("value", [True, np.False_, np.array(True), "1", None, [1.0], np.nan, 1j])
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(ValueError, match=r"area is .*; expected a number"):
        _checks.number("area", value)


@pytest.mark.parametrize("value", [0.5, np.float16(0.5), np.array(0.5), np.array(0.5)[()]])
def test_real_numbers(value: Any) -> None:
    assert _checks.number("area", value) == 0.5


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("euclidian", ". Did you mean 'euclidean'?"),
        ("L1", ". Did you mean 'l1'?"),
        ("manhattan", ""),
        (3, ""),
        (None, ""),
    ],
)
def test_what_was_meant(value: Any, hint: str) -> None:
    with pytest.raises(ValueError, match="cost is") as caught:
        _checks.one_of("cost", value, ("euclidean", "l1"), "or a function")
    message = f"cost is {value!r}; expected one of 'euclidean', 'l1' or a function{hint}"
    assert str(caught.value) == message


def test_every_choice_says_what_was_meant() -> None:
    box = np.ones((1, 4))
    for call, meant in (
        (lambda: hc.assign(COST, nan="wrost"), "worst"),
        (lambda: hc.loss(box[None], box[None], cost="euclidaen"), "euclidean"),
        (lambda: hc.loss(box[None], box[None], reduction="smaple"), "sample"),
        (lambda: hc.pit_loss(box[None], box[None], metric="sisdr"), "si_sdr"),
        (lambda: hc.assignment_matrix(COST, "sinkhorn_implict"), "sinkhorn_implicit"),
        (lambda: hc.assignment_matrix(COST, "perturbed", noise="gausian"), "gaussian"),
        (lambda: hc.DetrLoss(3, class_loss="focall"), "focal"),
        (lambda: hc.DetrLoss.preset("deformabel", 3), "deformable"),
        (lambda: hc.AlignedDetrLoss(3, normalize="box"), "boxes"),
        (lambda: hc.boxes.iou(box, box, format="cxcyhw"), "cxcywh"),
        (lambda: hc.costs.WeightedSum({"a": (1.0, "sqeuclidaen")}), "sqeuclidean"),
        (lambda: hc.hnet.data.generate(1, missing="maskd"), "masked"),
    ):
        with pytest.raises(ValueError, match=rf"Did you mean '{meant}'\?"):
            call()


def test_an_option_is_called_as_its_user_calls_it() -> None:
    """What `DetrLoss` hands to a term has another name there."""
    classes: Any = hc.terms.Classes
    for call, message in (
        (lambda: classes(2, loss="focl"), "loss is 'focl'; expected one of"),
        (lambda: classes(2, cost="focal"), ".* 'nll' with loss='softmax'"),
        (lambda: classes(2, weight="1"), "weight is '1'"),
        (lambda: classes(2, cost_weight="1"), "cost_weight is '1'"),
        (lambda: hc.DetrLoss(2, class_loss="focl"), "class_loss is 'focl'"),
        (lambda: hc.DetrLoss(2, class_cost_form="focal"), ".* 'nll' with class_loss='softmax'"),
        (lambda: hc.DetrLoss(2, class_weight="1"), "class_weight is '1'"),
        (lambda: hc.DetrLoss(2, class_cost="1"), "class_cost is '1'"),
        (lambda: hc.AlignedDetrLoss(2, class_weight="1"), "class_weight is '1'"),
    ):
        with pytest.raises(ValueError, match=rf"^{message}"):
            call()


def test_options_of_a_preset_are_checked() -> None:
    with pytest.raises(TypeError, match=r"no option 'bbox_wieght'.*mean 'bbox_weight'\?"):
        hc.DetrLoss.preset("detr", 3, bbox_wieght=2)


@pytest.mark.parametrize(
    ("door", "options", "error", "message"),
    [
        ("MatchedLoss", {"cots": "l1"}, TypeError, r"no option 'cots'; .*Did you mean 'cost'\?"),
        ("MatchedLoss", {"mask": None}, TypeError, "no option 'mask'"),
        ("MatchedLoss", {"cost": "mse"}, ValueError, "cost is 'mse'; expected one of"),
        ("MatchedLoss", {"pair_loss": "l3"}, ValueError, "pair_loss is 'l3'; expected one of"),
        ("MatchedLoss", {"reduction": "avg"}, ValueError, "reduction is 'avg'; expected one of"),
        ("MatchedLoss", {"nan": "ignore"}, ValueError, "nan is 'ignore'; expected one of"),
        ("MatchedLoss", {"solver": "scpy"}, ImportError, r"Did you mean 'scipy'\?"),
        ("PITLoss", {"metrik": "snr"}, TypeError, r"no option 'metrik'; .*Did you mean 'metric'\?"),
        ("PITLoss", {"metric": "sdr"}, ValueError, "metric is 'sdr'; expected one of"),
    ],
)
def test_modules_check_their_options_at_once(
    door: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    module = pytest.importorskip("hungarian_torch", exc_type=ImportError)
    with pytest.raises(error, match=message):
        getattr(module, door)(**options)


def test_modules_take_what_the_functions_take() -> None:
    module = pytest.importorskip("hungarian_torch", exc_type=ImportError)
    torch = pytest.importorskip("torch")
    y = torch.rand(2, 3, 4)
    options = {"cost": hc.costs.l1, "pair_loss": None, "reduction": "sum", "solver": "scipy"}
    expected = module.loss(y, 2 * y, **options)
    assert torch.equal(module.MatchedLoss(**options)(y, 2 * y), expected)
    expected = module.pit_loss(y, 2 * y, metric="mse", zero_mean=True)
    assert torch.equal(module.PITLoss(metric="mse", zero_mean=True)(y, 2 * y), expected)


# Terms of a weighted sum


@pytest.mark.parametrize(
    ("terms", "error", "message"),
    [
        ({"a": (1.0, hc.costs.l1)}, TypeError, r"is l1\(xp: .*called with \(truth, prediction\)"),
        (
            {"a": (np.nan, "l1")},
            ValueError,
            r"weight of terms\['a'\] is nan; expected a number",
        ),
        ({"a": (1.0, "l1", 3)}, ValueError, r"the key of terms\['a'\] is 3; expected a key"),
        ([("a", 1.0, "l1")], ValueError, "expected a mapping"),
    ],
)
def test_terms_that_are_none(terms: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        hc.costs.WeightedSum(terms)


def test_terms_say_what_they_lack() -> None:
    cost = hc.costs.WeightedSum({"a": (1.0, "l1", "boxes")})
    boxes = {"boxes": np.ones((2, 4))}
    with pytest.raises(ValueError, match=r"prediction has the keys \['bbox'\]"):
        cost(boxes, {"bbox": np.ones((2, 4))})
    with pytest.raises(ValueError, match=r"truth has the keys \['boxs'\]\. Did you mean"):
        cost({"boxs": np.ones((2, 4))}, boxes)
    with pytest.raises(TypeError, match="truth is a ndarray; expected a mapping with"):
        cost(np.ones((2, 4)), boxes)
    with pytest.raises(ValueError, match=r"truth of shape \(2, 3\) and prediction \(2, 4\)"):
        cost({"boxes": np.ones((2, 3))}, boxes)
    assert cost({"boxes": [[1.0, 1, 1, 2]]}, boxes).tolist() == [[1.0, 1.0]]


# What is pickled, and copied


def _doors() -> list[Any]:
    import hungarian_numpy as hn

    match = hn.assign(COST)
    return [
        hn.assign, hn.loss, hn.pit_loss, hn.assignment_matrix, hc.assign, hn.backend, match,
        hc.costs.keypoint_distance(), hc.costs.keypoint_distance([0.1], visibility=False, area=2.0),
        hc.HungarianLoss([2, 1]), hc.DetrLoss.preset("mask2former", 3), hn.DetrLoss(3),
        hc.AlignedDetrLoss(3), hc.MaskLoss(), hc.costs.WeightedSum({"a": (1.0, "l1")}),
        hc.StabilityMeter(), hc.explain(match, COST),
    ]  # fmt: skip


@pytest.mark.parametrize("again", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
def test_what_is_pickled_and_copied(again: Callable[[Any], Any]) -> None:
    for thing in _doors():
        assert type(again(thing)) is type(thing)
    door = _doors()[0]
    assert again(door) is door
    assert again(door)(COST).col4row.tolist() == [1, 0]
    assert again(hc.get_backend("numpy")) is hc.get_backend("numpy")
    cost = hc.costs.keypoint_distance([0.1, 0.2])
    assert again(cost) == cost
    assert hash(again(cost)) == hash(cost)


@pytest.mark.parametrize("name", ["torch", "jax", "tensorflow"])
def test_doors_and_backends_of_frameworks_are_pickled(name: str) -> None:
    module = pytest.importorskip(f"hungarian_{name}", exc_type=ImportError)
    for door in (module.assign, module.loss, module.pad_targets):
        assert pickle.loads(pickle.dumps(door)) is door
        assert copy.deepcopy(door) is door
        assert door.__module__ == f"hungarian_{name}"
    assert pickle.loads(pickle.dumps(module.backend)) is module.backend
    criterion = pickle.loads(pickle.dumps(module.DetrLoss(3)))
    assert criterion.backend is module.backend


def test_a_backend_that_is_not_registered_is_pickled_by_value() -> None:
    module = pytest.importorskip("hungarian_jax", exc_type=ImportError)
    found = pickle.loads(pickle.dumps(module.JaxBackend(axis_name="batch")))
    assert found is not module.backend
    assert found.axis_name == "batch"


def test_solvers_by_name() -> None:
    for name in _options.OURS:
        _checks.solver(name)
    with pytest.raises(ImportError, match=r"solver is 'nobody_has_this'; expected one of 'auto'"):
        hc.assign(COST, solver="nobody_has_this")
    with pytest.raises(ValueError, match="solver is None; expected the name"):
        hc.assign(COST, solver=None)  # type: ignore[arg-type]  # the mistake under test
