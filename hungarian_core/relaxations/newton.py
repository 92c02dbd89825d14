"""Find a regularised matching in few steps, whatever the temperature.

Such a matching is ``P = image(L)``, ``L_ij = K_ij + f_i + g_j``, where f and g maximise a concave
function, the dual: the sum of masses times multipliers, less the integral of the image. Setting
all f to their best for the g, and then all g, is the algorithm of Sinkhorn or, for the other image,
of Dykstra. At a low temperature that takes thousands of iterations. Here each of them is followed
by a step of Newton's method for all multipliers at once, along which the dual only rises; and the
temperature is halved on the way down from one at which little is to be done.

No step leaves a trace for a gradient: see `implicit`.

Reference: Brauer et al., A Sinkhorn-Newton method for entropic optimal transport, 2017, for the
steps; Sun & Tran-Dinh, Generalized self-concordant functions, 2019, for the length of the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core.relaxations.implicit import solve_normal_equations
from hungarian_core.relaxations.polytope import Marginals, Polytope

_INF = float("inf")
# Measured on random costs: the temperature is halved once all sums are off by less than this.
_LOOSE = 0.3
# A rough direction is enough, since the next step corrects it.
_EQUATION_STEPS, _EQUATION_TOLERANCE = 50, 0.1


class Regulariser(NamedTuple):
    """A regularisation, by what maximising its dual asks of it."""

    image: Callable[[Array, Namespace], Array]  # P of L
    derivative: Callable[[Array, Namespace], Array]  # of the image by L, as a function of P
    # What to add to L[..., n, m] for rows that sum to mass[..., n]; any number for a row of -inf.
    row_update: Callable[[Array, Array, Namespace], Array]
    # Of L, a direction of the same shape and the slope of the masses along it [...]: how far to
    # go, from 0 to 1, so that the dual rises.
    step_length: Callable[[Array, Array, Array, Namespace], Array]


class DualSolution(NamedTuple):
    """The multipliers that maximise the dual, and what follows from them."""

    value: Array  # P, [..., n, m]
    f: Array  # [..., n]
    g: Array  # [..., m]
    iterations: Array  # [...], whole numbers in the dtype of P
    residual: Array  # [...]


def solve_dual(
    backend: Backend,
    problem: Polytope,
    rows_are_fewer: Array,
    regulariser: Regulariser,
    iterations: float,
    tolerance: Array,
) -> DualSolution:
    """Maximise the dual of each problem, in at most `iterations` steps.

    `rows_are_fewer` `[...]` bool says where the rows, and not the columns, are the side whose sums
    are made exact at last.
    """
    kernel, rows, cols = problem
    xp = backend.namespace(kernel)
    top = xp.max(kernel, axis=(-2, -1), keepdims=True)
    kernel = kernel - xp.where(xp.isfinite(top), top, 0)
    range_ = -xp.min(xp.where(xp.isfinite(kernel), kernel, 0), axis=(-2, -1))
    log2_temperature = -xp.floor(-xp.log(xp.where(range_ > 1, range_, 1)) / math.log(2))

    def at(log2_temperature: Array, f: Array, g: Array) -> Array:
        inverse = xp.exp(-math.log(2) * log2_temperature)[..., None, None]
        return kernel * inverse + f[..., :, None] + g[..., None, :]

    def cond(state: tuple[Array, ...]) -> Array:
        return xp.any(_live(state))

    def _live(state: tuple[Array, ...]) -> Array:
        *_, log2_temperature, steps, off = state
        # Making one side exact at last may put the other off by as much again.
        return (steps < iterations) & ((2 * off > tolerance) | (log2_temperature > 0))

    def body(state: tuple[Array, ...]) -> tuple[Array, ...]:
        level, f, g, log2_temperature, steps, _ = state
        level, f, g, off = _step(backend, level, rows, cols, f, g, regulariser)
        cooler = (log2_temperature > 0) & (off < _LOOSE)
        f, g = (xp.where(cooler[..., None], 2 * x, x) for x in (f, g))
        log2_temperature = xp.where(cooler, log2_temperature - 1, log2_temperature)
        level = xp.where(cooler[..., None, None], at(log2_temperature, f, g), level)
        off = xp.where(cooler, _INF, off)
        live, after = _live(state), (level, f, g, log2_temperature, steps + 1, off)
        return tuple(
            xp.where(live[(..., *(None,) * (x.ndim - live.ndim))], x, y)
            for x, y in zip(after, state, strict=True)
        )

    f, g = xp.zeros_like(rows.mass), xp.zeros_like(cols.mass)
    zero = xp.zeros_like(log2_temperature)
    state = (at(log2_temperature, f, g), f, g, log2_temperature, zero, zero + _INF)
    level, f, g, _, steps, _ = backend.while_loop(cond, body, state)
    change = _best(level, rows, f, regulariser, xp)
    level = level + xp.where(rows_are_fewer[..., None], change, 0)[..., :, None]
    turned = xp.permute_dims(level, _turn(level))
    change = xp.where(rows_are_fewer[..., None], 0, _best(turned, cols, g, regulariser, xp))
    level = level + change[..., None, :]
    value = regulariser.image(level, xp)
    off = _off(value, rows, cols, f, g, xp)
    return DualSolution(value, f, g, steps, off)


def _turn(x: Array) -> tuple[int, ...]:
    return (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)


def _step(
    backend: Backend,
    level: Array,
    rows: Marginals,
    cols: Marginals,
    f: Array,
    g: Array,
    regulariser: Regulariser,
) -> tuple[Array, Array, Array, Array]:
    """Return L, f and g after one step, and by how much the sums are off."""
    xp = backend.namespace(level)
    change = _best(level, rows, f, regulariser, xp)
    level, f = level + change[..., :, None], f + change
    change = _best(xp.permute_dims(level, _turn(level)), cols, g, regulariser, xp)
    level, g = level + change[..., None, :], g + change

    value = regulariser.image(level, xp)
    lacking = rows.mass - xp.sum(value, axis=-1), cols.mass - xp.sum(value, axis=-2)
    free = (_free(x, y, z) for x, y, z in zip((rows, cols), (f, g), lacking, strict=True))
    df, dg = solve_normal_equations(
        backend, regulariser.derivative(value, xp), *lacking, *free,
        steps=_EQUATION_STEPS, tolerance=_EQUATION_TOLERANCE,
    )  # fmt: skip
    df, dg = _bounded(df, rows, f, xp), _bounded(dg, cols, g, xp)
    direction = df[..., :, None] + dg[..., None, :]
    slope = xp.sum(rows.mass * df, axis=-1) + xp.sum(cols.mass * dg, axis=-1)
    step_length = regulariser.step_length(level, direction, slope, xp)[..., None]
    level, f, g = (
        level + step_length[..., None] * direction,
        f + step_length * df,
        g + step_length * dg,
    )
    return level, f, g, _off(regulariser.image(level, xp), rows, cols, f, g, xp)


def _best(
    level: Array, sums: Marginals, f: Array, regulariser: Regulariser, xp: Namespace
) -> Array:
    """Return the changes of f that are best if nothing else changes."""
    some = xp.any(level > -_INF, axis=-1) & (sums.mass > 0)
    change = regulariser.row_update(level, xp.where(some, sums.mass, 1), xp)
    return _bounded(xp.where(some, change, 0), sums, f, xp)


def _bounded(change: Array, sums: Marginals, f: Array, xp: Namespace) -> Array:
    """Keep multipliers of inequalities from becoming positive."""
    return xp.where(sums.equality | (change + f < 0), change, -f)


def _free(sums: Marginals, f: Array, lacking: Array) -> Array:
    """Say which sums are given, of equalities or of inequalities that hold as such."""
    return sums.equality | (f < 0) | (lacking < 0)


def _off(
    value: Array, rows: Marginals, cols: Marginals, f: Array, g: Array, xp: Namespace
) -> Array:
    """Return the largest amount by which a sum is off where it is given, or else too large."""
    worst = []
    for sums, x, axis in ((rows, f, -1), (cols, g, -2)):
        lacking = sums.mass - xp.sum(value, axis=axis)
        wrong = xp.where(sums.equality | (x < 0), xp.abs(lacking), -lacking)
        worst.append(xp.max(xp.where(wrong > 0, wrong, 0), axis=-1))
    return xp.where(worst[0] > worst[1], *worst)
