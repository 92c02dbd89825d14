"""What only TensorFlow has: saved graphs, forward mode, checks of numerics."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc

tf: Any = pytest.importorskip("tensorflow", reason="for TensorFlow")
hf: Any = pytest.importorskip("hungarian_tensorflow", reason="for TensorFlow")

RNG = np.random.default_rng(0)
LOGITS, BOXES = RNG.normal(size=(2, 5, 4)), RNG.uniform(0.2, 0.6, (2, 5, 4))
LABELS, TRUE = RNG.integers(0, 3, (2, 3)), RNG.uniform(0.2, 0.6, (2, 3, 4))
MASK = np.array([[True, True, True], [True, False, True]])
COST = RNG.uniform(size=(2, 3, 5))
SIGNALS = RNG.normal(size=(2, 3, 40))

# ---------------------------------------------------------------- precision


def test_products_are_in_full_precision_wherever_a_graph_runs() -> None:
    """TF32, oneDNN's bfloat16 and rewriters of graphs take products of float32: there are none."""
    rng = np.random.default_rng(0)
    y, x = (tf.constant(rng.normal(size=(2, 3, 40)), tf.float32) for _ in range(2))

    @tf.function
    def step(y: Any, x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = hf.pit_loss(x, y, metric="mse")
        return value, tape.gradient(value, x)

    @tf.function
    def product(y: Any, x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = hc.masks.pairwise_bce(tf.nn.sigmoid(y), x, axes=1)
        return value, tape.gradient(value, x)

    for program in (step, product):
        graph = program.get_concrete_function(y, x).graph
        kinds = [op.outputs[0].dtype for op in graph.get_operations() if "MatMul" in op.type]
        assert kinds
        assert set(kinds) == {tf.float64}


# ---------------------------------------------------------------- derivatives


def _losses() -> dict[str, tuple[Callable[[Any], Any], np.ndarray]]:
    targets = (tf.constant(LABELS), tf.constant(TRUE), tf.constant(MASK))
    boxes = tf.constant(BOXES)

    def detr(loss: Any, classes: int = 4) -> Callable[[Any], Any]:
        return lambda x: loss(x[..., :classes], boxes, targets).total

    return {
        "loss": (lambda x: hf.loss(TRUE, x), BOXES),
        "pit": (lambda x: hf.pit_loss(x, SIGNALS), SIGNALS + 0.3 * SIGNALS[:, ::-1]),
        "detr": (detr(hf.DetrLoss(3)), LOGITS),
        "focal": (detr(hf.DetrLoss(3, class_loss="focal"), 3), LOGITS),
        "aligned": (detr(hf.AlignedDetrLoss(3)), LOGITS),
        "assignment_cost": (lambda x: tf.reduce_sum(hf.assignment_cost(x)), COST),
    }


@pytest.mark.parametrize("way", ["eager", "inside", "outside"])
@pytest.mark.parametrize("name", _losses())
def test_forward_mode(name: str, way: str) -> None:
    """What the gradient says, wherever the accumulator stands."""
    function, at = _losses()[name]
    x = tf.constant(at)
    tangent = tf.constant(np.random.default_rng(2).normal(size=at.shape))
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    expected = float(tf.reduce_sum(tape.gradient(value, x) * tangent))
    traced = tf.function(function)

    def forward(x: Any, tangent: Any) -> Any:
        with tf.autodiff.ForwardAccumulator(x, tangent) as accumulator:
            value = traced(x) if way == "outside" else function(x)
        return accumulator.jvp(value)

    found = (tf.function(forward) if way == "inside" else forward)(x, tangent)
    assert abs(expected) > 1e-3
    assert float(found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("method", ["blackbox", "sinkhorn_implicit"])
def test_forward_mode_where_it_cannot_be_had(method: Any) -> None:
    """NaN, where TensorFlow itself would come to 0, or to a number that is wrong."""

    def step(x: Any) -> Any:
        with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
            value = hf.assignment_matrix(x, method)
        return accumulator.jvp(value)

    for way in (step, tf.function(step)):
        assert np.isnan(way(tf.constant(COST))).all()


@pytest.mark.parametrize("name", ["focal"])
def test_a_second_derivative_is_not_half_of_one(name: str) -> None:
    """It is NaN. First derivatives are what they were, persistent tapes and all."""
    function, at = _losses()[name]

    def step(x: Any) -> Any:
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = function(x)
            first = inner.gradient(value, x)
        return first, outer.gradient(first, x)

    for way in (step, tf.function(step)):
        first, second = way(tf.constant(at))
        assert np.isfinite(first).all()
        assert np.isnan(second).any()


# ---------------------------------------------------------------- saved graphs

SAVE = """
import sys
import numpy as np, tensorflow as tf
import hungarian_core as hc, hungarian_tensorflow as hf

logits, boxes = tf.constant(LOGITS, tf.float32), tf.constant(BOXES, tf.float32)
targets = (tf.constant(LABELS), tf.constant(TRUE, tf.float32), tf.constant(MASK))

class Module(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([2, 3, 5], tf.float32)])
    def match(self, cost):
        return hf.assign(cost, unmatched_cost=0.3).col4row
    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32)])
    def pairs(self, cost):
        return hf.linear_sum_assignment(cost)
    @tf.function(input_signature=[tf.TensorSpec([2, 5, 4], tf.float32)])
    def loss(self, logits):
        return hf.DetrLoss(3)(logits, boxes, targets).total

module = Module()
module.match(tf.constant(COST, tf.float32))  # traced before anybody thinks of saving
tf.saved_model.save(module, sys.argv[1])
"""

LOAD = """
import sys
import numpy as np, tensorflow as tf
module = tf.saved_model.load(sys.argv[1])
np.savez(
    sys.argv[2], match=module.match(tf.constant(COST, tf.float32)),
    loss=module.loss(tf.constant(LOGITS, tf.float32)),
    pairs=tf.stack(module.pairs(tf.constant(COST[0], tf.float32))),
)
"""


def test_a_saved_model_runs_in_another_process(tmp_path: Path) -> None:
    """One without the library, whose graph finds nobody to call."""
    names = ("LOGITS", "BOXES", "LABELS", "TRUE", "MASK", "COST")
    head = textwrap.dedent("from numpy import array\n") + "".join(
        f"{name} = array({globals()[name].tolist()!r})\n" for name in names
    )
    path, result = tmp_path / "model", tmp_path / "found.npz"
    for script, arguments in ((SAVE, [path]), (LOAD, [path, result])):
        done = subprocess.run(
            [sys.executable, "-c", head + script, *map(str, arguments)],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
    found = np.load(result)
    np.testing.assert_array_equal(found["match"], hc.assign(COST, unmatched_cost=0.3).col4row)
    np.testing.assert_array_equal(found["pairs"], hc.linear_sum_assignment(COST[0]))
    expected = hc.DetrLoss(3)(LOGITS, BOXES, (LABELS, TRUE, MASK)).total
    assert float(found["loss"]) == pytest.approx(float(expected), rel=1e-5)


# ---------------------------------------------------------------- checks of numerics


@pytest.fixture
def _check_numerics() -> Iterator[None]:
    tf.debugging.enable_check_numerics()
    yield
    tf.debugging.disable_check_numerics()


@pytest.mark.usefixtures("_check_numerics")
@pytest.mark.parametrize("way", ["eager", "graph"])
def test_checks_of_numerics_find_nothing(way: str) -> None:
    """Not even the infinities and NaN that stand for what cannot be chosen."""
    functions = {name: _losses()[name] for name in ("pit", "detr", "aligned")}
    rows = tf.constant(MASK)
    functions |= {
        "core": (lambda x: hf.loss(TRUE, x, solver="core", mask=rows), BOXES),
        "price": (lambda x: hf.assign(x, row_mask=rows, unmatched_cost=0.3).cost, COST),
        "worst": (lambda x: hf.loss(TRUE, x, mask=rows, nan="worst"), BOXES),
        "fenchel_young": (lambda x: hf.fenchel_young_loss(x, tf.ones_like(x)), COST),
        "count": (lambda x: tf.cast(hf.count_invalid(x), x.dtype), COST),
    }
    for function, at in functions.values():

        def step(x: Any, function: Any = function) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = tf.reduce_sum(function(x))
            return value, tape.gradient(value, x, unconnected_gradients="zero")

        value, slope = (tf.function(step) if way == "graph" else step)(tf.constant(at))
        assert math.isfinite(float(value))
        assert np.isfinite(slope).all()


@pytest.mark.usefixtures("_check_numerics")
def test_checks_of_numerics_still_find_what_is_the_user_s() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="Infinity or NaN"):
        hf.loss(tf.constant(TRUE), tf.math.log(tf.constant(-BOXES)))


# ---------------------------------------------------------------- input


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: tf.sparse.from_dense(tf.eye(3)), "SparseTensor.*tf.sparse.to_dense"),
        (lambda: tf.ragged.constant([[1.0], [2.0, 3.0]]), "RaggedTensor.*to_tensor"),
    ],
    ids=["sparse", "ragged"],
)
def test_tensors_without_a_shape_are_refused_in_words(make: Any, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        hf.assign(make())
    with pytest.raises(ValueError, match=word):
        hf.loss(make(), make())


def test_tensors_of_other_kinds() -> None:
    expected = hc.assign(COST).col4row
    assert np.array_equal(hf.assign(tf.Variable(COST)).col4row, expected)
    slices = tf.IndexedSlices(tf.constant(COST[0]), tf.range(3), tf.constant([3, 5]))
    assert np.array_equal(hf.assign(slices).col4row, expected[0])
    assert np.array_equal(
        hf.assign(COST.astype(">f4")[:, ::-1]).row4col, hc.assign(COST[:, ::-1]).row4col
    )
    with pytest.raises(ValueError, match="unknown rank"):
        tf.function(hf.assign, input_signature=[tf.TensorSpec(None)]).get_concrete_function()


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_eight_bits(name: str) -> None:
    """Costs of less than 32 bits are solved in float32."""
    cost = tf.cast(tf.constant([[1.0, 2.0], [1.5, 4.0]]), getattr(tf.dtypes.experimental, name))
    found = hf.assign(cost)
    assert found.col4row.numpy().tolist() == [1, 0]
    assert found.cost.dtype == tf.float32
    assert float(found.cost) == 3.5
