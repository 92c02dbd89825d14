"""The native solver on tensors in host memory, by their addresses."""

import numpy as np
import torch
from torch import Tensor

from hungarian_core import Problem, Solution, host_solver

_tensor = torch.from_numpy
# With the bytes of an entry.
_DTYPES = {
    torch.float32: (np.dtype("float32"), 4), torch.float64: (np.dtype("float64"), 8),
}  # fmt: skip


def solve_in_place(problem: Problem, solver: str) -> Solution | None:
    """Solve without a copy, or decline what only the way through NumPy can do.

    For a small problem that way would take longer than the solver.
    """
    at = getattr(host_solver(solver), "at", None)
    cost, rows, cols, unmatched_cost, maximize, nan = problem
    if at is None or cost.dim() > 3:
        return None
    for x in (cost, rows, cols, unmatched_cost):
        if x is not None and not (type(x) is Tensor and x.is_cpu):
            return None  # what lies at the address of a subclass is not known
    dtype, width = _DTYPES[cost.dtype]
    cost = _aligned(cost, width)
    unmatched_cost = None if unmatched_cost is None else _aligned(unmatched_cost, width)
    rows = None if rows is None else rows.contiguous()
    cols = None if cols is None else cols.contiguous()
    found = at(
        cost.data_ptr(), cost.shape, None if cost.is_contiguous() else cost.stride(), dtype,
        0 if rows is None else rows.data_ptr(), 0 if cols is None else cols.data_ptr(),
        0 if unmatched_cost is None else unmatched_cost.data_ptr(),
        None if unmatched_cost is None else unmatched_cost.stride(),
        maximize, nan,
    )  # fmt: skip
    col4row, row4col, total, u, v, status = found
    return Solution(
        _tensor(col4row), _tensor(row4col), _tensor(total), _tensor(u), _tensor(v),
        None if status is None else _tensor(status),
    )  # fmt: skip


def _aligned(x: Tensor, width: int) -> Tensor:
    """Return a tensor whose entries, so many bytes wide, lie as they are, at multiples of that."""
    if x.is_neg():
        x = x.resolve_neg()
    return x.clone() if x.data_ptr() % width else x
