"""`lapjv` of the packages lap and lapx, which trackers call."""

from typing import Any

import numpy as np

import hungarian_core as _core
from hungarian_core import _checks
from hungarian_core._registry import without_gradient
from hungarian_numpy._backend import backend


def lapjv(
    cost: Any, extend_cost: bool = False, cost_limit: float = float("inf"), return_cost: bool = True
) -> tuple[Any, ...]:
    """Solve one assignment problem by the contract of ``lap.lapjv``, for one change of an import.

    A tracker that says ``import lap`` says ``import hungarian_numpy as lap``. Solved exactly, in
    float64. A pair of +inf is never matched: where lapx would match it, at a total of infinity,
    both stay unmatched, and of the other pairs there are as many as there can be.

    Args:
        cost: `(n, m)`, real; of an array that requires a gradient, as a constant.
        extend_cost: Whether `cost` may be rectangular; with a finite `cost_limit` it always may.
        cost_limit: No pair is worth more: the total of ``cost - cost_limit`` over the pairs is as
            low as can be. It is the `unmatched_cost` of `hungarian_core.assign`.
        return_cost: Whether the total comes first.

    Returns:
        ``(total, x, y)``, or ``(x, y)``: the total of the matched pairs as a float, the column of
        each row and the row of each column, `(n,)` and `(m,)` of int32, -1 = unmatched. Among
        matchings of one total lapx may choose another.

    Raises:
        TypeError: What came does not hold numbers.
        ValueError: It is no matrix, not square without leave, or holds NaN or -inf, which lapx does
            not look for; `cost_limit` is NaN or -inf.

    Reference:
        ``lap.lapjv`` of lapx 0.11.1.

    Examples:
        >>> distance = np.array([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3]])
        >>> hn.lapjv(distance, extend_cost=True, cost_limit=0.5)
        (0.4, array([ 0, -1,  1], dtype=int32), array([0, 2], dtype=int32))
    """
    if cost is None:
        _checks.array("cost", cost)
    cost = backend.asarray(without_gradient(cost, backend))
    if cost.ndim != 2:
        raise ValueError(f"cost has shape {cost.shape}; expected a matrix (n, m)")
    limit = _checks.number("cost_limit", cost_limit, "a number, or inf for no limit")
    if limit == -np.inf:
        raise ValueError("cost_limit is -inf; expected a number, or inf for no limit")
    limited, may_differ = limit < np.inf, _checks.flag("extend_cost", extend_cost)
    if not (limited or may_differ) and cost.size:
        n, m = cost.shape
        if n != m:
            raise ValueError(
                f"cost has shape {cost.shape}; expected a square matrix: pass extend_cost=True, or "
                "a cost_limit, for one that is not"
            )
    if cost.dtype.kind == "f":
        cost = cost.astype(np.float64, copy=False)  # the limit is compared in that
    match = _core.assign(
        cost, unmatched_cost=limit if limited else None, partial=not limited, backend=backend
    )
    x, y = match.col4row.astype(np.int32), match.row4col.astype(np.int32)
    if not _checks.flag("return_cost", return_cost):
        return x, y
    rows = np.flatnonzero(x >= 0)
    return float(cost[rows, x[rows]].sum(dtype=np.float64)), x, y
