"""Prove that an answer is optimal, by its duals and trusting no solver."""

from __future__ import annotations

import numpy as np

DOUBLE = 2.0**-52


def certify(
    problem: np.ndarray, col4row: np.ndarray, u: np.ndarray, v: np.ndarray
) -> dict[str, float]:
    """Check one problem's answer in float64; return its total, its gap and by how much duals miss.

    By weak duality no matching can cost less than ``sum(u) + sum(v)`` if ``u + v <= cost`` on
    every pair, and the duals of the longer side, where some stay unmatched, are at most 0. A
    matching that costs no more than that is optimal. The kernel works in double but hands duals
    out in the dtype of the costs: the tolerance is that rounding, and 64 ulps of double of the
    greatest cost for each row.

    Args:
        problem: `(n, m)` costs, as the solver got them.
        col4row: `(n,)`, the column of each row or -1.
        u: `(n,)` duals of the rows.
        v: `(m,)` duals of the columns.

    Raises:
        AssertionError: This is no matching, or the duals do not prove it.
    """
    n, m = problem.shape
    rows = np.flatnonzero(col4row >= 0)
    columns = col4row[rows]
    assert len(rows) == min(n, m) == len(np.unique(columns)), "not a matching"
    assert columns.max(initial=-1) < m, "not a matching"
    eps = float(np.finfo(problem.dtype).eps)
    u, v = u.astype(np.float64), v.astype(np.float64)
    total = float(problem[rows, columns].sum(dtype=np.float64))
    gap = abs(total - float(u.sum() + v.sum()))
    # A row at a time: a large problem shall not be copied.
    slack = (float((cost - v - dual).min()) for cost, dual in zip(problem, u, strict=True))
    infeasibility = max(0.0, -min(slack), (u if n > m else v).max() if n != m else 0.0)

    greatest = max(float(np.abs(row[np.isfinite(row)]).max(initial=0)) for row in problem)
    rounding = 64 * DOUBLE * greatest
    farthest = max(np.abs(u).max(), np.abs(v).max())
    assert infeasibility <= 2 * eps * farthest + rounding, f"u + v > cost by {infeasibility:.1e}"
    tolerance = eps * (np.abs(u).sum() + np.abs(v).sum()) + rounding * len(rows)
    assert gap <= tolerance, f"duality gap {gap:.1e} exceeds {tolerance:.1e}"
    return {"total": total, "gap": gap, "infeasibility": float(infeasibility), "greatest": greatest}
