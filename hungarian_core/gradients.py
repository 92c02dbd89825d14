"""Gradients through an exact matching.

A matching is piecewise constant in its costs: its gradient is 0 wherever it has one. What a loss
of it can use instead:

- `assignment_cost`, the total at the optimum, has the matching itself for a gradient;
- `fenchel_young_loss` takes the mean over disturbed costs, which is smooth;
- so do, or with a piecewise linear stand-in, the methods of `relaxations.exact`.

All of them are exact matchings in the forward pass, at the price of one call of `assign`, or of one
batched call for all samples of the noise.
"""

from __future__ import annotations

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend
from hungarian_core._inputs import mask_of, unmatched_cost_of
from hungarian_core._registry import get_backend
from hungarian_core._solvers.policies import among_valid
from hungarian_core._tracing import skip_autograph
from hungarian_core.assignment import Nan, Solver, assign
from hungarian_core.relaxations import _checks as checks
from hungarian_core.relaxations.exact import (
    disturbed_costs,
    matched,
    total_with_gradient,
    zero_with_gradient,
)
from hungarian_core.relaxations.noise import Noise
from hungarian_core.relaxations.problem import checked_problem

__all__ = ["assignment_cost", "fenchel_young_loss"]
__dir__ = __all__.copy

_NAN = float("nan")


@skip_autograph
def assignment_cost(
    cost: Array,
    *,
    row_mask: Array | None = None,
    col_mask: Array | None = None,
    maximize: bool = False,
    unmatched_cost: Array | float | None = None,
    partial: bool = False,
    nan: Nan = "raise",
    solver: Solver = "auto",
    backend: str | Backend | None = None,
) -> Array:
    """Return the least total cost of a matching, differentiable in the costs.

    Its gradient is the matching: 1 at matched pairs and 0 elsewhere. Where several matchings are
    optimal this is one of the subgradients of the total, which is concave and piecewise linear
    (convex with `maximize`). Second derivatives are 0. What is kept for the gradient is an index
    per row, never a matrix.

    Args:
        cost: `(..., n, m)`, real; as for `assign`, like all other arguments.
        row_mask: `(..., n)` bool, True = valid.
        col_mask: `(..., m)` bool, True = valid.
        maximize: Return the greatest total instead.
        unmatched_cost: The price at which a row may stay unmatched, as for `assign`. For each row
            that pays it gets the gradient 1.
        partial: As for `assign`: the least total of the most pairs that there can be. Which pairs
            are forbidden counts as a constant: no gradient tells of one pair more or less.
        nan: What NaN and -inf do. A matched pair whose cost ``"worst"`` replaced counts as a
            constant.
        solver: As for `assign`.
        backend: As for `assign`.

    Returns:
        `(...)`, ``assign(...).cost``: half precision gives float32. Where `assign` could not raise,
        a problem with invalid entries or without a finite matching has NaN and passes no gradient.

    Raises:
        ValueError: As for `assign`.

    Reference:
        Chen et al., How to backpropagate through Hungarian in your DETR?, 2022, equation 9: a
        generalised gradient of the least total by the costs is the matching, as a constant.

    Examples:
        >>> cost = np.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]])
        >>> float(hc.assignment_cost(cost))
        5.0
    """
    backend = get_backend(
        backend, cost=cost, row_mask=row_mask, col_mask=col_mask, unmatched_cost=unmatched_cost
    )
    _checks.array("cost", cost)
    cost = backend.asarray(cost)
    found = assign(
        cost, row_mask=row_mask, col_mask=col_mask, maximize=maximize,
        unmatched_cost=unmatched_cost, partial=partial, nan=nan, solver=solver, backend=backend,
    )  # fmt: skip
    xp = backend.namespace(cost)
    cost = xp.astype(cost, found.cost.dtype, copy=False)
    value = total_with_gradient(cost, found, backend, xp)
    if unmatched_cost is None:
        return value
    rows, shape = None, backend.shape(cost)
    pays = (found.col4row < 0) & ~xp.isnan(found.cost)[..., None]
    if row_mask is not None:
        rows = mask_of("row_mask", row_mask, shape[:-1], cost, backend, xp)
        pays = pays & rows
    paid = unmatched_cost_of(unmatched_cost, shape, cost, rows, backend, xp, constant=False)
    return value + zero_with_gradient(xp.where(pays, paid, 0), pays, backend, xp)


@skip_autograph
def fenchel_young_loss(
    cost: Array,
    target: Array,
    *,
    temperature: float | Array = 0.1,
    noise: Noise = "gaussian",
    samples: int = 16,
    seed: int | Array = 0,
    row_mask: Array | None = None,
    col_mask: Array | None = None,
    maximize: bool = False,
    nan: Nan = "raise",
    solver: Solver = "auto",
    backend: str | Backend | None = None,
) -> Array:
    """Return how far the costs are from preferring a given matching, convex in the costs.

    ``<C, target> - mean over Z of the least total of C - T Z``: its gradient by C is `target` less
    the mean matching of the disturbed costs, that is of ``assignment_matrix(..., "perturbed")``
    with the same options. To learn costs from known matchings this needs no second loss on top, and
    its gradient has less noise than that of any loss of the mean matching.

    Args:
        cost: `(..., n, m)`, real; +inf forbids a pair.
        target: `(..., n, m)`, real, from 0 to 1: the true association, of 0 and 1 or soft. A
            constant. Masked pairs are not read. A target on a forbidden pair makes the loss +inf.
        temperature: T > 0, in the unit of `cost`; a number, or an array `()`, which may be traced.
        noise: ``"gaussian"``, of variance 1, or ``"gumbel"``.
        samples: How many Z to average over, at least 1. All are one batched matching.
        seed: An int from 0 to 2**64 - 1, or an integer array `()`, which may be traced. The noise
            is a function of it: give each step its own, such as the step's number.
        row_mask: `(..., n)` bool, True = valid.
        col_mask: `(..., m)` bool, True = valid.
        maximize: Matchings are to have the greatest total of `cost`, as if it came negated.
        nan: As for `assign`.
        solver: As for `assign`.
        backend: As for `assign`.

    Returns:
        `(...)` in the dtype of `cost` if that is floating. It is least where the mean matching is
        `target`, and with Gaussian noise at least 0 but for the noise of few samples; the term of
        the paper that depends on `target` only is left out. Where nothing can raise, a problem with
        invalid entries or without a finite matching has NaN and passes no gradient.

    Raises:
        ValueError: Shapes, dtypes or options do not fit, or as for `assign`.

    Reference:
        Berthet et al., Learning with differentiable perturbed optimizers, NeurIPS 2020, section 4.
        Blondel et al., Learning with Fenchel-Young losses, JMLR 21, 2020.

    Examples:
        >>> cost = np.array([[4.0, 1.0], [2.0, 0.0]])
        >>> wanted = np.eye(2)
        >>> round(float(hc.fenchel_young_loss(cost, wanted)), 2)
        1.02
    """
    _checks.one_of("noise", noise, checks.NOISES)
    samples = checks.count("samples", samples, 1)
    _checks.array("cost", cost)
    _checks.array("target", target)
    backend = get_backend(backend, cost=cost, target=target, row_mask=row_mask, col_mask=col_mask)
    problem, failed = checked_problem(cost, row_mask, col_mask, maximize, nan, solver, backend)
    cost, xp, minimised = backend.asarray(cost), problem.xp, problem.cost
    options = checks.numbers({"temperature": temperature, "seed": seed}, minimised, backend, xp)
    target = backend.stop_gradient(backend.asarray(target, like=cost))
    _checks.real("target", target, xp)
    checks.target(backend.shape(target), backend.shape(cost))
    target = xp.astype(target, minimised.dtype, copy=False)

    many = disturbed_costs(
        minimised, options["temperature"], noise, samples, options["seed"], problem
    )
    least = xp.mean(total_with_gradient(many, matched(many, problem, samples), backend, xp), axis=0)
    read = among_valid(target != 0, problem.rows, problem.cols)
    ours = xp.sum(xp.where(read, minimised, 0) * xp.where(read, target, 0), axis=(-2, -1))
    failed = checks.out_of_range(options, failed, xp)
    value = xp.where(failed | xp.isnan(least), _NAN, ours - least)
    floating = xp.isdtype(cost.dtype, "real floating")
    return xp.astype(value, cost.dtype, copy=False) if floating else value
