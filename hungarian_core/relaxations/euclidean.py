"""Matchings regularised by their squares: the projection onto the matrices of `polytope`.

The problem is ``min <C, X> + T/2 |X|^2``; its solution is the point of the polytope nearest to
-C / T. It is sparse, and at a temperature low enough it is the matching of least cost itself,
with 0 and 1 as its only entries.

Projecting by Dykstra's algorithm means to project onto the rows' constraints, then onto the
columns', and to add again each time what the same projection took away the time before. As all
constraints are linear, what is taken away is a number for each row and column, and with these f
and g the iterate is ``max(0, f_i + g_j - C_ij / T)``: each projection sets f, or g, to its best
value in the dual problem. `newton` does the same with a step of Newton's method in between.
"""

from __future__ import annotations

from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._dtypes import index_dtype
from hungarian_core.relaxations.implicit import with_implicit_gradient
from hungarian_core.relaxations.newton import Regulariser, solve_dual
from hungarian_core.relaxations.polytope import Marginals, Polytope, polytope
from hungarian_core.relaxations.problem import Relaxation, RelaxedProblem

_INF = float("inf")
_ROUNDS = 6  # measured: more change nothing
_HALVINGS = 5


def dykstra(
    problem: RelaxedProblem, *, temperature: float | Array, iterations: int, tolerance: float
) -> Relaxation:
    """Project to `tolerance` in up to `iterations` steps, and differentiate the solution.

    Reference: Zeng et al., DMM-Net: Differentiable Mask-Matching Network for Video Object
    Segmentation, ICCV 2019, for the relaxation; Dykstra, An algorithm for restricted least squares
    regression, 1983; Blondel et al., Smooth and Sparse Optimal Transport, AISTATS 2018, for the
    dual.
    """
    xp, backend = problem.xp, problem.backend
    kernel, rows, cols = polytope(problem, temperature)
    surplus = xp.sum(rows.mass, axis=-1) - xp.sum(cols.mass, axis=-1)
    value, tight_rows, tight_cols, taken, off = backend.run(
        _solved, backend.stop_gradient(kernel), rows.mass, cols.mass, rows.equality, cols.equality,
        surplus <= 0, xp.zeros_like(surplus) + tolerance,
        like=(0, 1, 2, 6, 6), options=(iterations,),
    )  # fmt: skip
    value = with_implicit_gradient(
        kernel, value, tight_rows > 0, tight_cols > 0, _derivative, backend
    )
    index = index_dtype(xp)
    return Relaxation(value, xp.astype(taken, index), off)


def _solved(
    backend: Backend,
    kernel: Array,
    rows: Array,
    cols: Array,
    equal_rows: Array,
    equal_cols: Array,
    rows_are_fewer: Array,
    tolerance: Array,
    iterations: float,
) -> tuple[Array, ...]:
    """Return X, which sums of rows and of columns are given, the iterations and the residual."""
    xp = backend.namespace(kernel)
    lines = Marginals(rows, equal_rows), Marginals(cols, equal_cols)
    found = solve_dual(
        backend, Polytope(kernel, *lines), rows_are_fewer, _REGULARISER, iterations, tolerance
    )
    tight = (
        xp.astype(x.equality | (multipliers < 0), kernel.dtype)
        for x, multipliers in zip(lines, (found.f, found.g), strict=True)
    )
    return found.value, *tight, found.iterations, found.residual


def _image(level: Array, xp: Namespace) -> Array:
    return xp.where(level > 0, level, 0)


def _derivative(value: Array, xp: Namespace) -> Array:
    return xp.astype(value > 0, value.dtype)


def _row_update(level: Array, mass: Array, xp: Namespace) -> Array:
    """Return d for which ``sum max(0, level + d) = mass``, by Newton's method, from above.

    The sum is convex in d and grows, so from above the root no step passes it. Three starts are
    above: where the largest entry alone makes the mass; 0, if the sum is too large as it is; and if
    it is too small, a step from there.
    """
    top = xp.max(level, axis=-1)
    d = mass - xp.where(top > -_INF, top, 0)
    lacking, count = _lacking(level, mass, xp)
    step = xp.where(count > 0, lacking / xp.where(count > 0, count, 1), _INF)
    start = xp.where(lacking > 0, step, 0)
    d = xp.where(start < d, start, d)
    for _ in range(_ROUNDS):
        lacking, count = _lacking(level + d[..., None], mass, xp)
        d = d + lacking / xp.where(count > 0, count, 1)
    return d


def _lacking(level: Array, mass: Array, xp: Namespace) -> tuple[Array, Array]:
    """Return by how much the sums are too small, and how many entries they are of."""
    value = _image(level, xp)
    return mass - xp.sum(value, axis=-1), xp.sum(_derivative(value, xp), axis=-1)


def _step_length(level: Array, direction: Array, slope: Array, xp: Namespace) -> Array:
    """Return the largest of a few lengths, found by bisection, up to which the dual rises."""
    low, high = xp.zeros_like(slope), xp.ones_like(slope)
    trial = high
    for _ in range(_HALVINGS):
        value = _image(level + trial[..., None, None] * direction, xp)
        rises = slope >= xp.sum(value * direction, axis=(-2, -1))
        low, high = xp.where(rises, trial, low), xp.where(rises, high, trial)
        trial = (low + high) / 2
    return low


_REGULARISER = Regulariser(_image, _derivative, _row_update, _step_length)
