"""`assignment_matrix`: a matching as a matrix that gradients go through, by any of the methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend
from hungarian_core._dtypes import index_dtype
from hungarian_core._registry import get_backend
from hungarian_core._tracing import skip_autograph
from hungarian_core.assignment import Nan, Solver
from hungarian_core.relaxations import _checks as checks
from hungarian_core.relaxations.entropic import gumbel_sinkhorn, sinkhorn, sinkhorn_implicit
from hungarian_core.relaxations.euclidean import dykstra
from hungarian_core.relaxations.exact import blackbox, perturbed
from hungarian_core.relaxations.network import hnet
from hungarian_core.relaxations.noise import Noise
from hungarian_core.relaxations.problem import Relaxation, RelaxedProblem, checked_problem

Method = Literal[
    "blackbox", "perturbed", "sinkhorn", "sinkhorn_implicit", "gumbel_sinkhorn", "dykstra", "hnet"
]
_NAN = float("nan")


class _Method(NamedTuple):
    run: Callable[..., Relaxation]  # of a Task and the options below
    defaults: Mapping[str, Any]


METHODS: dict[str, _Method] = {
    "blackbox": _Method(blackbox, {"interpolation": 10.0}),
    "perturbed": _Method(
        perturbed, {"temperature": 0.1, "noise": "gaussian", "samples": 16, "seed": 0}
    ),
    "sinkhorn": _Method(sinkhorn, {"temperature": 0.1, "iterations": 50, "tolerance": 1e-4}),
    "sinkhorn_implicit": _Method(
        sinkhorn_implicit, {"temperature": 0.1, "iterations": 200, "tolerance": 1e-4}
    ),
    "gumbel_sinkhorn": _Method(
        gumbel_sinkhorn,
        {
            "temperature": 0.1, "iterations": 50, "tolerance": 1e-4,
            "noise_scale": 0.1, "samples": 1, "seed": 0,
        },
    ),
    "dykstra": _Method(dykstra, {"temperature": 0.1, "iterations": 200, "tolerance": 1e-4}),
    "hnet": _Method(hnet, {"params": None}),
}  # fmt: skip


@skip_autograph
def assignment_matrix(
    cost: Array,
    method: Method = "sinkhorn",
    *,
    row_mask: Array | None = None,
    col_mask: Array | None = None,
    maximize: bool = False,
    temperature: float | Array | None = None,
    iterations: int | None = None,
    tolerance: float | Array | None = None,
    interpolation: float | Array | None = None,
    noise: Noise | None = None,
    noise_scale: float | Array | None = None,
    samples: int | None = None,
    seed: int | Array | None = None,
    params: Mapping[str, Array] | None = None,
    nan: Nan = "raise",
    solver: Solver = "auto",
    return_info: bool = False,
    backend: str | Backend | None = None,
) -> Array | Relaxation:
    """Return the matching of least cost, or a smooth stand-in for it, with a useful gradient.

    Rows and columns of the result sum to at most 1; on the side with fewer valid ones each valid
    row or column sums to 1. As what a method softens goes to 0 it tends to the matching of
    `assign`, where that is unique.

    ============================ ================================ ==================================
    method                       matrix                           gradient by the costs
    ============================ ================================ ==================================
    ``"blackbox"``               the matching Y(C), 0 or 1        ``(Y(C + λ G) - Y(C)) / λ``
    ``"perturbed"``              mean of ``Y(C - T Z)`` over Z    that of the mean, estimated
    ``"sinkhorn"``               least of ``<C, P> - T H(P)``     through the iterations
    ``"sinkhorn_implicit"``      the same                         through the optimality conditions
    ``"gumbel_sinkhorn"``        sinkhorn of ``C - s Z``          through the iterations
    ``"dykstra"``                least of ``<C, P> + T/2 |P|²``   through the optimality conditions
    ``"hnet"``                   what a trained network says      through the network
    ============================ ================================ ==================================

    Here G is the upstream gradient, λ `interpolation`, T `temperature`, Z noise, s `noise_scale`, H
    the entropy, and P runs over the matrices with the sums above. On a rectangle H counts what each
    row and column of the larger side lacks to 1 too, shared by the dummies that would fill it up.

    - ``"blackbox"`` if the forward pass has to be a matching. It costs one matching per pass. Its
      gradient is informative once λ G is as large as the differences of costs that decide.
    - ``"perturbed"`` if matchings are all that may be evaluated and the result may be soft. It
      costs `samples` matchings, in one batched call, and none going back. To learn from known
      matchings `fenchel_young_loss` is the better loss.
    - ``"sinkhorn"`` for large T, where few iterations do: each is two passes over the matrix, kept.
    - ``"sinkhorn_implicit"`` for any T: it takes Newton steps, a dozen or two, and keeps none.
    - ``"gumbel_sinkhorn"`` to sample associations rather than to average them.
    - ``"dykstra"`` if the result has to be sparse: most entries are exactly 0.
    - ``"hnet"`` for costs that are distances of the kind that a network was trained on, where a
      missing partner is to be noticed: no sum of it has to be 1.

    Args:
        cost: `(..., n, m)`, real, treated as by `assign`: half precision is computed in float32,
            integers in the widest float there is, and +inf forbids a pair.
        method: One of the names above.
        row_mask: `(..., n)` bool, True = valid. What invalid entries hold is never read.
        col_mask: `(..., m)` bool, True = valid.
        maximize: Associate for the greatest total: as if `cost` came negated.
        temperature: T > 0, in the unit of `cost`; a number, or an array `()` of one, which may be
            traced, so that a compiled step can anneal it. By default 0.1.
        iterations: So many for ``"sinkhorn"`` and ``"gumbel_sinkhorn"``, by default 50; at most
            so many for ``"sinkhorn_implicit"`` and ``"dykstra"``, by default 200.
        tolerance: A problem has converged when no sum of its rows and columns is off by more. A
            number above 0 or an array `()`; by default 1e-4.
        interpolation: λ > 0, of ``"blackbox"``; a number or an array `()`. Larger ones reach
            further and are less faithful. By default 10.
        noise: ``"gaussian"``, of variance 1, or ``"gumbel"``, of ``"perturbed"``.
        noise_scale: s, at least 0, of ``"gumbel_sinkhorn"``; a number or an array `()`. By default
            0.1.
        samples: How many draws of Z to average over: of ``"perturbed"``, at least 2 and by
            default 16, and of ``"gumbel_sinkhorn"``, by default 1.
        seed: An int from 0 to 2**64 - 1, or an integer array `()`, which may be traced and of which
            the lower 32 bits count. The noise is a function of it and the same in every framework:
            give each step its own, such as the step's number. By default 0.
        params: The weights of the network of ``"hnet"``, as `hungarian_core.hnet.load_pretrained`
            returns them.
        nan: What NaN and -inf do, as for `assign`. What ``"worst"`` replaces counts as a constant.
        solver: As for `assign`, for the methods that match.
        return_info: Return the `Relaxation`: the matrix, how many iterations each problem took, and
            how far its sums are off.
        backend: As for `assign`.

    Returns:
        `(..., n, m)`, in the dtype of `cost` if that is floating, else in what was computed in;
        exactly 0 in masked rows and columns. Or a `Relaxation`. Where `assign` could not raise, a
        problem with invalid entries or without any pair for a row or column that needs one is NaN
        and passes no gradient. No gradient goes to the masks, to `seed`, or through the noise or
        the matchings to `temperature` and `interpolation`.

    Raises:
        ValueError: Shapes, dtypes or options do not fit, an option does not belong to the method,
            or as for `assign`.

    Reference:
        Vlastelica et al., Differentiation of blackbox combinatorial solvers, ICLR 2020
        (``"blackbox"``). Berthet et al., Learning with differentiable perturbed optimizers, NeurIPS
        2020 (``"perturbed"``). Cuturi, Sinkhorn distances, NeurIPS 2013 (``"sinkhorn"``).
        Eisenberger et al., A unified framework for implicit Sinkhorn differentiation, CVPR 2022
        (``"sinkhorn_implicit"``). Mena et al., Learning latent permutations with Gumbel-Sinkhorn
        networks, ICLR 2018 (``"gumbel_sinkhorn"``). Boyle and Dykstra, A method for finding
        projections onto the intersection of convex sets in Hilbert spaces, 1986 (``"dykstra"``).

    Examples:
        >>> cost = np.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]])
        >>> matrix = hc.assignment_matrix(cost, temperature=0.5)
        >>> matrix.round(2)
        array([[0.12, 0.58, 0.3 ],
               [0.6 , 0.4 , 0.  ],
               [0.28, 0.02, 0.7 ]])
        >>> matrix.sum(axis=-1).round(3)
        array([1., 1., 1.])
    """
    _checks.one_of("method", method, tuple(METHODS))
    run, defaults = METHODS[method]
    given = {
        "temperature": temperature, "iterations": iterations, "tolerance": tolerance,
        "interpolation": interpolation, "noise": noise, "noise_scale": noise_scale,
        "samples": samples, "seed": seed, "params": params,
    }  # fmt: skip
    options = checks.of_method(method, given, defaults)
    backend = get_backend(backend, cost=cost, row_mask=row_mask, col_mask=col_mask)
    problem, failed = checked_problem(cost, row_mask, col_mask, maximize, nan, solver, backend)
    xp = problem.xp
    options = checks.numbers(options, problem.cost, backend, xp)
    if any(isinstance(extent, int) and extent == 0 for extent in backend.shape(problem.cost)):
        found = _of_nothing(problem, failed)
    else:
        found = run(problem, **options)
    failed = checks.out_of_range(options, failed, xp)
    found = _settled(found, problem, failed)
    dtype = backend.asarray(cost).dtype
    if xp.isdtype(dtype, "real floating"):
        matrix = xp.astype(found.matrix, dtype, copy=False)
        found = Relaxation(matrix, found.iterations, found.residual)
    return found if return_info else found.matrix


def _of_nothing(problem: RelaxedProblem, failed: Array) -> Relaxation:
    """Return the association of no rows, no columns or no problems, which is in the graph."""
    xp = problem.xp
    index = index_dtype(xp)
    residual = xp.zeros_like(failed, dtype=problem.cost.dtype)
    return Relaxation(problem.cost * 0, xp.zeros_like(failed, dtype=index), residual)


def _settled(found: Relaxation, problem: RelaxedProblem, failed: Array) -> Relaxation:
    """Return 0 for what is masked, and NaN for samples that failed."""
    xp, matrix = problem.xp, found.matrix
    if problem.rows is not None:
        matrix = xp.where(problem.rows[..., :, None], matrix, 0)
    if problem.cols is not None:
        matrix = xp.where(problem.cols[..., None, :], matrix, 0)
    return Relaxation(
        xp.where(failed[..., None, None], _NAN, matrix),
        xp.where(failed, 0, found.iterations),
        xp.where(failed, _NAN, found.residual),
    )
