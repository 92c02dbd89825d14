"""`jax.shard_map` over two devices: `in_jax.py FOLDER`."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import workers
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import hungarian_core as hc
from hungarian_jax import JaxBackend

jax.config.update("jax_disable_most_optimizations", True)  # compiling is most of the time
MESH = jax.make_mesh((workers.WORKERS,), ("batch",), axis_types=(AxisType.Auto,))
BATCH = PartitionSpec("batch")

mapped = JaxBackend(axis_name="batch")
calls = workers.watch(mapped)


def step(name: str, backend: Any, *arrays: jax.Array) -> Any:
    """Return the losses and gradients of one worker, with a first axis for the workers."""

    def total(logits: jax.Array, boxes: jax.Array) -> Any:
        found = workers.losses(name, (logits, boxes, *arrays[2:]), backend)
        return found["total"], {k: x[None] for k, x in found.items()}

    slopes, found = jax.grad(total, argnums=(0, 1), has_aux=True)(*arrays[:2])
    return found, slopes


@functools.cache
def program(name: str, several: bool) -> Any:
    """Return the step of a loss, compiled, on one device or on several."""
    one = functools.partial(step, name, mapped if several else None)
    if several:
        one = jax.shard_map(one, mesh=MESH, in_specs=BATCH, out_specs=BATCH)
    return jax.jit(one)


def of_one(name: str, arrays: workers.Arrays) -> Any:
    """Return the losses and gradients of the whole batch."""
    found, slopes = program(name, False)(*arrays)
    return {k: x[0] for k, x in found.items()}, slopes


def of_both(name: str, arrays: workers.Arrays) -> Any:
    """Return the losses and gradients of both workers."""
    return program(name, True)(*arrays)


def matchings() -> dict[str, jax.Array]:
    """Return what solvers match in a mapped program, with masks of each worker or of all."""
    cost = np.random.default_rng(0).uniform(size=(4, 3, 5)).astype(np.float32)
    half = np.array([[True, True, True], [True, False, True]])
    mask = np.concatenate([half, half])

    def match(solver: Any, cost: jax.Array, mask: jax.Array) -> jax.Array:
        return hc.assign(cost, row_mask=mask, solver=solver).col4row

    def both(cost: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
        found = {}
        for solver in ("auto", "core", "scipy"):
            for whose, of in (("each", BATCH), ("all", PartitionSpec())):
                one = jax.shard_map(
                    functools.partial(match, solver),
                    mesh=MESH, in_specs=(BATCH, of), out_specs=BATCH,
                )  # fmt: skip
                found[f"{solver}/of_{whose}"] = one(cost, mask if whose == "each" else half)
        return found

    return {
        **jax.jit(both)(cost, mask),
        "outside/of_each": match("auto", cost, mask),
        "outside/of_all": match("auto", cost, mask),
    }


def sharded() -> dict[str, np.ndarray]:
    """Return the results of the program for one device, of arrays that lie on both."""
    arrays = workers.scenes("uneven")
    laid = tuple(jax.device_put(x, NamedSharding(MESH, BATCH)) for x in arrays)
    return workers.named("softmax/uneven/sharded", *of_one("softmax", laid))


if __name__ == "__main__":
    assert jax.device_count() == workers.WORKERS
    found = workers.results("one", of_one, workers.COMPILED)
    found |= workers.results("several", of_both, workers.COMPILED)
    assert len(calls) == len(workers.COMPILED), "not one reduction in each program"
    found |= sharded() | {k: np.asarray(x) for k, x in matchings().items()}
    np.savez(Path(sys.argv[1]) / "found.npz", **found)
