"""Bring concrete arrays of any framework to the host."""

from __future__ import annotations

from typing import Any

import numpy as np

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend
from hungarian_core._dtypes import solving_dtype
from hungarian_core._registry import get_backend
from hungarian_core.assignment import Assignment
from hungarian_core.inspection import _inputs


def to_host(name: str, x: Array, backend: str | Backend | None = None) -> np.ndarray:
    """Return the values of `x` as a NumPy array of its own, half precision as float32.

    The array may lie on an accelerator and may need a gradient.

    Raises:
        ValueError: `x` is a symbol in a program being traced.
    """
    _checks.array(name, x)
    backend = get_backend(backend, **{name: x})
    x = backend.asarray(x)
    _inputs.concrete(name, backend.is_traced(x))
    x = backend.stop_gradient(x)
    xp = backend.namespace(x)
    _checks.real(name, x, xp)
    if xp.isdtype(x.dtype, "real floating"):  # NumPy has no bfloat16
        x = xp.astype(x, solving_dtype(x.dtype, xp), copy=False)
    values: list[np.ndarray] = []

    def keep(value: np.ndarray) -> tuple[()]:
        # Copied: what the call shows may be memory of a tensor that training goes on to write.
        values.append(np.array(value))
        return ()

    backend.host_call(keep, x, like=())
    return values[0]


def assignment_to_host(
    assignment: Assignment, backend: str | Backend | None = None
) -> tuple[np.ndarray, ...]:
    """Return the fields of an assignment, floats as float64."""
    _inputs.assignment(assignment)
    fields = zip(Assignment._fields, assignment, strict=True)
    found = (to_host(f"assignment.{name}", x, backend) for name, x in fields)
    return tuple(x.astype(np.float64) if x.dtype.kind == "f" else x for x in found)


def mask_to_host(
    name: str, mask: Any, shape: tuple[int, ...], backend: str | Backend | None = None
) -> np.ndarray:
    """Return a boolean mask of `shape`; None stands for all True, batch axes may be missing."""
    if mask is None:
        return np.ones(shape, np.bool_)
    found = to_host(name, mask, backend)
    if _inputs.extends(found.shape, shape, 1):
        found = np.broadcast_to(found, shape)
    host = Backend()
    _checks.mask(name, found, shape, host, host.namespace(found))
    return found
