"""The JAX backend."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hungarian_core import Backend, Solution, solve


class JaxBackend(Backend):
    """JAX on any device.

    Args:
        axis_name: The mapped axis (of `shard_map`, `pmap` or `vmap`) over which a
            loss counts its pairs, if the batch is split over one.
    """

    name = "jax"

    def __init__(self, axis_name: str | None = None) -> None:
        self.axis_name = axis_name

    def asarray(self, x: Any, like: jax.Array | None = None) -> jax.Array:
        return x if isinstance(x, jax.Array) else jnp.asarray(x)

    def is_traced(self, x: jax.Array) -> bool:
        return isinstance(x, jax.core.Tracer)

    def on_host(self, x: jax.Array) -> bool:
        # A traced program stays whole: a callback would stall an accelerator.
        return not self.is_traced(x) and all(d.platform == "cpu" for d in x.devices())

    def stop_gradient(self, x: jax.Array) -> jax.Array:
        return jax.lax.stop_gradient(x)

    def custom_vjp(
        self, forward: Callable[..., Any], backward: Callable[..., Any]
    ) -> Callable[..., jax.Array]:
        function = jax.custom_vjp(lambda *xs: forward(*xs)[0])
        function.defvjp(forward, lambda residuals, g: tuple(backward(residuals, g)))
        return function

    def while_loop(self, cond: Any, body: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
        return jax.lax.while_loop(cond, body, state)

    def host_call(
        self, function: Callable[..., Any], *arrays: jax.Array, like: Any
    ) -> tuple[jax.Array, ...]:
        if not any(self.is_traced(x) for x in arrays):
            results = function(*(np.asarray(x) for x in arrays))
            (device, *_) = arrays[0].devices()
            return tuple(
                jax.device_put(np.asarray(r, dtype), device)
                for r, (_, dtype) in zip(results, like, strict=True)
            )

        def typed(*values: Any) -> tuple[np.ndarray, ...]:
            results = function(*(np.asarray(x) for x in values))
            return tuple(np.asarray(r, d) for r, (_, d) in zip(results, like, strict=True))

        shapes = tuple(jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in like)
        return jax.pure_callback(typed, shapes, *arrays, vmap_method="broadcast_all")

    def solve(
        self, cost: Any, row_mask: Any, col_mask: Any, unmatched_cost: Any, *, solver: str
    ) -> Solution | None:
        if solver != "core" or self.is_traced(cost):
            return None
        return _compiled(cost, row_mask, col_mask, unmatched_cost)

    def all_reduce(self, x: jax.Array) -> jax.Array:
        return x if self.axis_name is None else jax.lax.psum(x, self.axis_name)


backend = JaxBackend()

# Eager calls compile the core once per shape; a bare while_loop would compile at every call.
_compiled = jax.jit(functools.partial(solve, solver="core", backend=backend))
