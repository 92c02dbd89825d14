"""Losses of tensors on a device: what is read there, and what is sent, without one at hand.

The device is PyTorch's "meta", whose tensors have shapes and no values. To read one is an error, a
copy to or from the host is an operation that a dispatch mode sees, and gradients work. Solving
stands in as the operator of programs, which has shapes as its results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import hungarian_core as hc

torch: Any = pytest.importorskip("torch", reason="for PyTorch")
ht: Any = pytest.importorskip("hungarian_torch", reason="for PyTorch")
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402  # as above
from torch.utils._pytree import tree_leaves  # noqa: E402  # as above

from hungarian_torch import _inputs, _operator  # noqa: E402  # after the check for PyTorch

META = torch.device("meta")
IMAGES, QUERIES, CLASSES, LAYERS = 2, 6, 4, 3


class Watch(TorchDispatchMode):  # type: ignore[misc]  # PyTorch is Any here
    """Note operations that bring something to the device or from it; count the others."""

    def __init__(self) -> None:
        super().__init__()
        self.crossings: list[str] = []
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        if any(x.device != META for x in tensors):
            self.crossings.append(str(operation))
        self.seen[str(operation)] += 1
        return result


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take "meta" for a device with values, where a solver is at hand."""
    checked = _inputs._checked
    monkeypatch.setattr(
        _inputs, "_checked", lambda x, like: x if x.device == META else checked(x, like)
    )

    def solve(_: Any, problem: hc.Problem, *, solver: str) -> hc.Solution:
        return hc.Solution(*_operator.solve_opaquely(*problem, solver))

    monkeypatch.setattr(type(hc.get_backend("torch")), "solve", solve)


def tensor(*shape: int, learned: bool = False) -> Any:
    return torch.empty(shape, device=META, requires_grad=learned)


def padded() -> hc.Targets:
    labels = torch.zeros((IMAGES, 3), dtype=torch.int64, device=META)
    return hc.Targets(labels, tensor(IMAGES, 3, 4), torch.ones_like(labels, dtype=torch.bool))


def listed() -> list[dict[str, Any]]:
    return [
        {"labels": torch.zeros(k, dtype=torch.int64, device=META), "boxes": tensor(k, 4)}
        for k in (3, 0)
    ]


def detection(criterion: Any, form: Callable[[], Any], layers: tuple[int, ...] = ()) -> Any:
    nothing = isinstance(criterion, ht.AlignedDetrLoss) or criterion.class_loss == "softmax"
    classes = CLASSES + nothing  # or all are independent
    logits = tensor(*layers, IMAGES, QUERIES, classes, learned=True)
    boxes = tensor(*layers, IMAGES, QUERIES, 4, learned=True)
    return criterion(logits, boxes, form()).total


LOSSES: dict[str, Callable[[], Any]] = {
    **{
        f"detr, {kind}, {len(layers)} axis of layers, {form.__name__}": partial(
            detection, ht.DetrLoss(CLASSES, class_loss=kind), form, layers
        )
        for kind in ("softmax", "focal", "varifocal", "ia_bce")
        for layers in ((), (LAYERS,))
        for form in (padded, listed)
    },
    "aligned": lambda: detection(ht.AlignedDetrLoss(CLASSES), listed),
    "loss": lambda: ht.loss(tensor(IMAGES, 4, 3), tensor(IMAGES, 6, 3, learned=True)),
    "loss, masks": lambda: ht.loss(
        tensor(IMAGES, 4, 3), tensor(IMAGES, 4, 3, learned=True), mask=tensor(IMAGES, 4) > 0
    ),
    "pit_loss": lambda: ht.pit_loss(tensor(IMAGES, 3, 9, learned=True), tensor(IMAGES, 3, 9)),
    "HungarianLoss": lambda: ht.HungarianLoss([2, 3])(
        tensor(IMAGES, 4, 5), tensor(IMAGES, 4, 5, learned=True)
    ),
    "assignment_cost": lambda: ht.assignment_cost(tensor(IMAGES, 4, 6, learned=True)).sum(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_is_read_from_the_device_or_sent_to_it(name: str) -> None:
    """Forward and backward: neither waits for the device."""
    with Watch() as watch:
        LOSSES[name]().backward()
    assert not watch.crossings
    assert watch.seen["hungarian_core.solve.default"] == 1


def test_the_watch_sees_what_crosses() -> None:
    with Watch() as watch:
        torch.tensor([1.0]).to(META)
        with pytest.raises((RuntimeError, NotImplementedError)):
            tensor(1).item()
    assert watch.crossings


def test_accelerators_are_not_given_tiles_for_caches() -> None:
    """Each tile is launched for itself: on a device the whole is one, until memory is short."""
    criterion = ht.DetrLoss(CLASSES)
    counts = []
    for queries in (8, 8000):
        with Watch() as watch:
            criterion(tensor(2, queries, CLASSES + 1), tensor(2, queries, 4), padded())
        counts.append(sum(watch.seen.values()))
    assert counts[0] == counts[1]
