"""Inside the frameworks: jit-compiled JAX, a TensorFlow loss, one small call of PyTorch.

    python benchmarks/frameworks.py [--repeats 30] [--only jax] [--json FILE]

- jax: `assign` under `jax.jit` against `optax.assignment.hungarian_algorithm` under `vmap`.
- tensorflow: the two-argument `hungarian_loss` under `tf.function`, forward and backward, against
  the function of that name in the package hungarian-loss, whose interface it has.
- torch, numpy: one call of `assign` on one 10 x 10 problem against one of SciPy.

`benchmarks/run.py` gives each framework a process of its own. Every answer is checked before it
is timed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from families import INSTANCES, Instance, detr, uniform
from scipy.optimize import linear_sum_assignment
from timing import Contender, arguments, fastest, save

import hungarian_core as hc

Row = dict[str, Any]


def row(name: str, ours: float, peer: str, peers: float, *, least: float) -> Row:
    """Return a comparison; `least` is the speed-up that it must reach."""
    return {
        "name": name,
        "ms": 1e3 * ours,
        "peer": peer,
        "peer_ms": 1e3 * peers,
        "over_peer": peers / ours,
        "target": least,
    }


def check_total(cost: np.ndarray, col4row: np.ndarray) -> None:
    """Compare the total of a batch of matchings with SciPy's."""
    matched = np.where(col4row >= 0, col4row, 0)[..., None]
    pairs = np.take_along_axis(cost.astype(np.float64), matched, 2)[..., 0]
    expected = [c[linear_sum_assignment(c)].sum(dtype=np.float64) for c in cost]
    np.testing.assert_allclose(np.where(col4row >= 0, pairs, 0).sum(1), expected, rtol=1e-6)


def reference_loss(y_true: np.ndarray, y_pred: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the mean Euclidean distance of the matched pairs and its gradient, by SciPy."""
    gradient = np.zeros_like(y_pred, dtype=np.float64)
    total = 0.0
    for truth, prediction, slope in zip(y_true, y_pred, gradient, strict=True):
        apart = prediction[None, :].astype(np.float64) - truth[:, None]
        distance = np.sqrt((apart**2).sum(-1))
        i, j = linear_sum_assignment(distance)
        total += distance[i, j].mean() / len(y_true)
        slope[j] = apart[i, j] / distance[i, j][:, None] / (len(i) * len(y_true))
    return total, gradient


def measure_jax(repeats: int, solver: Any) -> list[Row]:
    """Return the figures of jitted JAX on DETR's shapes."""
    import jax
    import jax.numpy as jnp
    import optax

    ours = jax.jit(lambda c: hc.assign(c, solver=solver).col4row)
    optaxs = jax.jit(jax.vmap(optax.assignment.hungarian_algorithm))
    rows = []
    shapes = [(32, 20, 100), *(i.shape for i in INSTANCES if i.family is detr)]
    for shape in shapes:
        instance = Instance(detr, shape, "float32")
        cost = instance.cost()
        on_device = jnp.asarray(cost)
        check_total(cost, np.asarray(ours(on_device)))
        i, j = (np.asarray(x) for x in optaxs(on_device))
        matching = np.full(shape[:2], -1)
        np.put_along_axis(matching, i, j, axis=1)
        check_total(cost, matching)
        times = fastest(
            {
                "ours": Contender(lambda c=on_device: jax.block_until_ready(ours(c))),
                "optax": Contender(lambda c=on_device: jax.block_until_ready(optaxs(c))),
            },
            repeats,
            budget=20,
        )
        name = instance.name.replace("detr", "jax.jit, detr")
        rows.append(row(name, times["ours"], "optax", times["optax"], least=25))
    return rows


def measure_tensorflow(repeats: int, solver: Any) -> list[Row]:
    """Return the figures of the loss, forward and backward; what `solver` is, it picks itself."""
    import hungarian_loss
    import tensorflow as tf

    from hungarian_tensorflow import hungarian_loss as ours

    def step(loss: Callable[..., Any]) -> Callable[..., Any]:
        @tf.function
        def value_and_gradient(y_true: tf.Tensor, y_pred: tf.Tensor) -> tuple[tf.Tensor, ...]:
            with tf.GradientTape() as tape:
                tape.watch(y_pred)
                value = tf.reduce_mean(loss(y_true, y_pred))
            return value, tape.gradient(value, y_pred)

        return value_and_gradient

    rng = np.random.default_rng(0)
    shape = size, objects, features = 32, 10, 4
    y_true, y_pred = (tf.constant(rng.random(shape), tf.float32) for _ in range(2))
    contenders = {"ours": step(ours), "package": step(hungarian_loss.hungarian_loss)}
    value, gradient = contenders["ours"](y_true, y_pred)
    expected, slope = reference_loss(y_true.numpy(), y_pred.numpy())
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=1e-7)
    # The package averages over all n² pairs, of which at most n are matched.
    theirs = objects * float(contenders["package"](y_true, y_pred)[0])
    times = fastest(
        {name: Contender(functools.partial(f, y_true, y_pred)) for name, f in contenders.items()},
        repeats,
        budget=20,
    )
    name = f"tf.function, hungarian_loss and gradient, {size} x {objects} x {features}"
    figures = row(name, times["ours"], "hungarian-loss", times["package"], least=100)
    return [{**figures, "loss": expected, "peer_loss_times_n": theirs}]


def measure_small_call(
    make: Callable[[np.ndarray], Any], label: str, repeats: int, solver: Any
) -> list[Row]:
    """Return one call on a 10 x 10 problem, against SciPy given the same array and NumPy's."""
    cost = Instance(uniform, (1, 10, 10), "float32").cost()
    table = cost[0]
    array = make(table)
    check_total(cost, np.asarray(hc.assign(array, solver=solver).col4row)[None])
    times = fastest(
        {
            "ours": Contender(lambda: hc.assign(array, solver=solver)),
            "SciPy, same array": Contender(lambda: linear_sum_assignment(array)),
            "SciPy, NumPy array": Contender(lambda: linear_sum_assignment(table)),
        },
        10 * repeats,
        budget=10,
    )
    peers = ["SciPy, NumPy array"] if array is table else list(times)[1:]
    name = f"{label}, one call of assign, 10 x 10"
    return [row(name, times["ours"], peer, times[peer], least=1 / 6) for peer in peers]


def measure_torch(repeats: int, solver: Any) -> list[Row]:
    """Return the figures of one small tensor."""
    import torch

    return measure_small_call(torch.from_numpy, "torch", repeats, solver)


def measure_numpy(repeats: int, solver: Any) -> list[Row]:
    """Return the figures of one small array."""
    return measure_small_call(lambda cost: cost, "NumPy", repeats, solver)


FRAMEWORKS: dict[str, Callable[[int, Any], list[Row]]] = {
    "numpy": measure_numpy,
    "torch": measure_torch,
    "jax": measure_jax,
    "tensorflow": measure_tensorflow,
}


def main() -> None:
    """Measure every framework and save the figures."""
    options = arguments(__doc__, repeats=30, only="frameworks whose name has TEXT")
    rows = []
    for name, measure in FRAMEWORKS.items():
        if options.only in name:
            for row in measure(options.repeats, options.solver):
                rows.append({"framework": name, **row})
                print(
                    f"{row['name']:58} {row['ms']:9.4f} ms  {row['peer']:18} "
                    f"{row['peer_ms']:9.4f} ms  x {row['over_peer']:.2f}",
                    flush=True,
                )
    save(options.json, rows)


if __name__ == "__main__":
    main()
