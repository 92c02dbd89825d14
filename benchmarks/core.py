"""The core's algorithm against its peers, side by side in one run.

    python benchmarks/core.py [--repeats 40] [--json benchmarks/results/core.json]

Jitted JAX on the CPU runs against ``optax.assignment.hungarian_algorithm`` under `vmap`,
NumPy against a loop over ``scipy.optimize.linear_sum_assignment``. Every contender gets the same
costs. Peers take turns within each repeat, so that a busy machine slows both; the figure is the
fastest repeat, and what to compare is the ratio. Each answer is checked before it is
timed. The last column is the peak memory of NumPy's core, over that of the costs.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy
from scipy.optimize import linear_sum_assignment

import hungarian_core as hc

SHAPES = [(32, 20, 100), (96, 20, 300), (32, 50, 50), (8, 200, 200)]


def detection_costs(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Return costs as DETR forms them: 5 L1 of random boxes minus a class probability."""
    size, n, m = shape
    truth, prediction = rng.random((size, n, 1, 4)), rng.random((size, 1, m, 4))
    probability = rng.dirichlet(np.ones(20), (size, n, m))[..., 0]
    return (5 * np.abs(truth - prediction).sum(-1) - probability).astype(np.float32)


def uniform_costs(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Return independent uniform costs."""
    return rng.random(shape, dtype=np.float32)


def seconds(contenders: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return each contender's fastest time, all of them taking turns."""
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(repeats):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def peak_bytes(run: Callable[[], object]) -> int:
    """Return the most memory that NumPy held at once during `run`."""
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def measure(costs: np.ndarray, repeats: int) -> dict[str, float]:
    """Return milliseconds per contender for one batch, after checking their totals."""
    on_device = jnp.asarray(costs)
    ours = jax.jit(lambda c: hc.assign(c, solver="core").col4row)
    peer = jax.jit(jax.vmap(optax.assignment.hungarian_algorithm))
    jitted: dict[str, Callable[[], object]] = {
        "jax_core": lambda: jax.block_until_ready(ours(on_device)),
        "jax_optax": lambda: jax.block_until_ready(peer(on_device)),
    }
    eager: dict[str, Callable[[], object]] = {
        "numpy_core": lambda: hc.assign(costs, solver="core"),
        "numpy_auto": lambda: hc.assign(costs),
        "scipy_loop": lambda: [linear_sum_assignment(c) for c in costs],
    }
    expected = [c[linear_sum_assignment(c)].sum(dtype=np.float64) for c in costs]
    for total in (
        hc.assign(costs, solver="core").cost,
        np.take_along_axis(costs, np.asarray(ours(on_device))[..., None], 2).sum((1, 2)),
    ):
        np.testing.assert_allclose(total, expected, rtol=1e-5, atol=1e-5)
    for run in (*jitted.values(), *eager.values()):  # compile and warm up
        run()
    times = {**seconds(jitted, repeats), **seconds(eager, repeats)}
    return {name: 1e3 * t for name, t in times.items()}


def main() -> None:
    """Measure all shapes and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for family in (detection_costs, uniform_costs):
        for shape in SHAPES:
            costs = family(shape, np.random.default_rng(0))
            times = measure(costs, options.repeats)
            memory = peak_bytes(functools.partial(hc.assign, costs, solver="core")) / costs.nbytes
            row = {"family": family.__name__, "shape": list(shape), "ms": times}
            rows.append({**row, "memory_over_costs": round(memory, 2)})
    where = {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "python": platform.python_version(),
        **{m.__name__: m.__version__ for m in (np, scipy, jax, optax)},
        "repeats": options.repeats,
    }
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    print("milliseconds, fastest repeat")
    print(
        f"{'family':16} {'shape':>13} {'jax core':>9} {'optax':>8} {'ratio':>6} "
        f"{'numpy core':>11} {'SciPy loop':>11} {'ratio':>6} {'assign, auto':>13} {'memory':>7}"
    )
    for row in rows:
        ms = row["ms"]
        shape = "x".join(map(str, row["shape"]))
        print(
            f"{row['family']:16} {shape:>13} {ms['jax_core']:9.2f} {ms['jax_optax']:8.2f} "
            f"{ms['jax_optax'] / ms['jax_core']:6.1f} {ms['numpy_core']:11.2f} "
            f"{ms['scipy_loop']:11.2f} {ms['numpy_core'] / ms['scipy_loop']:6.1f} "
            f"{ms['numpy_auto']:13.2f} {row['memory_over_costs']:6.1f}x"
        )
    if options.json is not None:
        options.json.write_text(json.dumps({"where": where, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
