"""The native solver where a framework has a way of its own to it.

Each test runs where its framework is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc

PRED = np.random.default_rng(2).normal(size=(2, 5, 14)).astype(np.float32)


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="for PyTorch")


@pytest.fixture
def jax() -> Any:
    return pytest.importorskip("jax", reason="for JAX")


@pytest.fixture
def native() -> Any:
    return pytest.importorskip("hungarian_native", reason="its library", exc_type=ImportError)


def _tensors(torch: Any) -> dict[str, Any]:
    x = torch.asarray(PRED.astype(np.float64))
    return {
        "row_major": x,
        "transposed": x.mT,
        "sliced": x[:, ::2, 1::3],
        "one_for_all": x[:1].expand(3, 5, 14),
        "one_problem": x[0],
        "four_axes": x.reshape(2, 1, 5, 14).expand(2, 3, 5, 14),
        "with_gradient": x.clone().requires_grad_(),
        "parameter": torch.nn.Parameter(x, requires_grad=False),
        "negated_lazily": torch._neg_view(x),
        "float32": x.float(),
        "half": x.half(),
        "empty": x[:0],
        "no_rows": x[:, :0],
    }


@pytest.mark.parametrize("name", [
    "row_major", "transposed", "sliced", "one_for_all", "one_problem", "four_axes",
    "with_gradient", "parameter", "negated_lazily", "float32", "half", "empty", "no_rows",
])  # fmt: skip
def test_tensors_of_every_kind(torch: Any, native: Any, name: str) -> None:
    x = _tensors(torch)[name]
    found = hc.assign(x, solver="native", unmatched_cost=1.5)
    expected = hc.assign(x.detach().resolve_neg().numpy(), solver="native", unmatched_cost=1.5)
    for a, b in zip(found, expected, strict=True):
        assert type(a) is torch.Tensor
        assert not a.requires_grad
        np.testing.assert_array_equal(a.numpy(), b)


def test_masks_of_tensors(torch: Any, native: Any) -> None:
    cost = torch.asarray(PRED[..., :6])
    flags = torch.asarray(np.arange(48).reshape(2, 2, 12) % 5 > 0)
    options = {"row_mask": flags[:, 0, :10:2], "col_mask": flags[:, 1, ::2]}
    found = hc.assign(cost, **options, solver="native")
    options = {name: x.numpy().copy() for name, x in options.items()}
    expected = hc.assign(cost.numpy(), **options, solver="native")
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.numpy(), b)


def test_the_operator_obeys_its_rules(torch: Any, native: Any) -> None:
    cost, mask = torch.asarray(PRED), torch.ones(2, 5, dtype=torch.bool)
    operator = torch.ops.hungarian_core.solve
    for arguments in ((cost, None, None, None), (cost[0], mask[0], None, cost[0, :, 0])):
        torch.library.opcheck(operator, (*arguments, True, "worst", "native"))


def test_a_program_of_jax_has_no_callback(jax: Any, native: Any) -> None:
    if native.symbol("HungarianJax") is None:
        pytest.skip("the library was built without the handler")
    program = jax.jit(lambda cost: hc.assign(cost)).lower(jax.numpy.asarray(PRED)).as_text()
    assert "hungarian_core_native" in program
    assert "callback" not in program
    assert "while" not in program  # the branch for other platforms is not lowered


@pytest.mark.parametrize("way", ["eager", "jit"])
def test_mapped_over_some_arguments(jax: Any, native: Any, way: str) -> None:
    cost = np.random.default_rng(0).uniform(size=(3, 2, 4, 5)).astype(np.float32)
    rows = np.array([[True, True, False, True], [False, True, True, True]])
    price = np.linspace(0, 1, 3, dtype=np.float32)

    def one(cost: Any, price: Any) -> Any:
        return hc.assign(cost, row_mask=jax.numpy.asarray(rows), unmatched_cost=price)

    mapped = jax.vmap(jax.vmap(one, (None, 0)), (0, None))  # over prices, inside over costs
    found = (jax.jit(mapped) if way == "jit" else mapped)(cost, price)
    for k in range(3):
        for p in range(3):
            expected = hc.assign(cost[k], row_mask=rows, unmatched_cost=price[p])
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_array_equal(np.asarray(a[k, p]), b)


def test_a_mask_may_be_traced_alone(jax: Any) -> None:
    cost = jax.numpy.asarray(PRED)
    mask = np.array([[True, False, True, True, False]] * 2)
    found = jax.jit(lambda rows: hc.assign(cost, row_mask=rows))(mask)
    expected = hc.assign(PRED, row_mask=mask)
    np.testing.assert_array_equal(np.asarray(found.col4row), expected.col4row)


def test_without_the_handler_jax_calls_back(
    jax: Any, native: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = pytest.importorskip("hungarian_jax._native", reason="for JAX")
    monkeypatch.setattr(module, "_register", lambda: False)
    module.registered.cache_clear()
    try:
        lowered = jax.jit(lambda cost: hc.assign(cost + 0)).lower(jax.numpy.asarray(PRED))
        assert "callback" in lowered.as_text()
        found = lowered.compile()(jax.numpy.asarray(PRED))
        eager = hc.assign(jax.numpy.asarray(PRED))
    finally:
        module.registered.cache_clear()
    expected = hc.assign(PRED)
    for a, b, c in zip(found, eager, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(a), c)
        np.testing.assert_array_equal(np.asarray(b), c)


# ---------------------------------------------------------------- what does not depend on the load


def _entered(call: Callable[[], Any]) -> int:
    """Return how many functions a call enters, of Python and of C, the second time."""
    found = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal found
        found += event in ("call", "c_call")

    call()
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(before)
    return found - 1  # of setprofile


# As benchmarks/small_calls.py counts: the time of a small problem is that of these calls. A few
# more than there are now, for other versions.
@pytest.mark.parametrize(("framework", "most"), [("numpy", 34), ("torch", 74)])
def test_a_small_call_enters_few_functions(framework: str, most: int, native: Any) -> None:
    xp = pytest.importorskip(framework, reason="a framework")
    cost = xp.asarray(np.random.default_rng(0).uniform(size=(10, 10)))
    assert _entered(lambda: hc.assign(cost)) <= most


def test_a_listed_detection_loss_enters_few_functions(torch: Any, native: Any) -> None:
    """Of 16 images, in the form that takes most: each array of an image is looked at few times."""
    rng = np.random.default_rng(0)

    def tensor(*shape: int) -> Any:
        return torch.asarray(rng.uniform(0.2, 0.6, shape).astype(np.float32))

    listed = [{"labels": torch.arange(3), "boxes": tensor(3, 4)} for _ in range(16)]
    logits, boxes = tensor(6, 16, 8, 5), tensor(6, 16, 8, 4)
    criterion = hc.DetrLoss(4)
    assert _entered(lambda: criterion(logits, boxes, listed)) <= 2750


def test_a_loss_is_few_nodes_of_tensorflow() -> None:
    """A graph takes time by the node, forward and backward."""
    tf = pytest.importorskip("tensorflow", reason="for TensorFlow")
    losses = pytest.importorskip("hungarian_tensorflow", reason="for TensorFlow")

    def step(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(y_pred)
            value = tf.reduce_mean(losses.hungarian_loss(y_true, y_pred))
        return value, tape.gradient(value, y_pred)

    form = tf.TensorSpec((32, 10, 4), tf.float32)
    graph = tf.function(step).get_concrete_function(form, form).graph.as_graph_def()
    assert len(graph.node) <= 225
    # The programs that TensorFlow chooses from by the device: on a CPU it calls Python once.
    inner = [node.op for part in graph.library.function for node in part.node_def]
    assert sum("PyFunc" in op for op in inner) == 1
