"""The method of `assignment_matrix` that asks a trained network."""

from __future__ import annotations

from collections.abc import Mapping

from hungarian_core._backend import Array
from hungarian_core._dtypes import index_dtype
from hungarian_core._solvers.policies import among_valid
from hungarian_core.hnet.network import associate
from hungarian_core.relaxations import _checks
from hungarian_core.relaxations.problem import Relaxation, RelaxedProblem, allowed

_INF = float("inf")


def hnet(problem: RelaxedProblem, *, params: Mapping[str, Array]) -> Relaxation:
    """Return which pairs belong together by a network: `hungarian_core.hnet.associate`.

    It knows no forbidden pairs: they count as as far apart as any pair of their problem, and get 0.
    How far the sums of the side with fewer rows or columns are from 1 is up to the network.
    """
    _checks.network(params)
    xp, backend, open_ = problem.xp, problem.backend, allowed(problem)
    far = xp.max(
        xp.where(open_, backend.stop_gradient(problem.cost), -_INF), axis=(-2, -1), keepdims=True
    )
    distance = xp.where(open_, problem.cost, xp.where(xp.isfinite(far), far, 0))
    matrix = associate(
        distance, params, row_mask=problem.rows, col_mask=problem.cols, backend=backend
    )
    matrix = xp.where(open_, matrix, 0)
    off = backend.stop_gradient(_off(matrix, problem))
    index = index_dtype(xp)
    return Relaxation(matrix, xp.zeros_like(off, dtype=index), off)


def _off(matrix: Array, problem: RelaxedProblem) -> Array:
    """Return by how much the sum of a row or column is off at most, `[...]`."""
    xp = problem.xp
    real = among_valid(xp.ones_like(matrix, dtype=xp.bool), problem.rows, problem.cols)
    there = [xp.any(real, axis=axis) for axis in (-1, -2)]
    n, m = (xp.sum(xp.astype(x, matrix.dtype), axis=-1) for x in there)
    worst = xp.zeros_like(n)
    for axis, present, tight in ((-1, there[0], n <= m), (-2, there[1], m <= n)):
        excess = xp.sum(matrix, axis=axis) - 1
        below = tight[..., None] & (excess < 0)
        off = xp.max(xp.where(present, xp.where(below, -excess, excess), 0), axis=-1)
        worst = xp.where(off > worst, off, worst)
    return worst
