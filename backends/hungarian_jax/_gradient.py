"""Functions with a gradient of their own, which JAX may differentiate once and in reverse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

TWICE = (
    "this has a first derivative only: its gradient is computed in closed form, and "
    "differentiated again it would count as a constant. Wrap it in jax.lax.stop_gradient, or leave "
    "out what differentiates twice, such as jax.hessian"
)


def custom_vjp(
    forward: Callable[..., Any], backward: Callable[..., Any]
) -> Callable[..., jax.Array]:
    """Return a function as `hungarian_core.Backend.custom_vjp` says."""

    def kept(*xs: jax.Array) -> Any:
        out, residuals = forward(*xs)
        return out, (residuals, xs)

    def pull(both: Any, g: jax.Array) -> tuple[Any, ...]:
        residuals, xs = both
        return tuple(backward(residuals, _once(g, xs)))

    function = jax.custom_vjp(lambda *xs: forward(*xs)[0])
    function.defvjp(kept, pull)
    return function


@jax.custom_jvp
def _once(g: jax.Array, xs: Any) -> jax.Array:
    """Return `g`, in a backward pass that must not be differentiated by `xs`."""
    return g


def _slope(primals: Any, tangents: Any) -> tuple[Any, Any]:
    (g, _), (change, others) = primals, tangents
    if not all(isinstance(x, SymbolicZero) for x in jax.tree.leaves(others, is_leaf=_is_zero)):
        raise NotImplementedError(TWICE)
    return g, jnp.zeros_like(g) if _is_zero(change) else change


def _is_zero(x: Any) -> bool:
    return isinstance(x, SymbolicZero)


_once.defjvp(_slope, symbolic_zeros=True)
