"""The matrices that stand for a matching, soft or not, and what their rows and columns sum to.

They are not negative, and 0 at every pair that must not be matched. Valid rows and columns sum to
at most 1, and on the side with fewer of them, which may differ from sample to sample, to 1.
"""

from __future__ import annotations

from typing import NamedTuple

from hungarian_core._backend import Array
from hungarian_core._solvers.policies import among_valid
from hungarian_core.relaxations.problem import RelaxedProblem, allowed

_INF = float("inf")


class Marginals(NamedTuple):
    """What the rows of a batch of problems sum to, or its columns."""

    mass: Array  # [..., n], what each may sum to; 0 where it is not valid
    equality: Array  # [..., n] bool, whether it has to sum to that, and not to less


class Polytope(NamedTuple):
    """A batch of problems in the units of the temperature."""

    kernel: Array  # [..., n, m], -cost / temperature up to a constant; -inf where not allowed
    rows: Marginals
    cols: Marginals


def polytope(problem: RelaxedProblem, temperature: float | Array) -> Polytope:
    """Return the problem; `temperature` is a number or an array that broadcasts to `[...]`."""
    xp = problem.xp
    open_ = allowed(problem)
    cost = xp.where(open_, problem.cost, 0)
    # Subtracting one number from every pair changes no complete matching, and less is rounded. The
    # number has a gradient: beside a slack row, which costs nothing, it counts until the sums are
    # right.
    least = -xp.max(xp.where(open_, -cost, -_INF), axis=(-2, -1), keepdims=True)
    cost = cost - xp.where(xp.isfinite(least), least, 0)
    heat = xp.zeros_like(cost[..., :1, :1]) + _aligned(temperature)
    kernel = xp.where(open_, -cost / heat, -_INF)

    real = among_valid(xp.ones_like(open_), problem.rows, problem.cols)
    rows = xp.astype(xp.any(real, axis=-1), cost.dtype)
    cols = xp.astype(xp.any(real, axis=-2), cost.dtype)
    n, m = xp.sum(rows, axis=-1)[..., None], xp.sum(cols, axis=-1)[..., None]
    every_row, every_col = xp.ones_like(rows, dtype=xp.bool), xp.ones_like(cols, dtype=xp.bool)
    return Polytope(
        kernel, Marginals(rows, every_row & (n <= m)), Marginals(cols, every_col & (m <= n))
    )


def _aligned(temperature: float | Array) -> float | Array:
    if isinstance(temperature, (int, float)) or temperature.ndim == 0:
        return temperature
    return temperature[..., None, None]


def sides(problem: RelaxedProblem) -> tuple[bool, bool]:
    """Say whether there may be more rows than columns, and more columns than rows."""
    *_, n, m = problem.backend.shape(problem.cost)
    if problem.rows is None and problem.cols is None and isinstance(n, int) and isinstance(m, int):
        return n > m, m > n
    return True, True
