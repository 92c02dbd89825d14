"""The native solver: batches of assignment problems in C++, on the CPU, in several threads.

`hungarian_core` finds it by its entry point and calls it for arrays in host memory. What is here
for users is how many threads it may use: `set_num_threads`, `get_num_threads`, and
``HUNGARIAN_NUM_THREADS`` in the environment.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import operator
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hungarian_core import Solution
from hungarian_native._detection import box_losses, class_losses, matching_costs
from hungarian_native._library import ABI, finish
from hungarian_native._library import library as _library
from hungarian_native._library import path as _path

_solve = _library.hungarian_solve
_pack = struct.Struct("24q").pack  # hungarian_batch of src/hungarian.h, field by field
_NAN = {"raise": 0, "worst": 1, "forbid": 2}

_INDEX, _BYTE = np.dtype(np.int64), np.dtype(np.uint8)
# The dtypes' numbers in the interface.
_KINDS = {np.dtype(np.float32): 0, np.dtype(np.float64): 1}

_array, _empty, _addressof = np.ndarray, np.empty, ctypes.addressof
_bytes_of: Any = ctypes.c_char.from_buffer


def solve(
    cost: NDArray[Any],
    row_mask: NDArray[np.bool_] | None = None,
    col_mask: NDArray[np.bool_] | None = None,
    unmatched_cost: NDArray[Any] | None = None,
    maximize: bool = False,
    nan: str = "raise",
    *,
    num_threads: int = 0,
) -> Solution:
    """Solve a batch of problems given by the fields of a `hungarian_core.Problem`.

    The cost is read where it lies, whatever its strides.

    Args:
        cost: `(..., n, m)`, float32 or float64.
        row_mask: `(..., n)` bool.
        col_mask: `(..., m)` bool.
        unmatched_cost: `(..., n)` in the dtype of `cost`.
        maximize: As for `hungarian_core.assign`.
        nan: As for `hungarian_core.assign`.
        num_threads: At most this many threads; 0 for what `get_num_threads` says.

    Returns:
        A `hungarian_core.Solution` of new arrays, whose status is None if all samples are solved.

    A call that takes long can be interrupted by Ctrl-C, in whichever thread it runs.

    Raises:
        ValueError: An argument is not of this form.
        MemoryError: The memory does not suffice.
        KeyboardInterrupt: SIGINT came while the call took long, and has its usual meaning.
    """
    shape, dtype = cost.shape, cost.dtype
    if len(shape) > 3:
        return _of_many_axes(cost, row_mask, col_mask, unmatched_cost, maximize, nan, num_threads)
    strides = None
    try:
        address = _addressof(_bytes_of(cost))  # faster than by `ctypes.data`
    except (TypeError, ValueError, BufferError):  # read-only, not row-major, or empty
        cost = _on_grid(cost)
        address, strides = cost.ctypes.data, [step // dtype.itemsize for step in cost.strides]
    else:
        if address % dtype.itemsize:
            cost = cost.copy()
            address = cost.ctypes.data
    row_mask_at = col_mask_at = unmatched_cost_at = 0
    unmatched_cost_strides: list[int] | None = None
    if row_mask is not None:
        row_mask = _flags("row_mask", row_mask, shape[:-1])
        row_mask_at = row_mask.ctypes.data
    if col_mask is not None:
        col_mask = _flags("col_mask", col_mask, (*shape[:-2], shape[-1]))
        col_mask_at = col_mask.ctypes.data
    if unmatched_cost is not None:
        if unmatched_cost.dtype != dtype or unmatched_cost.shape != shape[:-1]:
            raise ValueError(
                f"unmatched_cost is {unmatched_cost.dtype} of shape {unmatched_cost.shape}; "
                f"expected {dtype} of shape {shape[:-1]}"
            )
        unmatched_cost = _on_grid(unmatched_cost)
        unmatched_cost_at = unmatched_cost.ctypes.data
        unmatched_cost_strides = [step // dtype.itemsize for step in unmatched_cost.strides]
    if num_threads:
        num_threads = _threads(num_threads)
    return Solution(
        *solve_at(
            address, shape, strides, dtype, row_mask_at, col_mask_at,
            unmatched_cost_at, unmatched_cost_strides, maximize, nan, num_threads,
        )
    )  # fmt: skip


def solve_at(
    address: int,
    shape: tuple[int, ...],
    strides: Sequence[int] | None,
    dtype: np.dtype[Any],
    row_mask: int = 0,
    col_mask: int = 0,
    unmatched_cost: int = 0,
    unmatched_cost_strides: Sequence[int] | None = None,
    maximize: bool = False,
    nan: str = "raise",
    num_threads: int = 0,
) -> tuple[NDArray[Any] | None, ...]:
    """Solve a batch of problems given by addresses, for adapters whose arrays are not NumPy's.

    Nothing can be checked here: what lies at an address is up to the caller, who also keeps it
    alive. Costs may begin at any address, aligned to their dtype or not.

    Args:
        address: Of the cost.
        shape: Of the cost, `(n, m)` or `(b, n, m)`.
        strides: Of the cost, one for each axis, in elements; None if it is row-major.
        dtype: Of the cost, `unmatched_cost` and the results.
        row_mask: The address of row-major bytes, or 0.
        col_mask: The same.
        unmatched_cost: The address of the costs of unmatched rows, or 0.
        unmatched_cost_strides: One for each of their axes, in elements; None likewise.
        maximize: As for `solve`.
        nan: As for `solve`.
        num_threads: As for `solve`.

    Returns:
        The fields of a `Solution`, as NumPy arrays.
    """
    (
        number, size, n, m, batch, rows, cols,
        row4col_at, total_at, u_at, v_at, status_at, length,
    ) = _form(shape, dtype)  # fmt: skip
    policy = _NAN.get(nan)
    if policy is None:
        raise ValueError(f"nan is {nan!r}; expected one of {', '.join(map(repr, _NAN))}")
    step, across, down, unmatched_step, unmatched_across = n * m, m, 1, n, 1
    if strides is not None:
        *_, step, across, down = (0, *strides)
    if unmatched_cost_strides is not None:
        *_, unmatched_step, unmatched_across = (0, *unmatched_cost_strides)
    # All results in one piece of memory: to find its address costs more than a view of it.
    memory = _empty(length, _BYTE)
    at = _addressof(_bytes_of(memory))
    packed = _pack(
        ABI, number, size, n, m, address, step, across, down, row_mask, col_mask,
        unmatched_cost, unmatched_step, unmatched_across, maximize, policy, num_threads, 64,
        at, at + row4col_at, at + total_at, at + u_at, at + v_at, at + status_at,
    )  # fmt: skip
    unsolved = _solve(packed)
    if unsolved < 0:
        unsolved = finish(packed, unsolved)
    return (
        _array(rows, _INDEX, memory),
        _array(cols, _INDEX, memory, row4col_at),
        _array(batch, dtype, memory, total_at),
        _array(rows, dtype, memory, u_at),
        _array(cols, dtype, memory, v_at),
        _array(batch, _BYTE, memory, status_at) if unsolved else None,
    )


@functools.lru_cache(maxsize=1024)
def _form(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Return what follows from shape and dtype: extents, and where in memory the results begin."""
    if len(shape) not in (2, 3):
        raise ValueError(f"cost has shape {shape}; expected (n, m) or (b, n, m)")
    if dtype not in _KINDS:
        raise ValueError(f"cost has dtype {dtype}; expected float32 or float64, in native order")
    *batch, n, m = shape
    size, wide = math.prod(batch), dtype.itemsize
    starts = [0]
    for count, width in ((n, 8), (m, 8), (1, wide), (n, wide), (m, wide), (1, 1)):
        starts.append(starts[-1] + size * count * width)
    *starts, length = starts
    rows, cols = (*batch, n), (*batch, m)
    return (_KINDS[dtype], size, n, m, tuple(batch), rows, cols, *starts[1:], length or 1)


def _of_many_axes(
    cost: NDArray[Any],
    row_mask: NDArray[Any] | None,
    col_mask: NDArray[Any] | None,
    unmatched_cost: NDArray[Any] | None,
    maximize: bool,
    nan: str,
    num_threads: int,
) -> Solution:
    """Solve a problem of several batch axes as one of one."""
    *batch, n, m = cost.shape
    size = math.prod(batch)
    fields: list[Any] = []
    for x, own in ((cost, (n, m)), (row_mask, (n,)), (col_mask, (m,)), (unmatched_cost, (n,))):
        if x is not None and x.shape != (*batch, *own):
            raise ValueError(f"a {x.dtype} array has shape {x.shape}; expected {(*batch, *own)}")
        fields.append(x if x is None else x.reshape(size, *own))
    found: Any = solve(*[*fields, maximize, nan], num_threads=num_threads)
    return Solution(*(x if x is None else x.reshape(*batch, *x.shape[1:]) for x in found))


def _flags(name: str, mask: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a mask in row-major order, one byte for each flag."""
    if mask.dtype != np.bool_ or mask.shape != shape:
        raise ValueError(
            f"{name} is {mask.dtype} of shape {mask.shape}; expected bool of shape {shape}"
        )
    return np.ascontiguousarray(mask)


def _on_grid(x: NDArray[Any]) -> NDArray[Any]:
    """Return `x`, or a copy of it if its elements do not lie on the grid of their size."""
    off = any(step % x.itemsize for step in (*x.strides, x.ctypes.data))
    return np.ascontiguousarray(x) if off else x


def set_num_threads(threads: int) -> None:
    """Set how many threads a call may use, for the whole process.

    Args:
        threads: At most this many; 0 restores the default, which is `HUNGARIAN_NUM_THREADS` of
            the environment, else one in a worker process, forked or of `multiprocessing`, else
            `OMP_NUM_THREADS`, else one for each processor available.

    Raises:
        ValueError: `threads` is no integer, or negative.
    """
    _library.hungarian_set_num_threads(_threads(threads))


def get_num_threads() -> int:
    """Return how many threads a call may use."""
    return int(_library.hungarian_get_num_threads())


def _threads(threads: Any) -> int:
    """Return a number of threads, of Python or of NumPy."""
    number = -1
    if not isinstance(threads, bool):
        with contextlib.suppress(TypeError):
            number = operator.index(threads)
    # In C a number beyond 31 bits would be no more threads than one within.
    if not 0 <= number < 2**31:
        raise ValueError(f"the number of threads is {threads!r}; expected an integer of at least 0")
    return number


def describe() -> str:
    """Say which library was loaded, what instructions it uses, and how many threads."""
    variant = _library.hungarian_variant().decode()
    return f"{_path}, {variant}, threads: {get_num_threads()}"


def symbol(name: str) -> Any:
    """Return a function of the library that it may have been built without, or None."""
    return getattr(_library, name, None)


# What `hungarian_core` and the adapters may ask a host solver for.
solve.describe = describe  # type: ignore[attr-defined]  # functions take attributes
solve.at = solve_at  # type: ignore[attr-defined]  # as above
solve.symbol = symbol  # type: ignore[attr-defined]  # as above
solve.matching_costs = matching_costs  # type: ignore[attr-defined]  # as above
solve.class_losses = class_losses  # type: ignore[attr-defined]  # as above
solve.box_losses = box_losses  # type: ignore[attr-defined]  # as above

__all__ = ["describe", "get_num_threads", "set_num_threads", "solve", "solve_at"]
__dir__ = __all__.copy
