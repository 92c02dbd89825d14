"""The Array API standard over PyTorch: that of array-api-compat, with one function changed.

Its `cumulative_sum` looks its namespace up in a cache, of which Dynamo (2.13) warns.
"""

from typing import Any

import array_api_compat.torch as compat
import torch
from array_api_compat.torch import *  # noqa: F403  (the names of the standard)
from torch import Tensor


def __getattr__(name: str) -> Any:
    return getattr(compat, name)


def cumulative_sum(
    x: Tensor, /, *, axis: Any = None, dtype: Any = None, include_initial: Any = False
) -> Tensor:
    """Return the sums of `x` up to each entry, of small integers in int64."""
    if include_initial or (axis is None and x.ndim != 1):
        return compat.cumulative_sum(x, axis=axis, dtype=dtype, include_initial=include_initial)
    return torch.cumsum(x, axis or 0, dtype=dtype)
