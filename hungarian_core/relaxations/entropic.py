"""Matchings regularised by their entropy: Sinkhorn's algorithm, and what is made of it.

The problem is ``min <C, P> + T sum P (log P - 1)`` over the matrices of `polytope`, where the side
with more valid rows or columns takes part as if dummies that cost nothing made the other side as
large. Those are all alike, so one slack row, or column, of their number as its sum stands for them.
The solution is ``P_ij = exp(f_i + g_j - C_ij / T)``, with multipliers f and g.
"""

from __future__ import annotations

from typing import NamedTuple

from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._dtypes import index_dtype
from hungarian_core.relaxations.implicit import with_implicit_gradient
from hungarian_core.relaxations.newton import Regulariser, solve_dual
from hungarian_core.relaxations.noise import noise_like
from hungarian_core.relaxations.polytope import Marginals, Polytope, polytope, sides
from hungarian_core.relaxations.problem import Relaxation, RelaxedProblem

_INF = float("inf")


def sinkhorn(
    problem: RelaxedProblem, *, temperature: float | Array, iterations: int, tolerance: float
) -> Relaxation:
    """Normalise columns and rows in turns, `iterations` times; the framework differentiates that.

    Reference: Sinkhorn & Knopp, Concerning nonnegative matrices and doubly stochastic matrices,
    1967; Cuturi, Sinkhorn distances, NeurIPS 2013; Adams & Zemel, Ranking via Sinkhorn propagation,
    2011, for differentiating through the steps.
    """
    xp, backend = problem.xp, problem.backend
    (kernel, *lines), rows_are_fewer = _balanced(problem, temperature)
    rows, cols = (_logarithms(kernel, x, k, xp) for x, k in zip(lines, (-1, -2), strict=True))
    f, g = xp.zeros_like(rows.mass), xp.zeros_like(cols.mass)
    changes = []
    for step in range(iterations):
        before, g = g, _best(kernel + f, cols, -2, backend)
        changes += [backend.stop_gradient(g - before)] if step else []
        f = _best(kernel + g, rows, -1, backend)
    last = _best(kernel + f, cols, -2, backend)
    changes.append(backend.stop_gradient(last - g))
    each = _Logarithms(*(x[None, ...] for x in cols))
    off = _off(xp.stack(changes, axis=0), each, xp)
    taken, off = _arrival(off, tolerance, xp), off[-1, ...]
    if sides(problem)[0]:  # the sums of columns may be those that have to be exact
        g = xp.where(rows_are_fewer[..., None, None], g, last)
        change = backend.stop_gradient(_best(kernel + g, rows, -1, backend) - f)
        off = xp.where(rows_are_fewer, off, _off(change, rows, xp))
    return _relaxation(problem, xp.exp(kernel + f + g), taken, off)


def sinkhorn_implicit(
    problem: RelaxedProblem, *, temperature: float | Array, iterations: int, tolerance: float
) -> Relaxation:
    """Solve to `tolerance` in up to `iterations` steps, and differentiate the solution.

    Reference: Eisenberger et al., A Unified Framework for Implicit Sinkhorn Differentiation, CVPR
    2022. See `newton` for how it is solved.
    """
    backend, xp = problem.backend, problem.xp
    (kernel, rows, cols), rows_are_fewer = _balanced(problem, temperature)
    value, taken, off = backend.run(
        _solved, backend.stop_gradient(kernel), rows.mass, cols.mass, rows_are_fewer,
        xp.zeros_like(rows_are_fewer, dtype=kernel.dtype) + tolerance,
        like=(0, 4, 4), options=(iterations,),
    )  # fmt: skip
    value = with_implicit_gradient(
        kernel, value, rows.mass > 0, cols.mass > 0, _derivative, backend
    )
    return _relaxation(problem, value, taken, off)


def gumbel_sinkhorn(
    problem: RelaxedProblem,
    *,
    temperature: float | Array,
    iterations: int,
    tolerance: float,
    noise_scale: float | Array,
    samples: int,
    seed: int | Array,
) -> Relaxation:
    """Return the mean of `sinkhorn` of `samples` costs that Gumbel noise is taken from.

    Iterations and residual are those of the worst sample.

    Reference: Mena et al., Learning Latent Permutations with Gumbel-Sinkhorn Networks, ICLR 2018.
    """
    xp = problem.xp
    noise = noise_like(problem.cost, samples, seed, "gumbel", problem.backend)
    rows, cols = (x if x is None else x[None, ...] for x in (problem.rows, problem.cols))
    cost = problem.cost[None, ...] - noise_scale * noise
    noisy = RelaxedProblem(cost, rows, cols, problem.solver, problem.backend, xp)
    found = sinkhorn(noisy, temperature=temperature, iterations=iterations, tolerance=tolerance)
    return Relaxation(
        xp.mean(found.matrix, axis=0),
        xp.max(found.iterations, axis=0),
        xp.max(found.residual, axis=0),
    )


def _solved(
    backend: Backend,
    kernel: Array,
    rows: Array,
    cols: Array,
    rows_are_fewer: Array,
    tolerance: Array,
    iterations: float,
) -> tuple[Array, Array, Array]:
    xp = backend.namespace(kernel)
    lines = (Marginals(mass, xp.ones_like(mass, dtype=xp.bool)) for mass in (rows, cols))
    found = solve_dual(
        backend, Polytope(kernel, *lines), rows_are_fewer, _REGULARISER, iterations, tolerance
    )
    return found.value, found.iterations, found.residual


def _balanced(problem: RelaxedProblem, temperature: float | Array) -> tuple[Polytope, Array]:
    """Return the problem with slack, which makes both sides sum to the same.

    And where the rows, without slack, are not more than the columns, `[...]` bool.
    """
    xp = problem.xp
    kernel, rows, cols = polytope(problem, temperature)
    tall, wide = sides(problem)
    row, col = rows.mass, cols.mass
    surplus = xp.sum(row, axis=-1) - xp.sum(col, axis=-1)
    if tall:
        more = (surplus > 0)[..., None]
        slack = xp.where(more & (row > 0), xp.zeros_like(row), -_INF)
        kernel = xp.concat([kernel, slack[..., :, None]], axis=-1)
        col = xp.concat([col, xp.where(more, surplus[..., None], 0)], axis=-1)
    if wide:
        more = (surplus < 0)[..., None]
        slack = xp.where(more & (col > 0), xp.zeros_like(col), -_INF)
        kernel = xp.concat([kernel, slack[..., None, :]], axis=-2)
        row = xp.concat([row, xp.where(more, -surplus[..., None], 0)], axis=-1)
    rows, cols = (Marginals(mass, xp.ones_like(mass, dtype=xp.bool)) for mass in (row, col))
    return Polytope(kernel, rows, cols), surplus <= 0


def _relaxation(problem: RelaxedProblem, matrix: Array, taken: Array, off: Array) -> Relaxation:
    """Return the result, without slack."""
    tall, wide = sides(problem)
    matrix = matrix[..., :-1, :] if wide else matrix
    matrix = matrix[..., :-1] if tall else matrix
    index = index_dtype(problem.xp)
    return Relaxation(matrix, problem.xp.astype(taken, index), off)


class _Logarithms(NamedTuple):
    """Of the masses of lines, with the axis of the entries of a line kept."""

    mass: Array  # 0 for a line that has no entries, or no mass
    some: Array  # bool, where it has


def _logarithms(level: Array, lines: Marginals, axis: int, xp: Namespace) -> _Logarithms:
    mass = lines.mass[..., :, None] if axis == -1 else lines.mass[..., None, :]
    some = xp.any(xp.isfinite(level), axis=axis, keepdims=True) & (mass > 0)
    return _Logarithms(xp.log(xp.where(some, mass, 1)), some)


def _best(level: Array, lines: _Logarithms, axis: int, backend: Backend) -> Array:
    """Return what to add to lines so that they sum to their masses."""
    xp = backend.namespace(level)
    top = xp.max(backend.stop_gradient(level), axis=axis, keepdims=True)
    top = xp.where(lines.some, top, 0)  # its gradient would be 0
    sums = xp.sum(xp.exp(level - top), axis=axis, keepdims=True)
    return lines.mass - top - xp.log(xp.where(lines.some, sums, 1))


def _off(change: Array, lines: _Logarithms, xp: Namespace) -> Array:
    """Return by how much the sums are off that `change` would set right, `[...]`."""
    mass = xp.exp(lines.mass)
    return xp.max(xp.abs(xp.where(lines.some, mass - mass * xp.exp(-change), 0)), axis=(-2, -1))


def _arrival(off: Array, tolerance: float | Array, xp: Namespace) -> Array:
    """Return after how many steps `off[k, ...]` was at most `tolerance`, or else k."""
    arrived = xp.cumulative_sum(xp.astype(off <= tolerance, xp.float32), axis=0)
    return 1 + xp.sum(xp.astype(arrived[:-1, ...] == 0, xp.float32), axis=0)


def _image(level: Array, xp: Namespace) -> Array:
    return xp.exp(level)


def _derivative(value: Array, xp: Namespace) -> Array:
    return value


def _row_update(level: Array, mass: Array, xp: Namespace) -> Array:
    top = xp.max(level, axis=-1)
    top = xp.where(top > -_INF, top, 0)
    sums = xp.sum(xp.exp(level - top[..., None]), axis=-1)
    return xp.log(mass) - top - xp.log(xp.where(sums > 0, sums, 1))


def _step_length(level: Array, direction: Array, slope: Array, xp: Namespace) -> Array:
    """Return log(1 + x) / x of the largest change x: the exponential grows no faster than that."""
    most = xp.max(xp.where(level > -_INF, xp.abs(direction), 0), axis=(-2, -1))
    some = most > 0.01
    return xp.where(some, xp.log1p(most) / xp.where(some, most, 1), 1)


_REGULARISER = Regulariser(_image, _derivative, _row_update, _step_length)
