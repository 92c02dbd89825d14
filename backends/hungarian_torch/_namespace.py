"""The Array API standard over PyTorch: that of array-api-compat, with some functions changed.

Products of matrices do not depend on what PyTorch is set to, see `_products.py`. What gathers along
an axis takes the place of `torch.take_along_dim`, which fixes the sizes of what it broadcasts in a
compiled program. `cumulative_sum` of array-api-compat looks its namespace up in a cache, of which
Dynamo (2.13) warns.
"""

from types import SimpleNamespace
from typing import Any

import array_api_compat.torch as compat
import torch
from array_api_compat.torch import *  # noqa: F403  (the names of the standard)
from torch import Tensor

from hungarian_torch._products import matmul, tensordot, vecdot

linalg = SimpleNamespace(
    **{**vars(compat.linalg), "matmul": matmul, "tensordot": tensordot, "vecdot": vecdot}
)


def __getattr__(name: str) -> Any:
    return getattr(compat, name)


def cumulative_sum(
    x: Tensor, /, *, axis: Any = None, dtype: Any = None, include_initial: Any = False
) -> Tensor:
    """Return the sums of `x` up to each entry, of small integers in int64."""
    if include_initial or (axis is None and x.ndim != 1):
        return compat.cumulative_sum(x, axis=axis, dtype=dtype, include_initial=include_initial)
    return torch.cumsum(x, axis or 0, dtype=dtype)


def take_along_axis(x: Tensor, indices: Tensor, /, *, axis: int = -1) -> Tensor:
    """Return the entries of `x` at places along an axis; the other axes broadcast."""
    axis = axis % x.dim()
    mine, theirs = x.shape, indices.shape
    if torch.compiler.is_compiling():
        shape = torch.broadcast_shapes(
            (*mine[:axis], 1, *mine[axis + 1 :]), (*theirs[:axis], 1, *theirs[axis + 1 :])
        )
    else:  # which takes ten times the time of a small gather
        shape = torch.Size(b if a == 1 else a for a, b in zip(mine, theirs, strict=True))
    front, behind = shape[:axis], shape[axis + 1 :]
    x = x.expand(*front, mine[axis], *behind)
    return torch.gather(x, axis, indices.expand(*front, theirs[axis], *behind))
