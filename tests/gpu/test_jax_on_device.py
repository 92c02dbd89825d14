"""JAX on a device: the kernel in its programs, beside the native solver.

Where a CPU stands in, JAX has no device to give the kernel, so "auto" solves: that shows only that
these tests run. What a program for a device holds is read in tests/cuda.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hungarian_core as hc

jax: Any = pytest.importorskip("jax", reason="for JAX")
pytest.importorskip("hungarian_jax", reason="for JAX")
SOLVER = "cuda" if jax.default_backend() == "gpu" else "auto"
COSTS = np.random.default_rng(0).random((4, 3, 6, 9)).astype(np.float32)


def solve(cost: Any) -> Any:
    return hc.assign(cost, solver=SOLVER).col4row


def same(found: Any, cost: np.ndarray = COSTS) -> None:
    np.testing.assert_array_equal(found, hc.assign(cost, solver="native").col4row)


def test_eager_and_in_programs() -> None:
    cost = jax.numpy.asarray(COSTS)
    same(solve(cost))
    same(jax.jit(solve)(cost))
    same(jax.jit(jax.vmap(solve))(cost))
    same(jax.vmap(jax.jit(solve), in_axes=2)(jax.numpy.moveaxis(cost, 0, 2)))


def test_shards() -> None:
    """On all devices that there are, as far as the batch can be shared out."""
    count = max(k for k in (1, 2, 4) if k <= jax.device_count())
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:count]), ("i",))
    spec = jax.sharding.PartitionSpec("i")
    shards = jax.shard_map(solve, mesh=mesh, in_specs=spec, out_specs=spec)
    same(jax.jit(shards)(COSTS))


def test_command_buffers() -> None:
    """A program replayed, on other costs, after XLA has recorded it."""
    options = {"xla_gpu_graph_min_graph_size": 1}
    step = jax.jit(lambda cost: solve(2 * cost + 1) * 1, compiler_options=options)
    for k in range(5):
        cost = np.roll(COSTS, k, 0)
        same(step(cost), cost)


def test_a_loss_and_its_slopes() -> None:
    """Beside NumPy's, in float64, and its differences."""
    random = np.random.default_rng(1)
    logits, way = random.normal(size=(2, 3, 12, 6))
    boxes = random.uniform(0.2, 0.5, (3, 12, 4))
    labels, mask = np.arange(12).reshape(3, 4) % 5, np.arange(4) < np.asarray([[4], [0], [2]])

    def total(x: Any, array: Any, solver: str) -> Any:
        targets = hc.Targets(array(labels), array(boxes[:, 2:6] + 0.03), array(mask))
        return hc.DetrLoss(5, solver=solver)(x, array(boxes), targets).total

    def on_numpy(step: float) -> float:
        return float(total(logits + step * way, np.asarray, "native"))

    single = jax.numpy.asarray  # float32, as JAX has it
    value, slopes = jax.jit(jax.value_and_grad(lambda x: total(x, single, SOLVER)))(single(logits))
    assert float(value) == pytest.approx(on_numpy(0), rel=1e-5)
    difference = (on_numpy(1e-6) - on_numpy(-1e-6)) / 2e-6
    assert float((slopes * way).sum()) == pytest.approx(difference, rel=1e-3)
