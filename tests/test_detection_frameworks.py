"""The losses of detected objects in what only one framework has: modules, autocast, optax."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc

CLASSES, QUERIES, FEATURES = 3, 6, 5
RNG = np.random.default_rng(0)
LABELS = RNG.integers(CLASSES, size=(4, 3))
BOXES = (0.2 + 0.4 * RNG.random((4, 3, 4))).astype(np.float32)
MASK = np.arange(3) < np.array([2, 0, 3, 1])[:, None]
QUERY = RNG.normal(size=(4, QUERIES, FEATURES)).astype(np.float32)
LOGITS = RNG.normal(size=(4, QUERIES, CLASSES + 1)).astype(np.float32)
PRED = (0.2 + 0.4 * RNG.random((4, QUERIES, 4))).astype(np.float32)


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="for PyTorch")


@pytest.mark.parametrize("loss", ["DetrLoss", "AlignedDetrLoss"])
@pytest.mark.parametrize("name", ["numpy", "torch", "jax", "tensorflow"])
def test_front_doors_take_arrays_of_any_kind(name: str, loss: str) -> None:
    pytest.importorskip(name, reason="one framework of several")
    door = importlib.import_module(f"hungarian_{name}")
    expected = getattr(hc, loss)(CLASSES)(LOGITS, PRED, (LABELS, BOXES, MASK))
    targets = [{"labels": LABELS[b, m], "boxes": BOXES[b, m]} for b, m in enumerate(MASK)]
    padded = door.pad_targets(targets)
    assert isinstance(padded, door.Targets)
    criterion = getattr(door, loss)(CLASSES)
    for found in (criterion(LOGITS, PRED, targets), criterion(LOGITS, PRED, padded)):
        assert hc.get_backend(None, found.total).name == name
        assert float(found.total) == pytest.approx(float(expected.total), rel=1e-5)
    costs = criterion.costs(LOGITS, PRED, padded)
    assert hc.get_backend(None, costs["class"]).name == name


@pytest.mark.parametrize("name", ["numpy", "torch", "jax", "tensorflow"])
def test_presets_of_front_doors(name: str) -> None:
    pytest.importorskip(name, reason="one framework of several")
    door = importlib.import_module(f"hungarian_{name}").DetrLoss
    criterion = door.preset("deformable", CLASSES + 1, nan="raise")
    assert type(criterion) is door
    expected = hc.DetrLoss.preset("deformable", CLASSES + 1)(LOGITS, PRED, (LABELS, BOXES, MASK))
    found = criterion(LOGITS, PRED, (LABELS, BOXES, MASK), image_weights=np.ones(4, np.float32))
    assert hc.get_backend(None, found.total).name == name
    assert float(found.total) == pytest.approx(float(expected.total), rel=1e-5)


@pytest.mark.parametrize("preset", ["detr", "deformable", "rt_detr", "lw_detr"])
@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_autocast(torch: Any, half: str, preset: str) -> None:
    """The matching is that of float32 on the same values, where a half cannot tell 1 from less."""
    front = pytest.importorskip("hungarian_torch", reason="for PyTorch")
    torch.manual_seed(0)
    logits = CLASSES + (preset == "detr")
    head = torch.nn.Linear(FEATURES, logits + 4)
    with torch.no_grad():
        head.bias[0] = 12.0  # in float16, sigmoid(12) is 1
    targets = [
        {"labels": torch.asarray(LABELS[b, m]), "boxes": torch.asarray(BOXES[b, m])}
        for b, m in enumerate(MASK)
    ]
    criterion = front.DetrLoss.preset(preset, CLASSES)
    with torch.autocast("cpu", dtype=getattr(torch, half)):
        out = head(torch.asarray(QUERY))
        given = [out[..., :-4], out[..., -4:].sigmoid()]
        found = criterion(*given, targets)
    assert given[0].dtype == given[1].dtype == getattr(torch, half)
    expected = criterion(*(x.detach().float() for x in given), targets)
    assert found.total.dtype == torch.float32
    assert torch.isfinite(found.total)
    torch.testing.assert_close(found.total, expected.total)
    assert torch.equal(found.assignment.col4row, expected.assignment.col4row)
    found.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


@pytest.mark.parametrize("loss", ["DetrLoss", "AlignedDetrLoss"])
def test_trains_with_optax(loss: str) -> None:
    """A training step is one program, matching included."""
    jax = pytest.importorskip("jax", reason="for JAX")
    optax = pytest.importorskip("optax", reason="its optimizers")
    front = pytest.importorskip("hungarian_jax", reason="for JAX")
    criterion = getattr(front, loss)(CLASSES)
    optimizer = optax.adam(0.05)
    weights = 0.1 * jax.random.normal(jax.random.key(0), (FEATURES, CLASSES + 5))

    def objective(weights: Any, query: Any, targets: Any) -> Any:
        out = query @ weights
        return criterion(out[..., :-4], jax.nn.sigmoid(out[..., -4:]), targets).total

    @jax.jit
    def step(weights: Any, state: Any, query: Any, targets: Any) -> Any:
        value, grads = jax.value_and_grad(objective)(weights, query, targets)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(weights, updates), state, value

    targets = front.Targets(LABELS, BOXES, MASK)
    state, values = optimizer.init(weights), []
    for _ in range(20):
        weights, state, value = step(weights, state, QUERY, targets)
        values.append(float(value))
    eager = criterion(
        (QUERY @ weights)[..., :-4], jax.nn.sigmoid((QUERY @ weights)[..., -4:]), targets
    )
    assert float(eager.total) < values[-1] < 0.8 * values[0]


@pytest.mark.parametrize("loss", ["DetrLoss", "AlignedDetrLoss"])
def test_a_swapped_call_is_warned_of(torch: Any, loss: str, monkeypatch: Any) -> None:
    """Once, where the true boxes need a gradient and the predicted ones do not."""
    from hungarian_core.losses import pairs

    monkeypatch.setattr(pairs, "_warned", [])
    logits, boxes, truth = (torch.tensor(x) for x in (LOGITS, PRED, BOXES))
    labels, mask = torch.tensor(LABELS), torch.tensor(MASK)
    criterion = getattr(hc, loss)(CLASSES)
    criterion(logits, boxes, (labels, truth, mask))
    wanted = boxes.clone().requires_grad_(), truth.clone().requires_grad_()
    criterion(logits, wanted[0], (labels, wanted[1], mask))
    with pytest.warns(UserWarning, match="targets needs a gradient and boxes does not"):
        criterion(logits, boxes, (labels, wanted[1], mask))
    criterion(logits, boxes, (labels, wanted[1], mask))
