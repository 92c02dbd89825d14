"""Calls from JAX to a function of NumPy: at once, or by a node of a program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Forms = tuple[tuple[tuple[Any, ...], Any], ...]


def call_eagerly(function: Callable[..., Any], arrays: Any, like: Forms) -> tuple[jax.Array, ...]:
    """Return the results of a call that is made now, on the device of the first array."""
    results = function(*(np.asarray(x) for x in arrays))
    (device, *_) = arrays[0].devices()
    return tuple(
        jax.device_put(np.asarray(r, dtype), device)
        for r, (_, dtype) in zip(results, like, strict=True)
    )


def call_in_program(function: Callable[..., Any], arrays: Any, like: Forms) -> list[jax.Array]:
    """Return the results of a call that the program makes when it runs.

    It runs in a thread of XLA, where JAX does not know that a context allowed 64 bits, and would
    round what goes in and what comes out. So 64 bits travel as twice 32.
    """
    dtypes = [np.dtype(dtype) for _, dtype in like]
    given = [np.dtype(x.dtype) for x in arrays]

    def in_halves(*values: Any) -> tuple[np.ndarray, ...]:
        whole = (_whole(np.asarray(x), dtype) for x, dtype in zip(values, given, strict=True))
        results = zip(function(*whole), dtypes, strict=True)
        return tuple(_halves(np.asarray(r, dtype)) for r, dtype in results)

    shapes = tuple(
        jax.ShapeDtypeStruct((*shape, 2), jnp.uint32)
        if dtype.itemsize == 8
        else jax.ShapeDtypeStruct(shape, dtype)
        for (shape, _), dtype in zip(like, dtypes, strict=True)
    )
    sent = [lax.bitcast_convert_type(x, jnp.uint32) if x.dtype.itemsize == 8 else x for x in arrays]
    found = jax.pure_callback(in_halves, shapes, *sent, vmap_method="broadcast_all")
    return [
        lax.bitcast_convert_type(x, dtype) if dtype.itemsize == 8 else x
        for x, dtype in zip(found, dtypes, strict=True)
    ]


def _halves(x: np.ndarray) -> np.ndarray:
    """Return entries of 64 bits as two of 32, along a last axis."""
    if x.dtype.itemsize != 8:
        return x
    return np.ascontiguousarray(x).reshape(-1).view(np.uint32).reshape(*x.shape, 2)


def _whole(x: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Return the entries that came in halves."""
    if dtype.itemsize != 8:
        return x
    return np.ascontiguousarray(x).reshape(-1).view(dtype).reshape(x.shape[:-1])
