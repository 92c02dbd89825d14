"""How much a detection loss launches on a device: counted, since a launch is what it waits for.

Where values cannot be read and the kernels are asked for. What only looks at a tensor in another
way launches nothing; all else does once, or, if PyTorch makes a copy for it, twice.
"""

from __future__ import annotations

import os
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

import hungarian_core as hc

if "HUNGARIAN_LIBCUDA" not in os.environ:
    pytest.skip("nox -s cuda builds the driver that these tests want", allow_module_level=True)

torch: Any = pytest.importorskip("torch", reason="for PyTorch")
run_path(str(Path(__file__).with_name("drivers.py")))  # host memory stands for that of a device
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402  # likewise

import hungarian_torch as ht  # noqa: E402  # after the check for PyTorch
from hungarian_torch import _device  # noqa: E402  # likewise

# What launches nothing; a scalar that is written on the device is launched.
VIEWS = {
    "_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach", "empty", "empty_like",
    "empty_strided", "expand", "new_empty", "permute", "select", "slice", "split", "squeeze",
    "transpose", "unbind", "unsqueeze", "view",
}  # fmt: skip


class Launches(TorchDispatchMode):
    """Counts the operations of PyTorch in a block of code."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]  # of PyTorch
        self.count += operation.overloadpacket.__name__ not in VIEWS
        return operation(*args, **(kwargs or {}))


def counted(criterion: Any, classes: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[str]]:
    """Return how many operations a loss and its gradient take, and the kernels beside them."""
    backend, kernels = type(hc.get_backend("torch")), []
    monkeypatch.setattr(backend, "on_host", lambda *_: False)
    monkeypatch.setattr(backend, "readable", lambda *_: False)
    called, launched = _device._pass, _device.launch

    def called_pass(name: str, *arrays: Any, **options: Any) -> Any:
        kernels.append(name)
        with torch.utils._python_dispatch._disable_current_modes():
            return called(name, *arrays, **options)

    def solved(self: Any, problem: Any, *, solver: str) -> Any:
        kernels.append("solve")
        with torch.utils._python_dispatch._disable_current_modes():
            return launched(problem)

    monkeypatch.setattr(_device, "_pass", called_pass)
    monkeypatch.setattr(backend, "solve", solved)
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 12, classes, generator=random).requires_grad_()
    boxes = (torch.rand(2, 3, 12, 4, generator=random) * 0.4 + 0.1).requires_grad_()
    truth = torch.rand(3, 4, 4, generator=random) * 0.4 + 0.1
    labels, mask = torch.tensor([[1, 2, 3, 0]] * 3), torch.arange(4) < torch.tensor([[4], [1], [2]])
    with Launches() as launches:
        losses = criterion(logits, boxes, hc.Targets(labels, truth, mask))
        torch.autograd.grad(losses.total, [logits, boxes])
    return launches.count, kernels


# As docs/gpu.md tells them: without the kernels of passes, and with them.
OPERATIONS = {"detr": (441, 129), "dino": (561, 122), "rt_detr": (638, 193)}


@pytest.mark.parametrize("name", OPERATIONS)
def test_kernels_of_a_loss_take_the_place_of_most_operations(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    criterion = ht.DetrLoss.preset(name, 5, solver="cuda")
    count, kernels = counted(criterion, 6 if name == "detr" else 5, monkeypatch)
    assert kernels == ["matching_costs", "solve", "class_losses", "box_losses"]
    assert count <= OPERATIONS[name][1]


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_the_framework_takes_without_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same losses in PyTorch's operations alone; that these are many shows that some count."""
    monkeypatch.setattr(type(hc.get_backend("torch")), "passes", lambda *_: None)
    criterion = ht.DetrLoss.preset(name, 5, solver="cuda")
    count, kernels = counted(criterion, 6 if name == "detr" else 5, monkeypatch)
    assert kernels == ["solve"]
    assert 400 < count <= OPERATIONS[name][0]
