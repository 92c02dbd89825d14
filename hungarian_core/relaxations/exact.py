"""The methods of `assignment_matrix` whose forward pass is exact matchings, and what those share.

- `blackbox` takes the slope of a piecewise linear stand-in, from a second matching;
- `perturbed` takes the mean over disturbed costs, which is smooth.
"""

from __future__ import annotations

from typing import Any

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, Namespace, Problem
from hungarian_core._dtypes import index_dtype
from hungarian_core._solvers.dispatch import solve
from hungarian_core.assignment import Assignment
from hungarian_core.relaxations.noise import Noise, noise_like
from hungarian_core.relaxations.problem import Relaxation, RelaxedProblem, allowed

_INF, _NAN = float("inf"), float("nan")


def blackbox(problem: RelaxedProblem, *, interpolation: float | Array) -> Relaxation:
    """Return the matching, whose gradient is the slope of a continuous interpolation.

    With the upstream gradient G, a second matching at the costs ``C + λ G`` gives the gradient
    ``(Y(C + λ G) - Y(C)) / λ``. A step of descent makes the pairs dearer that the second matching
    gave up, and those cheaper that it took instead.

    Reference: Vlastelica et al., Differentiation of blackbox combinatorial solvers, ICLR 2020,
    algorithm 1.
    """
    backend, xp = problem.backend, problem.xp
    # A pair that cannot be matched gets no gradient.
    cost, solver = xp.where(allowed(problem), problem.cost, _INF), problem.solver
    found = matched(cost, problem)
    matching = xp.astype(found.mask(), cost.dtype)
    arrays, fixed = _split(interpolation=interpolation, rows=problem.rows, cols=problem.cols)

    def forward(cost: Array, matching: Array, *rest: Array) -> tuple[Array, tuple[Array, ...]]:
        return matching * 1, (cost, matching, *rest)

    def backward(residuals: tuple[Array, ...], g: Array) -> tuple[Array | None, ...]:
        cost, matching, *rest = residuals
        given = {**fixed, **dict(zip(arrays, rest, strict=True))}
        step = given["interpolation"]
        open_ = xp.isfinite(cost)
        moved = xp.where(open_, cost + step * g, _INF)
        broken = xp.any(open_ & ~xp.isfinite(moved), axis=(-2, -1), keepdims=True)
        # Not `assign`: what comes from above may be NaN, and a backward pass is no place to raise.
        again = Problem(backend.stop_gradient(moved), given["rows"], given["cols"])
        col4row, row4col, total, u, v, _ = solve(again, solver=solver, backend=backend)
        other = Assignment(col4row, row4col, total, u, v)
        grad = (xp.astype(other.mask(), cost.dtype) - matching) / step
        return xp.where(broken, _NAN, grad), *(None for _ in range(1 + len(rest)))

    out = backend.custom_vjp(forward, backward)(cost, matching, *arrays.values())
    return _exact(out, found.cost, problem)


def perturbed(
    problem: RelaxedProblem,
    *,
    temperature: float | Array,
    noise: Noise,
    samples: int,
    seed: int | Array,
) -> Relaxation:
    """Return the mean matching of disturbed costs, with an unbiased estimate of its gradient.

    A matching maximises ``<θ, Y>`` with θ = -C. The mean of ``Y(θ + T Z)`` over Z has the Jacobian
    ``E[Y(θ + T Z) ∇φ(Z)ᵀ] / T``, where the density of Z is proportional to ``exp(-φ(z))``. So an
    upstream gradient G gives, by C,

        ``-E[<G, Y> ∇φ(Z)] / T``.

    Since ``E ∇φ(Z) = 0``, any number that does not depend on Z may be taken off ``<G, Y>``. The
    mean over the other samples is such a number, and takes off most of the variance.

    Reference: Berthet et al., Learning with differentiable perturbed optimizers, NeurIPS 2020,
    proposition 3.1. The baseline: Kool et al., Buy 4 REINFORCE samples, get a baseline for free,
    2019.
    """
    backend, xp = problem.backend, problem.xp
    cost = xp.where(allowed(problem), problem.cost, _INF)
    constant = backend.stop_gradient(cost)
    many = disturbed_costs(constant, temperature, noise, samples, seed, problem)
    found = matched(many, problem, samples)
    mean = xp.mean(xp.astype(found.mask(), cost.dtype), axis=0)
    # Matches as indices, and noise as its seed: the samples' matrices are not kept.
    at = xp.permute_dims(found.col4row, (*range(1, found.col4row.ndim), 0))
    arrays, fixed = _split(temperature=temperature, seed=seed)

    def forward(
        cost: Array, mean: Array, at: Array, *rest: Array
    ) -> tuple[Array, tuple[Array, ...]]:
        return mean * 1, (cost, at, *rest)

    def backward(residuals: tuple[Array, ...], g: Array) -> tuple[Array | None, ...]:
        cost, at, *rest = residuals
        given = {**fixed, **dict(zip(arrays, rest, strict=True))}
        z = noise_like(cost, samples, given["seed"], noise, backend)
        slope = z if noise == "gaussian" else 1 - xp.exp(-z)  # ∇φ
        score = xp.sum(_gather(g, at, backend, xp), axis=-2)  # [..., samples], <G, Y>
        # Less the mean of the others is less the mean of all, times samples / (samples - 1).
        score = (score - xp.mean(score, axis=-1, keepdims=True)) / (samples - 1)
        score = xp.permute_dims(score, (score.ndim - 1, *range(score.ndim - 1)))
        grad = -xp.sum(score[..., None, None] * slope, axis=0) / given["temperature"]
        return grad, *(None for _ in range(2 + len(rest)))

    out = backend.custom_vjp(forward, backward)(cost, mean, at, *arrays.values())
    return _exact(out, found.cost[0, ...], problem)


def disturbed_costs(
    cost: Array,
    temperature: float | Array,
    noise: Noise,
    samples: int,
    seed: int | Array,
    problem: RelaxedProblem,
) -> Array:
    """Return ``cost - temperature * Z`` for all samples, `[samples, ..., n, m]`.

    Minus, because what is disturbed is -cost: with Gumbel's noise, whose large values reach
    further than its small ones, the choice of a single row follows the softmax of
    -cost / temperature.
    """
    z = noise_like(cost, samples, seed, noise, problem.backend)
    return cost[None, ...] - temperature * z


def matched(cost: Array, problem: RelaxedProblem, samples: int | None = None) -> Assignment:
    """Match at `cost`, `[..., n, m]` or that of all samples; raise as `assign` does.

    No noise makes a problem infeasible or sound, so all samples have the status of the first.
    """
    backend, xp, rows, cols = problem.backend, problem.xp, problem.rows, problem.cols
    if samples is not None:
        many = [None if x is None else x[None, ...] for x in (rows, cols)]
        rows, cols = (
            x if x is None else xp.broadcast_to(x, (samples, *backend.shape(x)[1:])) for x in many
        )
    found = solve(
        Problem(backend.stop_gradient(cost), rows, cols), solver=problem.solver, backend=backend
    )
    status = found.status
    if status is not None and samples is not None:
        status = status[0, ...]
    _checks.raise_unless_solved(status, "raise", backend, xp)
    col4row, row4col, total, u, v, _ = found  # a slice of a named tuple stops old Dynamos
    return Assignment(col4row, row4col, total, u, v)


def total_with_gradient(cost: Array, found: Assignment, backend: Backend, xp: Namespace) -> Array:
    """Return the total of the pairs found, with the gradient 1 by each of finite cost."""
    pairs = _gather(cost, found.col4row[..., None], backend, xp)[..., 0]
    return found.cost + zero_with_gradient(pairs, xp.isfinite(pairs), backend, xp)


def zero_with_gradient(x: Array, counts: Array, backend: Backend, xp: Namespace) -> Array:
    """Return 0 for each `x[..., n]`, with the gradient 1 by all of it that counts.

    Each entry is taken off before they are added, as their sum may overflow.
    """
    x = xp.where(counts, x, 0)
    return xp.sum(x - backend.stop_gradient(x), axis=-1)


def _gather(table: Array, at: Array, backend: Backend, xp: Namespace) -> Array:
    """Return the entries of `table[..., n, m]` at the columns `at[..., n, k]`, 0 where -1.

    They are taken from the table as one line: so PyTorch keeps where they lay, and not the table.
    """
    n, m = backend.shape(table)[-2:]
    if any(isinstance(extent, int) and extent == 0 for extent in (n, m)):
        # No entry to gather; a sum of nothing is in the graph.
        return xp.sum(table, axis=-1, keepdims=True) + xp.zeros_like(at, dtype=table.dtype)
    if not isinstance(m, int):  # it may turn out to be 0, and a gather needs an entry
        blank = xp.zeros_like(xp.sum(table, axis=-1, keepdims=True))
        table = xp.concat([table, blank], axis=-1)
        m = xp.astype(m + 1, at.dtype)
    row = xp.cumulative_sum(xp.reshape(xp.ones_like(at[..., 0]), (-1,)), axis=0) - 1
    start = xp.reshape(row, backend.shape(at)[:-1])[..., None] * m
    matched = at >= 0
    place = start + xp.where(matched, at, 0)
    found = xp.take(xp.reshape(table, (-1,)), xp.reshape(place, (-1,)), axis=0)
    return xp.where(matched, xp.reshape(found, backend.shape(at)), 0)


def _split(**values: Any) -> tuple[dict[str, Array], dict[str, Any]]:
    """Split what a backward pass needs into arrays, which have to be inputs, and the rest."""
    fixed = {k: x for k, x in values.items() if x is None or isinstance(x, (int, float))}
    return {k: x for k, x in values.items() if k not in fixed}, fixed


def _exact(matrix: Array, total: Array, problem: RelaxedProblem) -> Relaxation:
    """Return a matrix that took no iterations, NaN where there is no matching."""
    xp = problem.xp
    index = index_dtype(xp)
    return Relaxation(
        xp.where(xp.isnan(total)[..., None, None], _NAN, matrix),
        xp.zeros_like(total, dtype=index),
        xp.zeros_like(total),
    )
