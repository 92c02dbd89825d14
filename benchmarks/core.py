"""The core's algorithm against its peers, without the native solver.

    python benchmarks/core.py [--repeats 40] [--json FILE]

Jitted JAX on the CPU runs against ``optax.assignment.hungarian_algorithm`` under `vmap`,
NumPy against a loop over ``scipy.optimize.linear_sum_assignment``. Each answer is checked before
it is timed. Memory is the peak of NumPy's core, over that of the costs.
"""

from __future__ import annotations

import functools
import tracemalloc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from families import Instance, detr, uniform
from scipy.optimize import linear_sum_assignment
from timing import Contender, arguments, fastest, save

import hungarian_core as hc

SHAPES = [(32, 20, 100), (96, 20, 300), (32, 50, 50), (8, 200, 200)]


def peak_bytes(run: Callable[[], object]) -> int:
    """Return the most memory that NumPy held at once during `run`."""
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def measure(instance: Instance, repeats: int) -> dict[str, Any]:
    """Return milliseconds per contender for one batch, after checking their totals."""
    cost = instance.cost()
    on_device = jnp.asarray(cost)
    ours = jax.jit(lambda c: hc.assign(c, solver="core").col4row)
    peer = jax.jit(jax.vmap(optax.assignment.hungarian_algorithm))
    numpy_core = functools.partial(hc.assign, cost, solver="core")
    pairs: list[dict[str, Callable[[], object]]] = [
        {
            "jax_core": lambda: jax.block_until_ready(ours(on_device)),
            "jax_optax": lambda: jax.block_until_ready(peer(on_device)),
        },
        {
            "numpy_core": numpy_core,
            "scipy_loop": lambda: [linear_sum_assignment(c) for c in cost],
        },
    ]
    expected = [c[linear_sum_assignment(c)].sum(dtype=np.float64) for c in cost]
    for total in (
        numpy_core().cost,
        np.take_along_axis(cost, np.asarray(ours(on_device))[..., None], 2).sum((1, 2)),
    ):
        np.testing.assert_allclose(total, expected, rtol=1e-5, atol=1e-5)
    ms = {}
    for pair in pairs:  # JAX's threads would disturb NumPy's turns
        for run in pair.values():  # compile and warm up
            run()
        times = fastest({name: Contender(run) for name, run in pair.items()}, repeats, budget=15)
        ms.update({name: 1e3 * t for name, t in times.items()})
    memory = round(peak_bytes(numpy_core) / cost.nbytes, 2)
    return {"name": instance.name, "ms": ms, "memory_over_costs": memory}


def main() -> None:
    """Measure all shapes and save the figures."""
    options = arguments(__doc__, repeats=40, only="instances whose name has TEXT")
    rows = []
    for family in (detr, uniform):
        for shape in SHAPES:
            instance = Instance(family, shape, "float32")
            if options.only in instance.name:
                rows.append(row := measure(instance, options.repeats))
                ms = row["ms"]
                print(
                    f"{row['name']:32} jax: core {ms['jax_core']:7.2f}, optax "
                    f"{ms['jax_optax']:7.2f}  NumPy: core {ms['numpy_core']:7.2f}, SciPy's loop "
                    f"{ms['scipy_loop']:7.2f} ms  memory {row['memory_over_costs']:.1f}x",
                    flush=True,
                )
    save(options.json, rows)


if __name__ == "__main__":
    main()
