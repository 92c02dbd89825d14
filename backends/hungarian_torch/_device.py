"""Solving, and the passes of losses, on a CUDA device, on the current stream, without a wait."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from hungarian_core import Problem, Solution, host_solver
from hungarian_torch._inputs import is_symbol
from hungarian_torch._operator import Six, forms, mapped

_DTYPES = {
    torch.float32: np.dtype("float32"), torch.float64: np.dtype("float64"),
    torch.int64: np.dtype("int64"), torch.bool: np.dtype("bool"),
}  # fmt: skip


def serves(cost: Tensor, solver: str) -> bool:
    """Say whether the kernel is what solves: it is asked for, and the costs lie on such a device.

    Raises:
        ImportError: It does not load.
        ValueError: The device is none that it runs on.
    """
    if solver != "cuda" or not cost.is_cuda:
        return False
    _check(cost.device.index or 0)
    return True


@torch.compiler.assume_constant_result
@functools.cache
def _check(ordinal: int) -> None:
    if torch.version.hip is not None:
        raise ValueError("solver='cuda' runs on CUDA devices, and this PyTorch has those of ROCm")
    solver: Any = host_solver("cuda")
    if not solver.serves(ordinal):
        raise ValueError(f"solver='cuda' does not run on cuda:{ordinal}: {solver.describe()}")


def launch(problem: Problem) -> Solution:
    """Launch what solves a problem; the results are there as soon as their stream gets so far."""
    cost, rows, cols, price, maximize, nan = problem
    device: Any = host_solver("cuda")
    *batch, n, m = cost.shape
    size = math.prod(batch)
    found = forms(cost)
    cost = (cost.resolve_neg() if cost.is_neg() else cost).reshape(size, n, m)
    rows = None if rows is None else rows.contiguous()
    cols = None if cols is None else cols.contiguous()
    if price is not None:
        price = (price.resolve_neg() if price.is_neg() else price).reshape(size, n)
    shape, dtype = tuple(cost.shape), _DTYPES[cost.dtype]
    workspace = cost.new_empty(device.workspace(shape, dtype), dtype=torch.uint8)
    device.launch(
        cost.data_ptr(), shape, cost.stride(), dtype,
        0 if rows is None else rows.data_ptr(), 0 if cols is None else cols.data_ptr(),
        0 if price is None else price.data_ptr(), None if price is None else price.stride(),
        maximize, nan, [x.data_ptr() for x in found], workspace.data_ptr(), _stream(cost.device),
    )  # fmt: skip
    return Solution(*found)


def passes(solver: str, arrays: Sequence[Tensor]) -> Callable[..., tuple[Tensor, ...]] | None:
    """Return what calls a pass on such tensors, as `Backend.passes` does."""
    if not serves(arrays[0], solver):
        return None
    for x in arrays:
        # Compilers fuse what these do, and what lies at the address of a subclass is not known.
        if is_symbol(x) or type(x) not in (Tensor, Parameter):
            return None
    return _pass


def _pass(name: str, *arrays: Tensor, like: Any, **options: Any) -> tuple[Tensor, ...]:
    """Launch a pass over tensors, of which results have the shapes and dtypes of `like`."""
    device: Any = host_solver("cuda")
    given = [(x.resolve_neg() if x.is_neg() else x).contiguous() for x in arrays]
    found = [given[0].new_empty(shape, dtype=dtype) for shape, dtype in like]
    here, there = (
        [device.placed(x.data_ptr(), tuple(x.shape), _DTYPES[x.dtype]) for x in some]
        for some in (given, found)
    )
    device.passes[name](here, there, _stream(given[0].device), **options)
    return tuple(found)


def _stream(device: torch.device) -> int:
    return int(torch.cuda.current_stream(device).cuda_stream)


# Without the tag of operators that copy to the host: a graph of CUDA may hold it.
@torch.library.custom_op("hungarian_core::solve_on_device", mutates_args=(), device_types="cuda")
def solve_on_device(
    cost: Tensor,
    row_mask: Tensor | None,
    col_mask: Tensor | None,
    unmatched_cost: Tensor | None,
    maximize: bool,
    nan: str,
) -> Six:
    """Solve as an eager call would, on the tensors at hand."""
    return tuple(launch(Problem(cost, row_mask, col_mask, unmatched_cost, maximize, nan)))


solve_on_device.register_fake(forms)


@solve_on_device.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
    fields = mapped(info.batch_size, in_dims[:4], arguments[:4])
    return solve_on_device(*fields, *arguments[4:]), (0,) * 6
