"""What users pass to JAX that is no array of it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hungarian_core import Backend, host_array


def asarray(x: Any, like: jax.Array | None, backend: Backend) -> jax.Array:
    """Turn lists, numbers and NumPy's arrays of any kind into an array of JAX.

    Raises:
        TypeError: As `host_array`.
        ValueError: As `host_array`; or without 64 bits a number would become another one.
    """
    if isinstance(x, (list, tuple)) and any(isinstance(y, jax.Array) for y in jax.tree.leaves(x)):
        return jnp.asarray(x)
    if hasattr(x, "todense"):
        raise ValueError(
            f"a sparse {type(x).__name__} came; expected a dense array: pass x.todense(), with "
            "+inf, not 0, where a pair is forbidden"
        )
    wide = jax.config.jax_enable_x64
    array = host_array(x, like, backend, np.float64 if wide else np.float32)
    if not wide and array.itemsize == 8 and array.size:
        _check_that_32_bits_hold(array)
    return jnp.asarray(np.require(array, requirements="C"))


def _check_that_32_bits_hold(array: np.ndarray) -> None:
    """Refuse what JAX would wrap around or make infinite without a word."""
    if array.dtype.kind == "f":
        limits: Any = np.finfo(np.float32)
        finite = array[np.isfinite(array)]
        array = finite if finite.size else np.zeros(1)
    elif array.dtype.kind in "iu":
        limits = np.iinfo(np.int32 if array.dtype.kind == "i" else np.uint32)
    else:
        return
    least, most = array.min(), array.max()
    if least < limits.min or most > limits.max:
        raise ValueError(
            f"a {array.dtype} array with entries from {least} to {most} came, and JAX has "
            f"{limits.dtype} for it, up to {limits.max}: pass smaller numbers, or switch 64 bits "
            'on, jax.config.update("jax_enable_x64", True)'
        )
