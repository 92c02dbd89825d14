"""The JAX backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from hungarian_core import Backend, Problem, Solution, host_solver
from hungarian_jax import _callback, _gradient, _input, _namespace, _native


class JaxBackend(Backend):
    """JAX on any device.

    Args:
        axis_name: The mapped axis (of `shard_map`, `pmap` or `vmap`) over which a loss counts its
            pairs, if the batch is split over one.

    Examples:
        >>> hj.HungarianLoss([2], backend=hj.JaxBackend("batch"))
        HungarianLoss(slices=[2], backend=JaxBackend(axis_name='batch'))
    """

    name = "jax"

    def __init__(self, axis_name: str | None = None) -> None:
        self.axis_name = axis_name

    def __repr__(self) -> str:
        if self.axis_name is None:
            return super().__repr__()
        return f"JaxBackend(axis_name={self.axis_name!r})"

    def namespace(self, *arrays: Any) -> Any:
        return _namespace

    def asarray(self, x: Any, like: jax.Array | None = None) -> jax.Array:
        if isinstance(x, jax.Array):
            return x
        return _input.asarray(x, like, self)

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
        return _gradient.custom_vjp(forward, backward)

    def while_loop(self, cond: Any, body: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
        return jax.lax.while_loop(cond, body, _native.varying_as(state, state))

    def run(
        self, function: Callable[..., Any], *arrays: jax.Array, like: Any, options: Any = ()
    ) -> tuple[jax.Array, ...]:
        if any(self.is_traced(x) for x in arrays):
            return function(self, *arrays, *options)
        return _native.compiled_run(function, self, options, arrays)

    def host_call(
        self, function: Callable[..., Any], *arrays: jax.Array, like: Any
    ) -> tuple[jax.Array, ...]:
        if not any(self.is_traced(x) for x in arrays):
            return _callback.call_eagerly(function, arrays, like)
        return _native.varying_as(arrays, _callback.call_in_program(function, arrays, like))

    def solve(self, problem: Problem, *, solver: str) -> Solution | None:
        if any(self.is_traced(x) for x in problem[:4] if x is not None):
            return _native.in_program(problem, solver, self)
        on_host = self.on_host(problem.cost)
        if solver == "cuda" and not on_host:
            return _native.in_program(problem, solver, self)  # a program of this one step
        host = host_solver(solver) if solver != "auto" or on_host else None
        if host is None:
            return _native.compiled_core(*problem, self)
        if on_host and solver in ("auto", "native") and _native.registered(solver):
            found = _native.compiled(*problem)
            # Read here, in one step: `assign` would have to ask JAX for several.
            return found if np.asarray(found.status).any() else found._replace(status=None)
        return None

    def all_reduce(self, x: jax.Array) -> jax.Array:
        return x if self.axis_name is None else jax.lax.psum(x, self.axis_name)


backend = JaxBackend()
