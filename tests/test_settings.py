"""What objects show of themselves: `repr` is the call that makes them, less the defaults."""

from __future__ import annotations

import copy
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
