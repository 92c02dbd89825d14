"""JAX's namespace of the Array API standard, with products of matrices in full precision.

Elsewhere an ambient setting decides: `jax.default_matmul_precision`, or, without one, the hardware,
which multiplies float32 in ten bits or seven. A matching decided by such costs may be another one.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def matmul(x1: Any, x2: Any, /) -> jax.Array:
    return jnp.matmul(x1, x2, precision=jax.lax.Precision.HIGHEST)


def tensordot(x1: Any, x2: Any, /, *, axes: Any = 2) -> jax.Array:
    return jnp.tensordot(x1, x2, axes=axes, precision=jax.lax.Precision.HIGHEST)


def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> jax.Array:
    return jnp.vecdot(x1, x2, axis=axis, precision=jax.lax.Precision.HIGHEST)


def __getattr__(name: str) -> Any:
    return getattr(jnp, name)
