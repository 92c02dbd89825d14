"""Matchings regularised by their squares: the projection onto the matrices of `polytope`.

The problem is ``min <C, X> + T/2 |X|^2``; its solution is the point of the polytope nearest to
-C / T. It is sparse, and at a temperature low enough it is the matching of least cost itself,
with 0 and 1 as its only entries.

Projecting by Dykstra's algorithm means to project onto the rows' constraints, then onto the
columns', and to add again each time what the same projection took away the time before. As all
constraints are linear, what is taken away is a number for each row and column, and with these f
and g the iterate is ``max(0, f_i + g_j - C_ij / T)``: each projection sets f, or g, to its best
value in the dual problem. `ascent` does the same with a step of Newton's method in between.
"""

from __future__ import annotations

from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._dtypes import index_dtype
from hungarian_core.relaxations.ascent import Rule, climb
from hungarian_core.relaxations.implicit import attach
from hungarian_core.relaxations.polytope import Lines, Polytope, polytope
from hungarian_core.relaxations.problem import Relaxation, Task

_INF = float("inf")
_ROUNDS = 6  # measured: more change nothing
_HALVINGS = 5


def dykstra(
    task: Task, *, temperature: float | Array, iterations: int, tolerance: float
) -> Relaxation:
    """Project to `tolerance` in up to `iterations` steps, and differentiate the solution.

    Reference: Zeng et al., DMM-Net: Differentiable Mask-Matching Network for Video Object
    Segmentation, ICCV 2019, for the relaxation; Dykstra, An algorithm for restricted least squares
    regression, 1983; Blondel et al., Smooth and Sparse Optimal Transport, AISTATS 2018, for the
    dual.
    """
    xp, backend = task.xp, task.backend
    kernel, rows, cols = polytope(task, temperature)
    surplus = xp.sum(rows.mass, axis=-1) - xp.sum(cols.mass, axis=-1)
    few = xp.where(surplus > 0, xp.zeros_like(surplus), 1)
    value, tight_rows, tight_cols, taken, off = backend.run(
        _solved, backend.stop_gradient(kernel), rows.mass, cols.mass, rows.even, cols.even, few,
        xp.zeros_like(few) + tolerance, like=(0, 1, 2, 5, 5), options=(iterations,),
    )  # fmt: skip
    value = attach(kernel, value, tight_rows > 0, tight_cols > 0, _slope, backend)
    index = index_dtype(xp)
    return Relaxation(value, xp.astype(taken, index), off)


def _solved(
    backend: Backend,
    kernel: Array,
    rows: Array,
    cols: Array,
    even_rows: Array,
    even_cols: Array,
    few: Array,
    tolerance: Array,
    iterations: float,
) -> tuple[Array, ...]:
    """Return X, which sums of rows and of columns are given, the iterations and the residual."""
    xp = backend.namespace(kernel)
    lines = Lines(rows, even_rows), Lines(cols, even_cols)
    top = climb(backend, Polytope(kernel, *lines), few > 0, _RULE, iterations, tolerance)
    tight = (
        xp.astype(x.even | (multipliers < 0), kernel.dtype)
        for x, multipliers in zip(lines, (top.f, top.g), strict=True)
    )
    return top.value, *tight, top.iterations, top.residual


def _image(level: Array, xp: Namespace) -> Array:
    return xp.where(level > 0, level, 0)


def _slope(value: Array, xp: Namespace) -> Array:
    return xp.astype(value > 0, value.dtype)


def _lift(level: Array, mass: Array, xp: Namespace) -> Array:
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
    return mass - xp.sum(value, axis=-1), xp.sum(_slope(value, xp), axis=-1)


def _stride(level: Array, way: Array, rise: Array, xp: Namespace) -> Array:
    """Return the largest of a few lengths, found by bisection, up to which the dual rises."""
    low, high = xp.zeros_like(rise), xp.ones_like(rise)
    trial = high
    for _ in range(_HALVINGS):
        value = _image(level + trial[..., None, None] * way, xp)
        rises = rise >= xp.sum(value * way, axis=(-2, -1))
        low, high = xp.where(rises, trial, low), xp.where(rises, high, trial)
        trial = (low + high) / 2
    return low


_RULE = Rule(_image, _slope, _lift, _stride)
