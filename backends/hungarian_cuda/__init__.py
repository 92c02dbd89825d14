"""The solver on CUDA devices: batches of assignment problems solved where the costs lie.

And the passes of detection losses. `hungarian_core` finds it by its entry point, and the adapters
call it for arrays in the memory of a device. A call launches one kernel and returns: it waits for
nothing and reads nothing, so it may be captured, and what becomes of a problem is told by its
status alone.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hungarian_core import Solution
from hungarian_cuda._launcher import ABI, KINDS, check, function, message, symbol
from hungarian_cuda._passes import PASSES, Placed

NAN = ("raise", "worst", "forbid")  # in the order of the interface's numbers
LEAST_CAPABILITY = (7, 0)  # what the PTX is made for
_pack = struct.Struct("24q").pack  # hungarian_cuda_batch of src/hungarian_cuda.h, field by field


def solve(
    cost: NDArray[Any],
    row_mask: NDArray[np.bool_] | None = None,
    col_mask: NDArray[np.bool_] | None = None,
    unmatched_cost: NDArray[Any] | None = None,
    maximize: bool = False,
    nan: str = "raise",
) -> Solution:
    """Refuse arrays in host memory, which is where NumPy's are.

    Raises:
        ValueError: Always; adapters whose arrays lie on a device call `launch`.
    """
    raise ValueError(
        f"costs of shape {cost.shape} came in host memory; solver='cuda' takes tensors of PyTorch "
        "and arrays of JAX on a CUDA device: move them there, or choose solver='auto'"
    )


def launch(
    cost: int,
    shape: tuple[int, ...],
    strides: Sequence[int] | None,
    dtype: np.dtype[Any],
    row_mask: int,
    col_mask: int,
    unmatched_cost: int,
    unmatched_cost_strides: Sequence[int] | None,
    maximize: bool,
    nan: str,
    results: Sequence[int],
    workspace: int,
    stream: int,
) -> None:
    """Launch on a stream what solves a batch of problems given by addresses on a device.

    Nothing can be checked here, and nothing is waited for: what lies at an address is up to the
    caller, who keeps it alive until the stream has come so far.

    Args:
        cost: The address of the costs.
        shape: Theirs, `(b, n, m)`.
        strides: Theirs, in elements; None if they are row-major.
        dtype: Of the costs, of `unmatched_cost`, and of the results that are no indices.
        row_mask: The address of row-major bytes, or 0.
        col_mask: The same.
        unmatched_cost: The address of prices, or 0.
        unmatched_cost_strides: Two, in elements; None likewise.
        maximize: As for `hungarian_core.assign`.
        nan: As for `hungarian_core.assign`.
        results: The addresses of col4row and row4col, int64, then of the cost, u and v, and of the
            status, uint8: the fields of a `hungarian_core.Solution`, row-major.
        workspace: The address of as many bytes as `workspace` says, or 0.
        stream: Of the driver; 0 is the default one.

    Raises:
        RuntimeError: The driver refuses.
        ValueError: An argument is out of range.
    """
    packed = _packed(
        shape, strides, dtype, (cost, row_mask, col_mask, unmatched_cost),
        unmatched_cost_strides, maximize, nan, results, workspace,
    )  # fmt: skip
    check(_solve(packed, stream))


@functools.lru_cache(maxsize=1024)
def workspace(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return how many bytes of working memory a batch of this shape wants on the device."""
    some = (8,) * 4
    packed = _packed(shape, None, dtype, some, None, False, "raise", (8,) * 6, 8)
    return int(_workspace(packed))


def _packed(
    shape: tuple[int, ...],
    strides: Sequence[int] | None,
    dtype: np.dtype[Any],
    given: tuple[int, ...],
    unmatched_cost_strides: Sequence[int] | None,
    maximize: bool,
    nan: str,
    results: Sequence[int],
    workspace: int,
) -> bytes:
    size, n, m = shape
    cost, row_mask, col_mask, unmatched_cost = given
    return _pack(
        ABI, KINDS[dtype], size, n, m, cost, *(strides or (n * m, m, 1)), row_mask, col_mask,
        unmatched_cost, *(unmatched_cost_strides or (n, 1)), maximize, NAN.index(nan), 64,
        *results, workspace,
    )  # fmt: skip


def serves(ordinal: int) -> bool:
    """Say whether the kernel runs on a device, by its number in this process."""
    return _examined(ordinal)[1] >= LEAST_CAPABILITY


def describe() -> str:
    """Say which devices there are, and which of them the kernel runs on."""
    count = _devices()
    if not count:
        return "no CUDA device"
    lines = []
    for ordinal in range(count):
        name, (major, minor) = _examined(ordinal)
        remark = "" if serves(ordinal) else ", too old for the kernel"
        lines.append(f"cuda:{ordinal} {name}, compute capability {major}.{minor}{remark}")
    return "; ".join(lines)


@functools.cache
def _examined(ordinal: int) -> tuple[str, tuple[int, int]]:
    name = ctypes.create_string_buffer(256)
    found = _device(ordinal, name, len(name))
    if found < 0:
        raise RuntimeError(message().decode())
    return name.value.decode(), divmod(found, 10)


_open = function("hungarian_cuda_open", ctypes.c_int64)
_solve = function("hungarian_cuda_solve", ctypes.c_int64, ctypes.c_char_p, ctypes.c_void_p)
_workspace = function("hungarian_cuda_workspace", ctypes.c_int64, ctypes.c_char_p)
_devices = function("hungarian_cuda_devices", ctypes.c_int64)
_device = function(
    "hungarian_cuda_device", ctypes.c_int64, ctypes.c_int64, ctypes.c_char_p, ctypes.c_int64
)
if _open():
    raise ImportError(message().decode())

# What `hungarian_core` and the adapters may ask this solver for.
solve.describe = describe  # type: ignore[attr-defined]  # functions take attributes
solve.launch = launch  # type: ignore[attr-defined]  # as above
solve.workspace = workspace  # type: ignore[attr-defined]  # as above
solve.passes = PASSES  # type: ignore[attr-defined]  # as above
solve.placed = Placed  # type: ignore[attr-defined]  # as above
solve.serves = serves  # type: ignore[attr-defined]  # as above
solve.symbol = symbol  # type: ignore[attr-defined]  # as above

__all__ = ["describe", "launch", "solve", "workspace"]
__dir__ = __all__.copy
