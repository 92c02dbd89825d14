"""Losses on a device: the numbers of a CPU, without a wait, and in graphs of CUDA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core._solvers import dispatch

place = run_path(str(Path(__file__).with_name("place.py")))
torch, DEVICE, on_a_device = (place[name] for name in ("torch", "DEVICE", "on_a_device"))
ht: Any = pytest.importorskip("hungarian_torch", reason="for PyTorch")

IMAGES, QUERIES, CLASSES, OBJECTS, LAYERS = 3, 12, 5, 4, 2


def _numbers(*shape: int, seed: int = 0, low: float = 0.1, high: float = 0.6) -> Any:
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.uniform(low, high, shape).astype(np.float32))


def _targets(**fields: Any) -> hc.Targets:
    labels = torch.arange(IMAGES * OBJECTS).reshape(IMAGES, OBJECTS) % CLASSES
    mask = torch.arange(OBJECTS) < torch.tensor([[4], [0], [2]])
    return hc.Targets(labels, _numbers(IMAGES, OBJECTS, 4, seed=1), mask, **fields)


def _detection(criterion: Any, extra: int = 0) -> tuple[Any, ...]:
    logits = _numbers(LAYERS, IMAGES, QUERIES, CLASSES + extra, low=-3, high=3)
    boxes = _numbers(LAYERS, IMAGES, QUERIES, 4, seed=2)
    return lambda x, y, t: criterion(x, y, t).total, (logits, boxes), _targets()


def _masks() -> tuple[Any, ...]:
    criterion = ht.DetrLoss(CLASSES, masks=hc.MaskLoss(num_points=None), solver="cuda")
    logits = _numbers(IMAGES, QUERIES, CLASSES + 1, low=-3, high=3)
    boxes = _numbers(IMAGES, QUERIES, 4, seed=2)
    masks = _numbers(IMAGES, QUERIES, 8, 8, seed=3, low=-3, high=3)
    truth = (_numbers(IMAGES, OBJECTS, 8, 8, seed=4) > 0.3).float()
    return (
        lambda x, y, z, t: criterion(x, y, t, masks=z).total,
        (logits, boxes, masks),
        _targets(masks=truth),
    )


def _vectors(loss: Callable[..., Any]) -> tuple[Any, ...]:
    return loss, (_numbers(IMAGES, 6, 5),), _numbers(IMAGES, 4, 5, seed=5)


# A loss of what is learned and of the truth; what is learned; the truth. All on a CPU.
LOSSES: dict[str, Callable[[], tuple[Any, ...]]] = {
    "detr": lambda: _detection(ht.DetrLoss(CLASSES, solver="cuda"), 1),
    "dino": lambda: _detection(ht.DetrLoss.preset("dino", CLASSES, solver="cuda")),
    "rt_detr": lambda: _detection(ht.DetrLoss.preset("rt_detr", CLASSES, solver="cuda")),
    "aligned": lambda: _detection(ht.AlignedDetrLoss(CLASSES, solver="cuda"), 1),
    "masks": _masks,
    "loss": lambda: _vectors(lambda x, t: ht.loss(t, x, solver="cuda")),
    "HungarianLoss": lambda: _vectors(lambda x, t: ht.HungarianLoss([2, 3], solver="cuda")(t, x)),
    "pit_loss": lambda: (
        lambda x, t: ht.pit_loss(x, t, solver="cuda"),
        (_numbers(IMAGES, 4, 50),),
        _numbers(IMAGES, 4, 50, seed=6),
    ),
}


def _moved(x: Any, device: str) -> Any:
    if isinstance(x, hc.Targets):
        return hc.Targets(*(y if y is None else y.to(device) for y in x))
    return x.to(device)


def _leaves(given: tuple[Any, ...], device: str) -> list[Any]:
    return [x.to(device).detach().requires_grad_() for x in given]


@pytest.mark.parametrize("name", LOSSES)
def test_the_numbers_of_a_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loss, given, truth = LOSSES[name]()
    leaves = _leaves(given, DEVICE)
    value = loss(*leaves, _moved(truth, DEVICE))
    slopes = torch.autograd.grad(value, leaves)
    # Where the kernels have no part: by the native solver, through NumPy.
    native, backend = hc.host_solver("native"), type(hc.get_backend("torch"))
    monkeypatch.setattr(backend, "solve", lambda *_, **__: None)
    monkeypatch.setattr(backend, "passes", lambda *_: None)
    monkeypatch.setattr(dispatch, "host_solver", lambda _: native)
    alone = _leaves(given, "cpu")
    value_there = loss(*alone, truth)
    expected = (value_there, *torch.autograd.grad(value_there, alone))
    for found, wanted in zip((value, *slopes), expected, strict=True):
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-5, atol=1e-6)


ODD = (np.nan, np.inf, -np.inf, 80.0, -80.0, 0.25, 0.25, -0.3)


def _odd(random: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    x = random.normal(size=shape).astype(dtype)
    at = random.random(shape) < 0.02
    x[at] = random.choice(ODD, at.sum())
    return x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("softmax", [True, False])
def test_passes_as_the_native_ones(softmax: bool, dtype: Any) -> None:
    """On what else than an ordinary number the kernels are given."""
    random, native = np.random.default_rng(0), hc.host_solver("native")
    logits, mask = _odd(random, (5, 70, 91), dtype), random.random((5, 11)) < 0.8
    boxes, truth = _odd(random, (5, 70, 4), dtype), _odd(random, (5, 11, 4), dtype)
    labels, says = random.integers(-1, 91, (5, 11)), random.integers(0, 91, (5, 70))
    form = "softmax" if softmax else "focal"
    options = {
        "softmax": softmax, "class_cost_form": form, "class_cost": 2.0, "alpha": 0.25,
        "bbox_cost": 5.0, "giou_cost": 2.0, "only_finite": True,
    }  # fmt: skip
    normaliser = native.matching_costs(logits, labels, mask, **options)[2]  # type: ignore[union-attr]  # there is one
    calls = (
        ("matching_costs", (logits, labels, mask, boxes, truth), options),
        ("class_losses", (logits, says, normaliser), {"loss": int(not softmax), "alpha": 0.25}),
        ("box_losses", (boxes, boxes[:, ::-1].copy()), {"safe": True}),
    )
    for name, arrays, given in calls:
        with np.errstate(all="ignore"):
            expected = [torch.from_numpy(x) for x in getattr(native, name)(*arrays, **given)]
        tensors = [torch.from_numpy(x).to(DEVICE) for x in arrays]
        passes = hc.get_backend("torch").passes("cuda", tensors)
        assert passes is not None
        found = passes(name, *tensors, like=[(x.shape, x.dtype) for x in expected], **given)
        single = dtype == np.float32
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(
                ours.cpu(), theirs, rtol=1e-5 if single else 1e-12,
                atol=1e-4 if single else 1e-11, equal_nan=True,
            )  # fmt: skip


@on_a_device
@pytest.mark.parametrize("name", LOSSES)
def test_nothing_waits(name: str) -> None:
    loss, given, truth = LOSSES[name]()
    leaves, truth = _leaves(given, DEVICE), _moved(truth, DEVICE)
    torch.autograd.grad(loss(*leaves, truth), leaves)  # what is loaded once may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.autograd.grad(loss(*leaves, truth), leaves)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@on_a_device
@pytest.mark.parametrize("name", LOSSES)
def test_a_captured_graph_computes_what_it_is_given_anew(name: str) -> None:
    loss, given, truth = LOSSES[name]()
    leaves, truth = _leaves(given, DEVICE), _moved(truth, DEVICE)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            torch.autograd.grad(loss(*leaves, truth), leaves)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value = loss(*leaves, truth)
        slopes = torch.autograd.grad(value, leaves)
    with torch.no_grad():
        for leaf in leaves:
            leaf.copy_(leaf.flip(1))  # queries in another order: other matchings
    graph.replay()
    expected = loss(*leaves, truth)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(list(slopes), list(torch.autograd.grad(expected, leaves)))


@on_a_device
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled(mode: str) -> None:
    loss, given, truth = LOSSES["detr"]()
    leaves, truth = _leaves(given, DEVICE), _moved(truth, DEVICE)
    compiled = torch.compile(lambda x, y: loss(x, y, truth), fullgraph=True, mode=mode)
    expected = loss(*leaves, truth)
    for _ in range(3):
        value = compiled(*leaves)
        torch.testing.assert_close(value, expected)
        value.backward()
