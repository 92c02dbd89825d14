"""Bring masks and unmatched costs to the form of a `Problem`, and tell where digits are lost."""

from __future__ import annotations

import warnings
from typing import Any

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, DType, Namespace
from hungarian_core._registry import without_gradient
from hungarian_core._solvers.policies import among_valid
from hungarian_core._tracing import level_of_caller

_INF = float("inf")


def mask_of(
    name: str,
    mask: Any,
    shape: tuple[Any, ...],
    cost: Array,
    backend: Backend,
    xp: Namespace,
) -> Array:
    """Return a checked mask of `shape`, where `cost` lies."""
    found = backend.asarray(mask, like=cost)
    if isinstance(mask, (list, tuple)) and 0 in backend.shape(found):
        found = xp.astype(found, xp.bool)  # of a list without entries nobody knows the kind
    _checks.mask(name, found, shape, backend, xp)
    return found


def checked_masks(
    row_mask: Any, col_mask: Any, cost: Array, backend: Backend, xp: Namespace
) -> tuple[Array | None, Array | None]:
    """Return the masks of the rows and of the columns of `cost[..., n, m]`, checked."""
    if row_mask is None and col_mask is None:
        return None, None
    *batch, n, m = backend.shape(cost)
    return (
        None if row_mask is None
        else mask_of("row_mask", row_mask, (*batch, n), cost, backend, xp),
        None if col_mask is None
        else mask_of("col_mask", col_mask, (*batch, m), cost, backend, xp),
    )  # fmt: skip


def unmatched_cost_of(
    unmatched_cost: Any,
    shape: tuple[Any, ...],
    cost: Array,
    rows: Array | None,
    backend: Backend,
    xp: Namespace,
    *,
    constant: bool = True,
) -> Array:
    """Return the cost of leaving a row unmatched, `[..., n]`, in the dtype of `cost`.

    A constant for differentiation, unless `constant` is False.

    Raises:
        ValueError: Its shape or dtype do not fit, or the dtype of `cost` does not hold it, where
            that can be seen.
    """
    if constant:
        unmatched_cost = without_gradient(unmatched_cost, backend)
    given = backend.asarray(unmatched_cost, like=cost)
    if constant:
        given = backend.stop_gradient(given)
    _checks.real("unmatched_cost", given, xp)
    came = backend.shape(given)
    _checks.unmatched_cost_shape(came, shape)
    if len(came) == len(shape) - 2:
        given = given[..., None]
    too_large = None
    if xp.isdtype(given.dtype, "real floating"):
        narrow = xp.finfo(cost.dtype)
        if xp.finfo(given.dtype).bits > narrow.bits:
            too_large = xp.isfinite(given) & (xp.abs(given) > float(narrow.max))
            # NumPy would warn of it, beside an invalid row too.
            given = xp.where(too_large & (given > 0), _INF, given)
            given = xp.where(too_large & (given < 0), -_INF, given)
    found = xp.broadcast_to(xp.astype(given, cost.dtype, copy=False), shape[:-1])
    if too_large is not None and backend.readable(too_large):
        too_large = xp.broadcast_to(too_large, shape[:-1])
        _checks.fits(
            "unmatched_cost", too_large if rows is None else too_large & rows, cost.dtype, xp
        )
    warn_if_rounded("unmatched_cost", given.dtype, found, rows, backend, xp)
    return found


def both(a: Any, b: Any, backend: Backend) -> tuple[Array, Array]:
    """Return two inputs as arrays; numbers and lists adapt to the other, whichever it is."""
    if isinstance(b, (list, tuple, int, float)):
        a = backend.asarray(a)
        return a, backend.asarray(b, like=a)
    b = backend.asarray(b)
    return backend.asarray(a, like=b), b


def warn_if_rounded(
    name: str, dtype: DType, x: Array, valid: Array | None, backend: Backend, xp: Namespace
) -> None:
    """Warn, once for each line that calls, if valid integers are too large for their floats.

    It takes a pass over the floats `x` that integers of `dtype` became, if values can be read
    without a wait.
    """
    if not xp.isdtype(dtype, "integral") or not backend.readable(x):
        return
    kind, digits = ("float32", 24) if x.dtype == xp.float32 else ("float64", 53)
    # The next integer is rounded to 2**digits itself.
    large = xp.abs(x) >= 2.0**digits
    large = large if valid is None else large & valid
    if backend.readable(large) and bool(xp.any(large)):
        warnings.warn(
            f"{name} holds integers of 2**{digits} or more, which are solved as {kind} and rounded "
            "to it: the matching and its cost may be off by the rounding; subtract what all have "
            "in common, or divide",
            UserWarning,
            stacklevel=level_of_caller(),
        )


def valid_pairs(rows: Array | None, cols: Array | None, cost: Array, xp: Namespace) -> Array | None:
    """Return which entries `[..., n, m]` are valid, None for all."""
    if rows is None and cols is None:
        return None
    return among_valid(xp.ones_like(cost, dtype=xp.bool), rows, cols)
