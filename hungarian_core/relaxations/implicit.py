r"""The gradient of a regularised matching, from its optimality conditions.

Every regularised matching here is ``P = image(L)`` with ``L_ij = K_ij + f_i + g_j``: K the kernel,
-cost / temperature, and f and g multipliers, which take up what the sums of rows and columns ask
for. With ``W = image'(L)``, a change of K changes P by ``dP = W (dK + df + dg)``, entry by entry,
and df and dg are such that the sums of `dP` over rows and columns are 0: they are the weighted
least-squares fit of -dK by a number per row and one per column. The map from dK to dP is symmetric
(W times a projection that is orthogonal in the inner product weighted by W), so it takes an
upstream gradient G back in the same way::

    dK = W (G - alpha_i - beta_j),    of which all rows and columns sum to 0.

A row or column without weight has no equation, and neither has one whose sum stays below its
limit: its multiplier stays 0. Only W is kept, however many iterations found P.

Reference: Eisenberger et al., A Unified Framework for Implicit Sinkhorn Differentiation, CVPR 2022,
theorem 3, for a matrix P of positive entries; Amos & Kolter, OptNet, ICML 2017, for active sets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hungarian_core._backend import Array, Backend, Namespace

_STEPS = 500  # of the fit in a gradient; it takes 10 to 100


def with_implicit_gradient(
    kernel: Array,
    value: Array,
    rows: Array,
    cols: Array,
    derivative: Callable[[Array, Namespace], Array],
    backend: Backend,
) -> Array:
    """Return `value` with a gradient by the kernel.

    Args:
        kernel: K, `[..., n, m]`.
        value: P, a constant.
        rows: `[..., n]` bool, the rows whose sum does not change.
        cols: `[..., m]` bool, the columns.
        derivative: W of P.
        backend: The backend.
    """

    def forward(
        kernel: Array, value: Array, rows: Array, cols: Array
    ) -> tuple[Array, tuple[Array, ...]]:
        return value * 1, (derivative(value, backend.namespace(value)), rows, cols)

    def backward(residuals: tuple[Array, ...], g: Array) -> tuple[Array | None, ...]:
        weight, rows, cols = residuals
        xp = backend.namespace(g)
        pull = weight * g
        sums = xp.sum(pull, axis=-1), xp.sum(pull, axis=-2)
        alpha, beta = backend.run(_solve_closely, weight, *sums, rows, cols, like=(1, 2))
        return pull - weight * (alpha[..., :, None] + beta[..., None, :]), None, None, None

    return backend.custom_vjp(forward, backward)(kernel, value, rows, cols)


def _solve_closely(backend: Backend, *arrays: Array) -> tuple[Array, Array]:
    weight, *_ = arrays
    eps = float(backend.namespace(weight).finfo(weight.dtype).eps)
    return solve_normal_equations(backend, *arrays, steps=_STEPS, tolerance=4 * eps)


def solve_normal_equations(
    backend: Backend,
    weight: Array,
    r: Array,
    s: Array,
    rows: Array,
    cols: Array,
    *,
    steps: int,
    tolerance: float,
) -> tuple[Array, Array]:
    """Return alpha `[..., n]` and beta `[..., m]` whose weighted sums are given.

    That is, ::

        alpha_i sum_j W_ij + sum_j W_ij beta_j = r_i    for each of `rows`,
        beta_j sum_i W_ij + sum_i W_ij alpha_i = s_j    for each of `cols`,

    and which are 0 elsewhere. Conjugate gradients, with the diagonal as preconditioner, on what is
    left of the equations once alpha is eliminated. Where the system is singular (a constant added
    to alpha and taken from beta changes nothing, in each part of W that is not connected to the
    others) it stays in the range; a direction whose curvature is lost in rounding ends it.

    Args:
        backend: The backend.
        weight: W, `[..., n, m]`, not negative.
        r: `[..., n]`, right side.
        s: `[..., m]`, right side.
        rows: `[..., n]` bool.
        cols: `[..., m]` bool.
        steps: The most steps to take.
        tolerance: Of the residual, against the residual at the start.
    """
    xp = backend.namespace(weight)
    eps = float(xp.finfo(weight.dtype).eps)
    r_weight, s_weight = xp.sum(weight, axis=-1), xp.sum(weight, axis=-2)
    by_row, by_col = _inverse(r_weight, rows, xp), _inverse(s_weight, cols, xp)

    def along_rows(x: Array) -> Array:
        return xp.matmul(weight, x[..., :, None])[..., 0]

    def along_cols(x: Array) -> Array:
        return xp.matmul(x[..., None, :], weight)[..., 0, :]

    def curvature(x: Array) -> Array:
        return xp.where(by_col > 0, s_weight * x - along_cols(by_row * along_rows(x)), 0)

    def cond(state: tuple[Array, ...]) -> Array:
        *_, live, step = state
        return xp.any(live) & (step < steps)

    def body(state: tuple[Array, ...]) -> tuple[Array, ...]:
        beta, rest, direction, size, live, step = state
        product = curvature(direction)
        curve = xp.sum(direction * product, axis=-1)
        live = live & (curve > eps * xp.sum(s_weight * direction * direction, axis=-1))
        step_length = _over(size, curve, live, xp)[..., None]
        beta, rest = beta + step_length * direction, rest - step_length * product
        ahead = by_col * rest
        after = xp.sum(rest * ahead, axis=-1)
        direction = ahead + _over(after, size, live, xp)[..., None] * direction
        return beta, rest, direction, after, live & (after > goal), step + 1

    rest = xp.where(by_col > 0, s - along_cols(by_row * r), 0)
    direction = by_col * rest
    size = xp.sum(rest * direction, axis=-1)
    goal = tolerance**2 * size
    step = xp.sum(xp.zeros_like(size, dtype=xp.int32))
    state = (xp.zeros_like(rest), rest, direction, size, size > 0, xp.astype(step, xp.int32))
    beta = backend.while_loop(cond, body, state)[0]
    return by_row * (r - along_rows(beta)), beta


def _inverse(x: Array, wanted: Array, xp: Namespace) -> Array:
    return _over(xp.ones_like(x), x, wanted & (x > 0), xp)


def _over(x: Array, y: Array, where: Array, xp: Namespace) -> Any:
    """Return x / y, and 0 elsewhere."""
    return xp.where(where, x / xp.where(where, y, 1), 0)
