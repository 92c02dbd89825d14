"""Solving as one operator, which compilers and transforms of PyTorch take as a whole.

`torch.compile` sees shapes only (the fake), `torch.func.vmap` merges its axis into the batch.
The operator has no gradient: a matching is a constant.
"""

from typing import Any

import torch
from torch import Tensor

from hungarian_core import get_backend, solve

_Five = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@torch.library.custom_op("hungarian_core::solve", mutates_args=())
def solve_opaquely(
    cost: Tensor,
    row_mask: Tensor | None,
    col_mask: Tensor | None,
    unmatched_cost: Tensor | None,
    solver: str,
) -> _Five:
    """Solve as an eager call would, on the tensors at hand."""
    backend = get_backend("torch")
    return tuple(solve(cost, row_mask, col_mask, unmatched_cost, solver=solver, backend=backend))


@solve_opaquely.register_fake
def _(cost: Tensor, row_mask: Any, col_mask: Any, unmatched_cost: Any, solver: str) -> _Five:
    size, n, m = cost.shape
    return (
        cost.new_empty((size, n), dtype=torch.int64), cost.new_empty((size, m), dtype=torch.int64),
        cost.new_empty((size, n)), cost.new_empty((size, m)),
        cost.new_empty((size,), dtype=torch.bool),
    )  # fmt: skip


@solve_opaquely.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
    *arrays, solver = arguments
    k = info.batch_size
    merged = []
    for x, dim in zip(arrays, in_dims[:4], strict=True):
        if x is not None:
            x = x.unsqueeze(0).expand(k, *x.shape) if dim is None else x.movedim(dim, 0)
            x = x.reshape(k * x.shape[1], *x.shape[2:])
        merged.append(x)
    found = solve_opaquely(*merged, solver)
    size = merged[0].shape[0] // k
    return tuple(x.reshape(k, size, *x.shape[1:]) for x in found), (0,) * 5
