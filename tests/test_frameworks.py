"""What only one framework has: its own losses, its own transforms, its own modules.

Each test runs where its framework is installed; the conformance suite covers the rest.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.losses import pairs
from hungarian_core.testing import reference

TRUE = np.random.default_rng(1).normal(size=(2, 3, 14)).astype(np.float32)
PRED = np.random.default_rng(2).normal(size=(2, 5, 14)).astype(np.float32)
DOCUMENTED = (
    np.array([[[1.0, 2, 3, 4], [5, 6, 7, 8]]]),
    np.array([[[1.0, 1, 1, 1], [2, 2, 2, 2]]]),
)


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="for PyTorch")


@pytest.fixture
def jax() -> Any:
    return pytest.importorskip("jax", reason="for JAX")


@pytest.fixture
def tf() -> Any:
    return pytest.importorskip("tensorflow", reason="for TensorFlow")


@pytest.fixture
def keras() -> Any:
    return pytest.importorskip("keras", reason="for Keras")


def _expected() -> float:
    """Return MSE of the first four features plus 2·MAE of the ten others, matched on the first."""
    col4row = reference.loss(TRUE[..., :4], PRED[..., :4]).col4row
    pairs = np.take_along_axis(PRED.astype(float), col4row[..., None], axis=1)
    difference = pairs - TRUE
    return float((difference[..., :4] ** 2).mean() + 2 * np.abs(difference[..., 4:]).mean())


def _criterion(first: Any, second: Any) -> hc.HungarianLoss:
    return hc.HungarianLoss(
        slices=[4, 10],
        slice_index_to_compute_assignment=0,
        compute_cost_matrix_fn=hc.compute_euclidean_distance,
        slice_losses_fn=[first, second],
        slice_weights=[1.0, 2.0],
    )


# Programs whose first call is the library's first of a process: nothing is loaded before.
FIRST_CALLS = {
    "torch": """
import torch
program = torch.compile(hc.loss, fullgraph=True, backend="aot_eager")
print(float(program(*map(torch.from_numpy, arrays))))
""",
    "jax": """
import jax
print(float(jax.jit(hc.loss)(*map(jax.numpy.asarray, arrays))))
""",
    "tensorflow": """
import tensorflow as tf
print(float(tf.function(hc.loss)(*map(tf.constant, arrays))))
""",
}


@pytest.mark.parametrize("name", FIRST_CALLS)
def test_the_first_call_may_be_compiled(name: str) -> None:
    pytest.importorskip(name, reason="for the framework")
    head = f"""
import numpy as np, hungarian_core as hc
arrays = [np.array(x, np.float32) for x in {[x.tolist() for x in DOCUMENTED]}]
"""
    done = subprocess.run(
        [sys.executable, "-c", head + FIRST_CALLS[name]],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) == pytest.approx(6.50763825, rel=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("kind", ["function", "module"])
def test_losses_of_torch(torch: Any, kind: str, reduction: str) -> None:
    if kind == "module":
        losses = torch.nn.MSELoss(reduction=reduction), torch.nn.L1Loss(reduction=reduction)
    else:
        functional = torch.nn.functional
        losses = (
            lambda input, target: functional.mse_loss(input, target, reduction=reduction),  # noqa: A006  (PyTorch's name)
            lambda input, target: functional.l1_loss(input, target, reduction=reduction),  # noqa: A006  (as above)
        )
    found = _criterion(*losses)(torch.asarray(TRUE), torch.asarray(PRED))
    assert float(found) == pytest.approx(_expected(), rel=1e-6)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", None])
def test_losses_of_keras_on_tensorflow(tf: Any, keras: Any, reduction: str | None) -> None:
    if keras.backend.backend() != "tensorflow":
        pytest.skip("Keras runs on another backend here")
    losses = keras.losses
    criterion = _criterion(
        losses.MeanSquaredError(reduction=reduction), losses.MeanAbsoluteError(reduction=reduction)
    )
    found = criterion(tf.constant(TRUE), tf.constant(PRED))
    assert float(found) == pytest.approx(_expected(), rel=1e-6)


def test_losses_of_optax(jax: Any) -> None:
    optax = pytest.importorskip("optax", reason="for its losses")
    criterion = _criterion(
        lambda predictions, targets: optax.squared_error(predictions, targets),
        lambda predictions, targets: jax.numpy.abs(predictions - targets),
    )
    found = criterion(jax.numpy.asarray(TRUE), jax.numpy.asarray(PRED))
    assert float(found) == pytest.approx(_expected(), rel=1e-6)


def test_modules_of_torch(torch: Any) -> None:
    front = pytest.importorskip("hungarian_torch", reason="for PyTorch")
    true, pred = (torch.asarray(x) for x in DOCUMENTED)
    assert float(front.MatchedLoss()(true, pred)) == pytest.approx(6.50763825)
    criterion = front.HungarianLoss([4], slice_losses_fn=[torch.nn.MSELoss(reduction="none")])
    assert float(criterion(true, pred)) == pytest.approx(100 / 8)
    assert len(list(criterion.modules())) == 3  # itself, the list, the loss


def test_a_parameter_gets_its_gradient(torch: Any) -> None:
    """A subclass of tensor is of its framework too."""
    parameter = torch.nn.Parameter(torch.asarray(PRED))
    (3 * hc.loss(torch.asarray(TRUE), parameter)).backward()
    expected = reference.loss(TRUE, PRED, upstream=3.0).grad_pred
    np.testing.assert_allclose(parameter.grad.numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["loss", "HungarianLoss", "pit_loss"])
def test_swapped_arguments(torch: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once; and never where predictions need a gradient, or nothing does."""
    monkeypatch.setattr(pairs, "_warned", [])
    functions = {
        "loss": hc.loss,
        "HungarianLoss": hc.HungarianLoss([14]),
        "pit_loss": lambda true, pred: hc.pit_loss(pred, true),
    }
    function = functions[name]
    true, pred = torch.asarray(TRUE), torch.asarray(PRED).requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function(true, pred)
        function(true, true)
        function(pred, pred)
        with torch.no_grad():
            function(true, pred)
    truth = "references" if name == "pit_loss" else "y_true"
    with pytest.warns(UserWarning, match=f"{truth} needs a gradient and .* swapped") as caught:
        function(pred, true)
    assert [x.filename for x in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function(pred, true)


def test_compiled_with_generated_code(torch: Any) -> None:
    """The conformance suite captures graphs without the code generator: once with it is enough."""

    def step(true: Any, pred: Any, mask: Any) -> Any:
        return hc.loss(true, pred, mask=mask)

    mask = np.array([[True, False, True], [True, True, False]])
    leaf = torch.asarray(PRED).requires_grad_()
    value = torch.compile(step, fullgraph=True)(torch.asarray(TRUE), leaf, torch.asarray(mask))
    value.backward()
    expected = reference.loss(TRUE, PRED, mask)
    assert float(value.detach()) == pytest.approx(float(expected.value), rel=1e-6)
    np.testing.assert_allclose(leaf.grad.numpy(), expected.grad_pred, rtol=0, atol=1e-6)


def test_mapped_with_a_shared_truth(torch: Any) -> None:
    """`torch.func.vmap` over the predictions only, as for an ensemble, and its gradient."""
    true = torch.asarray(TRUE)
    preds = torch.stack([torch.asarray(PRED), torch.asarray(PRED).flip(1), 2 * torch.asarray(PRED)])
    grad = torch.func.grad_and_value(lambda pred: hc.loss(true, pred))
    grads, values = torch.func.vmap(grad)(preds)
    for k in range(3):
        expected = reference.loss(TRUE, preds[k].numpy())
        assert float(values[k]) == pytest.approx(float(expected.value), rel=1e-6)
        np.testing.assert_allclose(grads[k].numpy(), expected.grad_pred, rtol=0, atol=1e-6)


def test_masks_of_one_problem_for_all_lanes(torch: Any) -> None:
    cost = np.random.default_rng(0).uniform(size=(3, 2, 4, 5))
    mask = torch.asarray(np.array([[True, True, False, True], [False, True, True, True]]))
    found = torch.func.vmap(lambda c: hc.assign(c, row_mask=mask).col4row)(torch.asarray(cost))
    for k in range(3):
        expected = hc.assign(cost[k], row_mask=mask.numpy()).col4row
        np.testing.assert_array_equal(found[k].numpy(), expected)


def test_the_count_of_mapped_workers(jax: Any) -> None:
    """Each worker divides by the mean count of all, so that their mean is the loss of the whole."""
    front = pytest.importorskip("hungarian_jax", reason="for JAX")
    backend = front.JaxBackend(axis_name="batch")
    mask = np.array([[True, False, False], [True, True, True]])

    def worker(true: Any, pred: Any, mask: Any) -> Any:
        return hc.loss(true[None], pred[None], mask=mask[None], backend=backend)

    values = jax.vmap(worker, axis_name="batch")(*map(jax.numpy.asarray, (TRUE, PRED, mask)))
    expected = reference.loss(TRUE, PRED, mask).value
    assert float(values.mean()) == pytest.approx(float(expected), rel=1e-6)


def test_grad_of_jit_of_vmap(jax: Any) -> None:
    def total(pred: Any) -> Any:
        each = jax.vmap(lambda t, p: hc.loss(t[None], p[None]))(jax.numpy.asarray(TRUE), pred)
        return (each * jax.numpy.asarray([2.0, 5.0])).sum()

    grad = jax.grad(jax.jit(total))(jax.numpy.asarray(PRED))
    upstream = np.array([2.0, 5.0])
    expected = reference.loss(TRUE, PRED, reduction="sample", upstream=upstream).grad_pred
    np.testing.assert_allclose(np.asarray(grad), expected, rtol=0, atol=1e-6)


def test_an_assignment_is_a_pytree(jax: Any) -> None:
    found = jax.jit(hc.assign)(jax.numpy.asarray(TRUE))
    assert isinstance(found, hc.Assignment)
    assert len(jax.tree.leaves(found)) == 5


def test_unknown_extents_that_turn_out_to_be_zero(tf: Any) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, None, 3]), tf.TensorSpec([None, None, 3])])
    def step(true: Any, pred: Any) -> Any:
        return hc.loss(true, pred)

    for n, m in ((0, 2), (2, 0), (0, 0), (2, 3)):
        true, pred = np.ones((2, n, 3), np.float32), np.zeros((2, m, 3), np.float32)
        expected = np.sqrt(3) if n and m else 0.0
        assert float(step(tf.constant(true), tf.constant(pred))) == pytest.approx(expected)


def test_signals_of_an_unknown_batch(tf: Any) -> None:
    """As a Keras model has them: then a metric sees one estimate at a time."""
    rng = np.random.default_rng(0)
    references, estimates = rng.normal(size=(2, 2, 8)), rng.normal(size=(2, 3, 8))
    spec = [tf.TensorSpec([None, m, 8], tf.float64) for m in (3, None)]
    step = tf.function(lambda x, y: hc.pit_loss(x, y, metric="l1"), input_signature=spec)
    expected = float(hc.pit_loss(estimates, references, metric="l1"))
    assert float(step(estimates, references)) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["torch", "jax", "tensorflow"])
def test_backend_converts_other_arrays(name: str) -> None:
    pytest.importorskip(name, reason="one framework of several")
    found = hc.loss(TRUE, PRED, backend=name)
    assert hc.get_backend(None, found).name == name
    assert float(found) == pytest.approx(float(reference.loss(TRUE, PRED).value), rel=1e-6)


def test_two_frameworks_need_a_choice(torch: Any) -> None:
    message = "y_true is a numpy array and y_pred a torch array; pass arrays of one framework"
    with pytest.raises(ValueError, match=message):
        hc.loss(TRUE, torch.asarray(PRED))
    found = hc.loss(TRUE, torch.asarray(PRED), backend="torch")
    assert isinstance(found, torch.Tensor)


@pytest.mark.parametrize("form", ["safe", "published"])
def test_giou_of_transformers(torch: Any, form: Any) -> None:
    """Values and gradients, where PyTorch differentiates the published formula."""
    published = pytest.importorskip(
        "transformers.loss.loss_for_object_detection", reason="for the published GIoU"
    ).generalized_box_iou
    torch.manual_seed(0)
    boxes = [torch.rand(7, 4, dtype=torch.float64) for _ in range(2)]
    # The last of each are equal: there the slopes of both sides are averaged.
    boxes = [torch.cat([x[:, :2], x[:, :2] + x[:, 2:] + 0.01], 1) for x in boxes]
    boxes[1][-1] = boxes[0][-1]
    upstream = torch.rand(7, 7, dtype=torch.float64)

    def run(function: Any) -> list[Any]:
        leaves = [x.clone().requires_grad_() for x in boxes]
        value = function(*leaves)
        return [value.detach(), *torch.autograd.grad(value, leaves, upstream)]

    ours = run(lambda a, b: hc.boxes.giou(a, b, format="xyxy", pairwise=True, form=form))
    for x, y in zip(ours, run(published), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-11)
