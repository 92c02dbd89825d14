"""What objects show of themselves: `repr` is the call that makes them, less the defaults."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
import hungarian_numpy

LOSSES: list[tuple[Any, str]] = [
    (hc.DetrLoss(91), "DetrLoss(num_classes=91)"),
    (hc.DetrLoss(91, class_weight=1, solver="auto"), "DetrLoss(num_classes=91)"),
    (
        hc.DetrLoss(np.int64(3), repeat=6, backend="numpy"),
        "DetrLoss(num_classes=3, repeat=6, backend='numpy')",
    ),
    (
        hc.DetrLoss.preset("rt_detr", 80),
        "DetrLoss(num_classes=80, class_loss='varifocal', class_cost=2.0, alpha=0.75)",
    ),
    (
        hc.AlignedDetrLoss(3, normalize="boxes", class_weights=np.ones(3)),
        "AlignedDetrLoss(num_classes=3, class_weights=<float64 array (3,)>, normalize='boxes')",
    ),
    (
        hc.HungarianLoss([2, 1], slice_losses_fn=[np.square, hc.costs.l1], nan="worst"),
        "HungarianLoss(slices=[2, 1], slice_losses_fn=[<ufunc 'square'>, l1], nan='worst')",
    ),
    (hungarian_numpy.DetrLoss(num_classes=91), "DetrLoss(num_classes=91)"),
]


@pytest.mark.parametrize(("loss", "expected"), LOSSES, ids=[text for _, text in LOSSES])
def test_a_loss_shows_the_call_that_makes_it(loss: Any, expected: str) -> None:
    assert repr(loss) == expected
    assert repr(copy.deepcopy(loss)) == repr(pickle.loads(pickle.dumps(loss))) == expected


@pytest.mark.parametrize(
    ("thing", "expected"),
    [
        (hc.costs.keypoint_distance(), "keypoint_distance()"),
        (
            hc.costs.keypoint_distance([0.1, 0.2], visibility=False, area=np.float32(3)),
            "keypoint_distance(sigmas=(0.1, 0.2), visibility=False, area=3.0)",
        ),
        (
            hc.costs.WeightedSum({"b": (2, hc.costs.focal, ("labels", "logits")), "a": (1, "l1")}),
            "WeightedSum(terms={'b': (2, focal, ('labels', 'logits')), 'a': (1, 'l1')})",
        ),
        (
            hc.costs.WeightedSum({f"t{k}": (1.0, "l1") for k in range(9)}),
            "WeightedSum(terms={...9 entries})",
        ),
        (hc.StabilityMeter(3, max_history=10_000), "StabilityMeter(num_cols=3)"),
        (hc.get_backend("numpy"), "<NumPyBackend 'numpy'>"),
    ],
    ids=str,
)
def test_what_else_shows_its_settings(thing: Any, expected: str) -> None:
    assert repr(thing) == expected


def test_a_backend_shows_its_axis() -> None:
    jax = pytest.importorskip("hungarian_jax", exc_type=ImportError)
    assert repr(jax.JaxBackend("batch")) == "JaxBackend(axis_name='batch')"
    assert repr(jax.backend) == "<JaxBackend 'jax'>"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "assigners",
            "costs",
            "masks",
            "boxes",
            "boxes.distributions",
            "boxes.rotated",
            "boxes.solid",
            "polylines",
        ),
        *(
            "denoising",
            "losses.criteria",
            "gradients",
            "relaxations",
            "hnet",
            "inspection",
            "testing",
        ),
    ],
)
def test_a_module_lists_what_there_is(name: str) -> None:
    module = importlib.import_module(f"hungarian_core.{name}")
    assert dir(module) == sorted(module.__all__)
    for entry in dir(module):
        getattr(module, entry)


def test_the_library_lists_what_there_is() -> None:
    """Also what is loaded when it is asked for, and none of what the module itself imports."""
    assert dir(hc) == sorted([*hc.__all__, "__version__"])
    assert "explain" in dir(hc)
    for entry in dir(hc):
        getattr(hc, entry)


@pytest.mark.parametrize("name", ["numpy", "torch", "jax", "tensorflow"])
def test_a_front_door_lists_what_there_is(name: str) -> None:
    module = pytest.importorskip(f"hungarian_{name}", exc_type=ImportError)
    assert dir(module) == sorted(module.__all__)


def test_a_misspelt_option_is_told() -> None:
    for make, meant in (
        (lambda: hc.DetrLoss(3, class_wieght=2.0), "class_weight"),  # type: ignore[call-arg]  # the mistake under test
        (lambda: hc.HungarianLoss([3], slice_weigths=[1]), "slice_weights"),  # type: ignore[call-arg]  # the mistake under test
        (lambda: hc.StabilityMeter(num_columns=3), "num_cols"),  # type: ignore[call-arg]  # the mistake under test
    ):
        with pytest.raises(TypeError, match=rf"no option .*Did you mean '{meant}'\?"):
            make()


def test_a_number_set_later_is_shown() -> None:
    loss = hc.DetrLoss(3)
    loss.class_weight = 2.0
    assert repr(loss) == "DetrLoss(num_classes=3, class_weight=2.0)"


def test_a_subclass_shows_its_own_arguments() -> None:
    class Mine(hc.DetrLoss):
        def __init__(self, scale: float, *, many: int = 6, **options: Any) -> None:
            super().__init__(3, **options)

    assert repr(Mine(2.5, repeat=2)) == "Mine(scale=2.5, repeat=2)"


@pytest.mark.parametrize("name", ["DetrLoss", "AlignedDetrLoss", "HungarianLoss"])
def test_a_front_door_has_the_signature_and_its_backend(name: str) -> None:
    door, loss = getattr(hungarian_numpy, name), getattr(hc, name)
    assert inspect.signature(door) == inspect.signature(loss)
    assert door([1] if name == "HungarianLoss" else 1).backend is hungarian_numpy.backend
    assert loss([1] if name == "HungarianLoss" else 1).backend is None


# Modules of PyTorch


@pytest.fixture
def ht() -> Any:
    return pytest.importorskip("hungarian_torch", exc_type=ImportError)


@pytest.mark.parametrize("name", ["DetrLoss", "AlignedDetrLoss", "HungarianLoss"])
def test_a_module_has_the_signatures_of_the_loss(ht: Any, name: str) -> None:
    module, loss = getattr(ht, name), getattr(hc, name)
    assert inspect.signature(module) == inspect.signature(loss)
    assert inspect.signature(module.forward) == inspect.signature(loss.__call__)


@pytest.mark.parametrize(
    ("name", "function", "of_a_call"),
    [
        ("MatchedLoss", hc.loss, ["y_true", "y_pred", "mask", "pred_mask"]),
        ("PITLoss", hc.pit_loss, ["estimates", "references", "mask", "estimate_mask"]),
    ],
)
def test_a_module_has_the_options_of_the_function(
    ht: Any, name: str, function: Any, of_a_call: list[str]
) -> None:
    module = getattr(ht, name)
    options = inspect.signature(module).parameters
    assert list(inspect.signature(module().forward).parameters) == of_a_call
    expected = inspect.signature(function).parameters.items()
    assert dict(options) == {name: p for name, p in expected if name not in of_a_call}


def test_a_module_shows_its_settings_and_its_children(ht: Any) -> None:
    torch = pytest.importorskip("torch")
    assert repr(ht.DetrLoss.preset("lw_detr", 3, groups=2)) == (
        "DetrLoss(num_classes=3, class_loss='ia_bce', class_cost=2.0, groups=2)"
    )
    assert repr(ht.MatchedLoss(cost=hc.costs.l1)) == "MatchedLoss(cost=l1)"
    inner = torch.nn.BCEWithLogitsLoss(pos_weight=torch.ones(1), reduction="none")
    loss = ht.HungarianLoss([2, 1], slice_losses_fn=[torch.nn.L1Loss(reduction="none"), inner])
    expected = """HungarianLoss(
  slices=[2, 1], slice_losses_fn=[L1Loss(), BCEWithLogitsLoss()]
  (slice_losses): ModuleList(
    (0): L1Loss()
    (1): BCEWithLogitsLoss()
  )
)"""
    for again in (loss, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert repr(again) == expected
        assert list(again.state_dict()) == ["slice_losses.1.pos_weight"]
        # What is trained or moved is what is computed with.
        assert again.slice_losses[1] is again.slice_losses_fn[1]
        assert again.backend is ht.backend


def test_a_module_is_called_as_modules_are(ht: Any) -> None:
    torch = pytest.importorskip("torch")
    seen: list[Any] = []
    loss = ht.DetrLoss(3)
    loss.register_forward_hook(lambda module, args, out: seen.append(out.total))
    logits, boxes = torch.zeros(1, 2, 4), torch.full((1, 2, 4), 0.4)
    targets = [{"labels": torch.tensor([1]), "boxes": torch.full((1, 4), 0.5)}]
    total = loss(logits, boxes, targets).total
    assert seen == [total]
    # Eager PyTorch takes lists of numbers, as the loss of the core with this backend.
    same = hc.DetrLoss(3, backend="torch")(logits.tolist(), boxes.tolist(), targets).total
    assert torch.equal(total, same)


def test_a_learnt_weight_is_a_parameter_of_the_module(ht: Any) -> None:
    torch = pytest.importorskip("torch")
    loss = ht.DetrLoss(3, bbox_weight=torch.nn.Parameter(torch.tensor(2.0)))
    assert list(loss.state_dict()) == ["bbox_weight"]
    assert repr(loss) == "DetrLoss(num_classes=3, bbox_weight=<torch.float32 array ()>)"


def test_the_loss_of_a_model_shows_and_checks_what_is_changed(ht: Any) -> None:
    loss = ht.TransformersLoss("ForObjectDetection", form="safe", class_cost=2.0)
    assert repr(loss) == (
        "TransformersLoss(loss_type='ForObjectDetection', class_cost=2.0, form='safe')"
    )
    assert "giou_weight" in inspect.signature(ht.TransformersLoss).parameters
    with pytest.raises(TypeError, match=r"no option 'bbox_wieght'.*mean 'bbox_weight'\?"):
        ht.TransformersLoss("ForObjectDetection", bbox_wieght=1.0)


# All front doors

DOORS = ["core", "numpy", "torch", "jax", "tensorflow"]


@pytest.mark.parametrize("name", DOORS)
def test_no_signature_is_open(name: str) -> None:
    module = pytest.importorskip(f"hungarian_{name}", exc_type=ImportError)
    for entry in module.__all__:
        thing = getattr(module, entry)
        if inspect.ismodule(thing) or not callable(thing) or entry == "get_backend":
            continue
        for parameter in inspect.signature(thing).parameters.values():
            assert parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD), entry
        assert inspect.getdoc(thing), entry


@pytest.mark.parametrize("loss", ["DetrLoss", "AlignedDetrLoss"])
@pytest.mark.parametrize("name", DOORS)
def test_a_pickled_loss_gives_the_same(name: str, loss: str) -> None:
    module = pytest.importorskip(f"hungarian_{name}", exc_type=ImportError)
    rng = np.random.default_rng(0)
    backend = getattr(module, "backend", hc.get_backend("numpy"))
    arrays = [rng.normal(size=(1, 4, 4)), rng.uniform(0.2, 0.6, (1, 4, 4))]
    truth = [np.array([[1, 2]]), rng.uniform(0.2, 0.6, (1, 2, 4)), np.array([[True, True]])]
    logits, boxes, *targets = (backend.asarray(x) for x in (*arrays, *truth))
    criterion = getattr(module, loss)(3, groups=2)
    again = pickle.loads(pickle.dumps(criterion))
    assert repr(again) == repr(criterion) == f"{loss}(num_classes=3, groups=2)"
    totals = [float(x(logits, boxes, tuple(targets)).total) for x in (criterion, again)]
    assert totals[0] == totals[1] > 0
